"""`scionlab` in processes of its own, forked from one that has loaded PyTorch, which takes most of a command's time.

They are real processes: each has its id, environment, folder, output and status, and can be signalled and killed. What
a start from the shell itself does is tested by the commands that are started there (tests/scionlab/cli/test_cli.py).
The examples of a page (page.py) are run in the same way.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import page

# What commands import sooner or later; PyTorch its compiler with the first optimizer. Nothing of scionlab.cli, which
# looks at the terminal and the environment when it is imported.
LOADED = ["torch._dynamo", "scionlab.sweep", "scionlab.sweep.job", "scionlab.sweep.run", "analysis.studies.table"]
LOADED += ["scipy.stats", "pyarrow.parquet", "rich.progress"]
# Where processes are not forked safely, one loads all of it anew.
HOW = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


def scionlab() -> None:
    """The command."""
    from scionlab.cli import main

    main()


def examples() -> None:
    """`python -W error page.py PAGE.md`."""
    warnings.simplefilter("error")
    page.run(Path(sys.argv[1]))


class Forked:
    """A call of `scionlab` under way, with the methods of subprocess.Popen.

    `arguments` are those of the command line, `env` is all of its environment, and `cwd` the folder it begins in. Its
    output goes to the file `out`, its errors to `err`, by default the same. `program` is what is called.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        env: Mapping[str, str],
        cwd: Path,
        out: Path,
        err: Path | None = None,
        program: Callable[[], None] = scionlab,
    ) -> None:
        HOW.set_forkserver_preload(LOADED)
        given = (program, list(map(str, arguments)), dict(env), cwd, out, err or out)
        self.process: Any = HOW.Process(target=_begin, args=given, daemon=True)  # it ends with the tests
        self.process.start()
        self.pid: int = self.process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while it runs."""
        code: int | None = self.process.exitcode
        return code

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its status at its end; subprocess.TimeoutExpired after so many seconds."""
        self.process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("scionlab", timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To it alone."""
        if self.returncode is None:
            os.kill(self.pid, number)


def run(
    arguments: Sequence[object],
    env: Mapping[str, str],
    cwd: Path,
    timeout: float = 300,
    program: Callable[[], None] = scionlab,
) -> subprocess.CompletedProcess[str]:
    """What a call of `scionlab`, or of another program, with these arguments does, as subprocess.run tells it."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = Forked(arguments, env, cwd, out, err, program)
        try:
            code = process.wait(timeout)
        finally:
            process.send_signal(signal.SIGKILL)
        return subprocess.CompletedProcess([program.__name__, *arguments], code, out.read_text(), err.read_text())


def _begin(
    program: Callable[[], None], arguments: list[str], env: dict[str, str], cwd: Path, out: Path, err: Path
) -> None:
    """In the new process: as if it had been started so."""
    for path, number in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    here = Path(__file__).parents[1]  # what pytest has put on the path of its own
    sys.path = ["", *(path for path in sys.path if path and not Path(path).is_relative_to(here))]
    sys.argv = [program.__name__, *arguments]
    # what runs in the background ignores Ctrl-C, and its children would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    program()
