"""The home folder: ~ in paths that a user gives, and what stands in for it where there is none."""

import atexit
import getpass
import os
import shutil
import tempfile
from pathlib import Path

from scionlab.errors import UserError


def expanded(path: str, field: str) -> str:
    """The path with ~ as the home folder, which shells leave as it is behind `--option=`; others as they are.

    UserError, naming `field`, where there is no such home.
    """
    found = os.path.expanduser(path) if path.startswith("~") else path
    if found.startswith("~"):
        raise UserError(f"{field}: {path!r} is not allowed: there is no such home folder; write the path in full")
    return found


def stand_in() -> None:
    """A folder that ends with this process as HOME, and a name as USER, where the system knows neither.

    In containers a user may have a number only; Ray, Altair and torch.compile ask for both when they are imported.
    """
    try:
        Path.home()
    except RuntimeError:
        folder = tempfile.mkdtemp(prefix="scionlab-home-")
        os.environ["HOME"] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        getpass.getuser()
    except (KeyError, OSError):  # which of them depends on Python's version
        os.environ["USER"] = f"uid-{os.getuid()}"
