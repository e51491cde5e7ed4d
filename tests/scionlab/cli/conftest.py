import subprocess
import sys

import forked
import pytest


@pytest.fixture
def cli(clean_environment, tmp_path):
    """Runs `scionlab ARGUMENTS` in a process of its own, in an empty folder."""

    def run(*arguments):
        return forked.run(arguments, clean_environment, tmp_path)

    return run


@pytest.fixture
def shell(clean_environment, tmp_path):
    """The same, as from a shell: a new Python, which loads everything itself."""

    def run(*arguments):
        command = [sys.executable, "-m", "scionlab", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, env=clean_environment, cwd=tmp_path, timeout=300, check=False
        )

    return run
