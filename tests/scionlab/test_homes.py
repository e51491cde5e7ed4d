import os
import subprocess
import sys
from pathlib import Path

import pytest

from scionlab import homes
from scionlab.errors import UserError
from scionlab.homes import expanded
from scionlab.runs.store import RunStore
from scionlab.runs.where import ResultsPlace


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_a_tilde_is_the_home_folder_and_nothing_else_is(home):
    assert expanded("~/sweeps", "results") == str(home / "sweeps")
    assert [expanded(path, "results") for path in ("./~", "a~b", "s3://b/~x", "-")] == ["./~", "a~b", "s3://b/~x", "-"]
    with pytest.raises(UserError, match="to: '~nobody-at-all/x' is not allowed: there is no such home folder"):
        expanded("~nobody-at-all/x", "to")


def test_results_and_stores_are_below_the_home_folder(home):
    assert ResultsPlace.of("~/sweeps").folder == home / "sweeps"
    assert RunStore("~/sweeps/runs").url == str((home / "sweeps" / "runs").resolve())


COMMANDS = {
    "status": (["status", "--results=~/sweeps"], "no sweep in {home}/sweeps"),
    "doctor": (["doctor", "--results=~/none"], "{home}/none"),
    "report": (["report", "--results=~/sweeps", "--to=~/pages"], "in '{home}/sweeps/runs'"),
    "plan": (["plan", "--tokens=1e9", "--results=~/sweeps"], "'{home}/sweeps/fits'"),
    "import": (["import", "~/runs.csv"], "'{home}/runs.csv' cannot be read"),
    "run": (["run", "~/mine.py"], "'{home}/mine.py' is not a file"),
    "tune": (["tune", "~/mine.py", "--results=~/sweeps"], "'{home}/mine.py' is not a file"),
    "export": (["export", "--output=~nobody-at-all/x.csv"], "output: '~nobody-at-all/x.csv' is not allowed"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_path_of_a_command_may_begin_with_a_tilde(command, home, capsys, monkeypatch):
    from scionlab import cli

    arguments, expected = COMMANDS[command]
    monkeypatch.setattr(sys, "argv", ["scionlab", *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr()
    assert expected.format(home=home) in (said.out + said.err).replace("\n", "")
    assert not Path("~").exists()


def test_where_there_is_no_home_a_temporary_folder_stands_in(tmp_path):
    """A user that the system does not know by name: a number in a container."""
    code = """
import getpass, os, pwd
from pathlib import Path
def unknown(*_): raise KeyError("uid not found")
pwd.getpwuid = unknown
from scionlab import homes
homes.stand_in()
print(Path.home(), getpass.getuser(), os.path.isdir(Path.home()))
"""
    names = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")
    env = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    folder, user, there = done.stdout.split()
    assert (user, there) == (f"uid-{os.getuid()}", "True")
    assert not Path(folder).exists()


def test_a_home_that_there_is_stays(home):
    homes.stand_in()
    assert os.environ["HOME"] == str(home)
