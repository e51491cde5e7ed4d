"""Files of the store that cannot be read: a reader leaves them out and says so, once for each in a process.

A file of one key that is torn, foreign or misplaced must not make ten thousand others unreadable. Its rows count as not
there: so a trial is trained again, and its new file takes the place of the damaged one. What a whole table hangs on is
refused instead, and nothing is left out: a compacted file, one of a newer version, and what the disk refuses to read.
"""

import errno
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scionlab.errors import UserError, printable
from scionlab.runs.schema import SCHEMA_VERSION

log = logging.getLogger(__name__)
VERSION_KEY = b"scionlab_schema_version"
LISTED = 3  # files that a warning names
MEND = {
    "runs": "a trial without a row counts as not done: call its sweep again, which trains it and replaces the file",
    "sweeps": "call the sweep again, which trains nothing twice, and remove the file",
    "imports": "import the table again, which replaces the file",
}
MEND_OTHERS = "to have its rows again, remove it and the file of the same name in runs/, and call the sweep again"
_told: set[tuple[str, str]] = set()


class UnreadableError(Exception):
    """A file of single keys that is none of this table: why, in a few words."""


@dataclass(frozen=True)
class Damaged:
    """A file that readers leave out, and why."""

    table: str
    path: str
    reason: str

    @property
    def advice(self) -> str:
        """What to do about it."""
        return MEND.get(self.table, MEND_OTHERS)


def tell(found: Sequence[Damaged]) -> None:
    """One warning for all files of a table that nobody was told of yet."""
    new = [file for file in found if (file.path, file.reason) not in _told]
    if not new:
        return
    _told.update((file.path, file.reason) for file in new)
    named = "; ".join(f"{file.path} ({file.reason})" for file in new[:LISTED])
    more = f"; and {len(new) - LISTED} more" if len(new) > LISTED else ""
    what = (
        "a file cannot be read and is left out"
        if len(new) == 1
        else f"{len(new)} files cannot be read and are left out"
    )
    log.warning("warning: results: %s: %s%s; %s", what, named, more, new[0].advice)


def unwritable(place: str, error: OSError) -> UserError:
    """What a store says that cannot be written to: where, why, and what to do."""
    why = os.strerror(error.errno) if error.errno else printable(str(error))
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        why, hint = f"no room is left ({why})", "make room"
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        hint = "make the folder writable"
    else:
        hint = "see to the folder"
    return UserError(
        f"results: cannot write to {place!r}: {why}; what was finished before is kept: {hint}, then run the same "
        "command again"
    )


def check_version(path: str, schema: pa.Schema) -> None:
    """UserError for a file in which columns may mean something else than this version takes them for."""
    written = (schema.metadata or {}).get(VERSION_KEY, b"1")
    if written.isdigit() and int(written) > SCHEMA_VERSION:
        raise UserError(
            f"results: {path!r} was written by a newer version of scionlab (schema {int(written)}; this one knows "
            f"{SCHEMA_VERSION}): update scionlab"
        )


def check_key(rows: pa.Table, column: str, key: str) -> None:
    """Raise UnreadableError unless all rows are those of a key, as the file's name says."""
    if len(rows) and not pc.all(pc.equal(pc.fill_null(rows[column], ""), key)).as_py():
        raise UnreadableError(f"its rows are not those of {column} {key!r}")


def reason(error: Exception) -> str:
    """Why a file cannot be read, in a few words: the first line of what Arrow says."""
    return printable((str(error).splitlines() or [type(error).__name__])[0][:120])
