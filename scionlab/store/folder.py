"""One table of the store: its folder of Parquet files, how they are read and how one is written.

    <key>.parquet       the rows of one key, as `TableFolder.write` left them; they win
    .<key>.retired      the same, taken out of a writer's reach by a compaction; they come second
    compacted.parquet   the rows of many keys, sorted by key; those of keys that have a file of their own do not count

A scan lists the files of single keys first and opens the compacted one then. A compaction goes the other way, first
putting the compacted file in place and then removing what it holds. So a scan finds every key in one of them; where a
file vanishes between listing and reading, the scan starts again.
"""

import os
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from scionlab.errors import UserError
from scionlab.schema import Table

SUFFIX, RETIRED = ".parquet", ".retired"
COMPACTED = f"compacted{SUFFIX}"
AT_ONCE = 128  # small files that are read before their rows are moved together


class TableFolder:
    """The rows of `table` below `path`. A folder that does not exist holds none."""

    def __init__(self, path: Path, table: Table) -> None:
        self.path, self.table = path, table
        self.compacted = path / COMPACTED
        # Curves and layers are read in the order of their steps, whatever order they were written in.
        self.order = [name for name in (table.key, "step") if name in table.schema.names]

    def small(self) -> dict[str, Path]:
        """The files of single keys, by key in ascending order; each is the one that counts for its key."""
        try:
            names = os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        retired = {name[1 : -len(RETIRED)]: name for name in names if name.startswith(".") and name.endswith(RETIRED)}
        own = {name.removesuffix(SUFFIX): name for name in names if name.endswith(SUFFIX) and not name.startswith(".")}
        own.pop(COMPACTED.removesuffix(SUFFIX), None)
        return {key: self.path / name for key, name in sorted((retired | own).items())}

    def retired(self, key: str) -> Path:
        """Where a compaction puts the file of a key before it removes it."""
        return self.path / f".{key}{RETIRED}"

    def write(self, key: str, rows: pa.Table) -> None:
        """Make the file of one key, or replace it: readers see the old one or the new one, whole."""
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / f".{key}.{os.getpid()}.tmp"
        try:
            pq.write_table(rows, temporary)
            os.replace(temporary, self.path / f"{key}{SUFFIX}")
        finally:
            temporary.unlink(missing_ok=True)

    def scan(
        self,
        keys: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        where: ds.Expression | None = None,
    ) -> pa.Table:
        """Rows of some keys (default: all) that fulfil `where`, which may name `columns` only, in the table's order.

        UserError for a file that is not of this table.
        """
        before = None
        while True:
            small = self.small()
            try:
                return self._scan(small, None if keys is None else set(keys), columns, where)
            except FileNotFoundError as error:
                if small == before:  # nobody took it away meanwhile: it is a link to nowhere
                    raise self._foreign(Path(error.filename or ""), error) from None
                before = small

    def _scan(
        self,
        small: dict[str, Path],
        keys: set[str] | None,
        columns: Sequence[str] | None,
        where: ds.Expression | None,
    ) -> pa.Table:
        chosen = {key: path for key, path in small.items() if keys is None or key in keys}
        wanted = list(columns or self.table.schema.names)
        # Only files of single keys may be out of order.
        names = list(dict.fromkeys([*wanted, *self.order])) if chosen else wanted
        old = self._scan_compacted(None if keys is None else keys - chosen.keys(), chosen, names, where)
        new = self.read(chosen.values(), names)
        if where is not None:
            new = new.filter(where)
        both = pa.concat_tables([old, new])
        return self.sorted(both).select(wanted) if chosen else both

    def sorted(self, rows: pa.Table) -> pa.Table:
        """The rows in the table's order; what is equal in it stays as it is."""
        return rows.sort_by([(name, "ascending") for name in self.order])

    def _schema(self, names: Iterable[str]) -> pa.Schema:
        schema = self.table.schema
        return pa.schema([schema.field(name) for name in names], metadata=schema.metadata)

    def _scan_compacted(
        self, keys: set[str] | None, but: Collection[str], names: list[str], where: ds.Expression | None
    ) -> pa.Table:
        """Of the compacted file, if there is one: the rows of `keys` (default: all) `but` some."""
        nothing = self._schema(names).empty_table()
        try:
            # One open file for all reading: the name may soon mean another one.
            with pa.OSFile(str(self.compacted)) as source:
                groups = row_groups(pq.ParquetFile(source).metadata, self.table.key, keys)
                if not groups:
                    return nothing
                fragment = ds.ParquetFileFormat().make_fragment(source, row_groups=groups)
                found = fragment.to_table(schema=self.table.schema, columns=names, filter=self._of(keys, but, where))
                return found.cast(nothing.schema)
        except (FileNotFoundError, NotADirectoryError):
            return nothing
        except (pa.ArrowException, OSError) as error:
            raise self._foreign(self.compacted, error) from None

    def _of(self, keys: set[str] | None, but: Collection[str], where: ds.Expression | None) -> ds.Expression | None:
        key = ds.field(self.table.key)
        parts = [] if where is None else [where]
        if keys is not None:
            parts.append(key.isin(pa.array(list(keys), pa.string())))
        elif but:
            parts.append(~key.isin(pa.array(list(but), pa.string())))
        whole = None
        for part in parts:
            whole = part if whole is None else whole & part
        return whole

    def read(self, paths: Iterable[Path], names: list[str], whole: bool = False) -> pa.Table:
        """Columns of some files of single keys, one after another. `whole` refuses files that have other columns.

        UserError for a file that is not of this table; FileNotFoundError for one that has gone.
        """
        schema, found = self._schema(names), []
        for some in chunks(list(paths), AT_ONCE):
            rows = pa.concat_tables([self._read_one(path, schema, whole) for path in some])
            found.append(rows.combine_chunks())  # a thousand buffers of one row take more room than their rows
        return pa.concat_tables([schema.empty_table(), *found])

    def _read_one(self, path: Path, schema: pa.Schema, whole: bool) -> pa.Table:
        try:
            with pq.ParquetFile(path) as file:
                if whole:
                    self.refuse_unknown(path, file.schema_arrow)
                return conform(file.read(columns=schema.names, use_threads=False), schema)
        except FileNotFoundError as error:
            raise FileNotFoundError(error.errno, error.strerror, str(path)) from None
        except (pa.ArrowException, OSError) as error:
            raise self._foreign(path, error) from None

    def refuse_unknown(self, path: Path, found: pa.Schema) -> None:
        """UserError for columns that this version does not know: to merge the file would lose them."""
        unknown = set(found.names) - set(self.table.schema.names)
        if unknown:
            raise UserError(
                f"results: {str(path)!r} has columns that this version does not know ({', '.join(sorted(unknown))}); "
                "compact the store with the version that wrote it"
            )

    def _foreign(self, path: Path, error: Exception) -> UserError:
        reason = str(error).splitlines()[0]
        return UserError(f"results: a file in {str(self.path)!r} is not one of this store: {path.name}: {reason}")


def chunks(paths: Sequence[Path], count: int) -> list[Sequence[Path]]:
    """The paths, at most `count` at a time."""
    return [paths[start : start + count] for start in range(0, len(paths), count)]


def conform(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with just the columns of a schema, those they lack being null: files may be older than a column."""
    if rows.schema.equals(schema):
        return rows
    have = set(rows.column_names)
    columns = [
        rows[field.name].cast(field.type) if field.name in have else pa.nulls(len(rows), field.type) for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def row_groups(metadata: pq.FileMetaData, key: str, keys: Collection[str] | None) -> list[int]:
    """The row groups of a file that may hold some keys (default: any), by the smallest and largest key in each."""
    groups = list(range(metadata.num_row_groups))
    if keys is None:
        return groups
    ordered, column = sorted(keys), metadata.schema.names.index(key)

    def may_hold(group: int) -> bool:
        statistics = metadata.row_group(group).column(column).statistics
        if statistics is None or not statistics.has_min_max:
            return True
        first = bisect_left(ordered, statistics.min)
        return first < len(ordered) and bool(ordered[first] <= statistics.max)

    return [group for group in groups if may_hold(group)]
