"""Compaction: the small files of finished trials become one large file per table, and no row is lost or seen twice.

    1  merge what `compacted.parquet` holds and the small files into a hidden file, sorted by key; sync it to the disk
    2  rename it to `compacted.parquet`
    3  rename every merged small file to `.<key>.retired`, where no writer reaches it
    4  remove it, if it is still the file that was merged; one that was written meanwhile stays, and wins over the
       compacted rows (`scionlab.runs.store.folder`)

A process that is killed leaves the state between two steps. Before 2 readers see the old files, from 2 on the new one:
a small file and its copy count once, because the small one wins. The next compaction clears up. Writers need not know
of any of this; only a second compaction must not run meanwhile, and a lock refuses it. A lock of a killed process is
released by the operating system.

Only finished trials are merged. A failed one may be tried again, and its file would be replaced.
"""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scionlab.errors import UserError
from scionlab.runs.schema import Table
from scionlab.runs.store.folder import COMPACTED, TableFolder, chunks, conform
from scionlab.runs.store.places import LocalPlace, sync, temporary_in

LOCK = ".compaction.lock"
ROW_GROUP = 2**14  # rows: few trials' curves, so that asking for some trials skips most groups
AT_ONCE = 512  # small files in memory at a time, beside the rows of one row group


@dataclass(frozen=True)
class Compaction:
    """What a compaction did to one table: small files merged and left, rows and bytes of the compacted file now."""

    table: str
    merged: int
    left: int
    rows: int
    size: int


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """The block runs in one process at a time; UserError if another one is in it."""
    try:
        with filelock.FileLock(root / LOCK, timeout=0):
            yield
    except filelock.Timeout:
        raise UserError(f"results: {str(root)!r} is being compacted by another process; nothing was done") from None


def compact(path: Path, table: Table, finished: Collection[str]) -> Compaction:
    """Merge the files of finished trials in a table's folder; call it `alone`.

    UserError for files that would lose a column.
    """
    folder = TableFolder(LocalPlace(path), table)
    _clear_up(folder, path)
    small = folder.small()
    chosen = {key: name for key, name in small.items() if key in finished}
    if chosen:
        merged = {name: _identity(path / name) for name in chosen.values()}  # before they are read
        _replace(folder, path, chosen)
        for key, name in chosen.items():
            _remove(path / name, path / folder.retired(key), merged[name])
    return _state(folder, path / COMPACTED, len(chosen))


def _state(folder: TableFolder, compacted: Path, merged: int) -> Compaction:
    rows = size = 0
    if compacted.exists():
        rows, size = pq.read_metadata(compacted).num_rows, compacted.stat().st_size
    return Compaction(folder.table.name, merged, len(folder.small()), rows, size)


def _clear_up(folder: TableFolder, path: Path) -> None:
    """Remove what a killed compaction left and nobody needs."""
    if not path.is_dir():
        return
    for temporary in path.glob(".compacted.*.tmp"):
        temporary.unlink()
    for key, name in folder.small().items():
        if name != folder.retired(key):
            (path / folder.retired(key)).unlink(missing_ok=True)  # a later file of the key has taken its place


def _identity(path: Path) -> tuple[int, int, int]:
    """Tells a file from one that is renamed over it; it survives renaming."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _remove(path: Path, retired: Path, merged: tuple[int, int, int]) -> None:
    """Remove a merged small file; not one that a writer has put in its place since it was merged."""
    if path != retired:
        os.rename(path, retired)
    if _identity(retired) == merged:
        os.unlink(retired)


def _replace(folder: TableFolder, path: Path, chosen: dict[str, str]) -> None:
    """Put a compacted file with the rows of the old one and of the small files in its place."""
    temporary = temporary_in(path, "compacted")
    try:
        with pq.ParquetWriter(temporary, folder.table.schema, compression="zstd") as writer:
            for rows in _in_groups(_merged(folder, chosen)):
                writer.write_table(rows, row_group_size=ROW_GROUP)
        sync(temporary)
        os.replace(temporary, path / COMPACTED)
        sync(path)  # the small files go only after the disk knows the large one
    finally:
        temporary.unlink(missing_ok=True)


def _in_groups(pieces: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of whole row groups, but for the last."""
    waiting: list[pa.Table] = []
    for piece in pieces:
        waiting.append(piece)
        count = sum(map(len, waiting))
        if count >= ROW_GROUP:
            rows, whole = pa.concat_tables(waiting), count // ROW_GROUP * ROW_GROUP
            yield rows.slice(0, whole)
            waiting = [rows.slice(whole)]
    if sum(map(len, waiting)):
        yield pa.concat_tables(waiting)


def _merged(folder: TableFolder, chosen: dict[str, str]) -> Iterator[pa.Table]:
    """The rows of both sources in ascending order of the key, a few at a time. No key is in both."""
    old, new = _old(folder, pa.array(list(chosen), pa.string())), _new(folder, chosen)
    left, right = next(old, None), next(new, None)
    key = folder.table.key
    while left is not None and right is not None:
        # Up to here both sources are known; beyond it the one that ends first may have more.
        bound = min(rows[key][-1].as_py() for rows in (left, right))
        (low, left), (high, right) = _split(left, key, bound), _split(right, key, bound)
        yield folder.sorted(pa.concat_tables([low, high]))
        left, right = left if len(left) else next(old, None), right if len(right) else next(new, None)
    for rows, rest in ((left, old), (right, new)):
        if rows is not None:
            yield rows
            yield from rest


def _split(rows: pa.Table, key: str, bound: str) -> tuple[pa.Table, pa.Table]:
    """Sorted rows up to a key, and those beyond it."""
    count = pc.sum(pc.less_equal(rows[key], bound)).as_py()
    return rows.slice(0, count), rows.slice(count)


def _old(folder: TableFolder, replaced: pa.Array) -> Iterator[pa.Table]:
    """The row groups of the compacted file without the keys that are replaced; none is empty."""
    try:
        source = folder.place.open(COMPACTED)
    except FileNotFoundError:
        return
    with source, pq.ParquetFile(source) as file:
        folder.refuse_unknown(COMPACTED, file.schema_arrow)
        for group in range(file.num_row_groups):
            rows = conform(file.read_row_group(group), folder.table.schema)
            rows = rows.filter(pc.invert(pc.is_in(rows[folder.table.key], value_set=replaced)))
            if len(rows):
                yield rows


def _new(folder: TableFolder, chosen: dict[str, str]) -> Iterator[pa.Table]:
    """The rows of the small files, in the table's order; none is empty."""
    for names in chunks(list(chosen.values()), AT_ONCE):
        rows = folder.read(names, folder.table.schema.names, whole=True)
        if len(rows):
            yield folder.sorted(rows)
