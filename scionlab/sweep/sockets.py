"""A folder for Ray's sockets, whose paths may not be long: batch systems give jobs a TMPDIR that is."""

import os
import sys
import tempfile
from pathlib import Path

from scionlab.errors import UserError

LONGEST = 107 if sys.platform == "linux" else 103  # bytes of a socket's path
# What Ray puts after the folder; some of its sockets have longer names.
BELOW = len("/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store") + 2
SHORT = Path("/tmp")


def usual() -> str:
    """The folder that Ray takes if it is not told another."""
    return os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()


def fits(folder: str) -> bool:
    """Whether the paths of Ray's sockets in it are short enough."""
    return len(os.fsencode(folder)) + BELOW <= LONGEST


def short_folder(short: Path = SHORT) -> str | None:
    """A new folder below `short` to be removed afterwards, where Ray's own is too long; None where it is not.

    UserError where there is none.
    """
    if fits(usual()):
        return None
    try:
        return tempfile.mkdtemp(prefix="scionlab-ray-", dir=short)
    except OSError as error:
        raise UserError(
            f"RAY_TMPDIR: sockets of Ray in {usual()!r} would have paths of more than {LONGEST} bytes, and a folder in "
            f"{str(short)!r} cannot be made ({error.strerror}); set it to one of at most {LONGEST - BELOW} bytes, or "
            "use --executor inline"
        ) from None
