"""One table of the store: its folder of Parquet files, how they are read and how one is written.

    <key>.parquet       the rows of one key, as `TableFolder.write` left them; they win
    .<key>.retired      the same, taken out of a writer's reach by a compaction; they come second
    compacted.parquet   the rows of many keys, sorted by key; those of keys that have a file of their own do not count

A scan lists the files of single keys first and opens the compacted one then. A compaction goes the other way, first
putting the compacted file in place and then removing what it holds. So a scan finds every key in one of them; where a
file vanishes between listing and reading, the scan starts again. A file of a single key that cannot be read is left
out, with a warning (`scionlab.runs.store.damage`).
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from scionlab.errors import UserError
from scionlab.runs.schema import Table
from scionlab.runs.store.damage import Damaged, UnreadableError, check_key, check_version, reason, tell
from scionlab.runs.store.places import Place

SUFFIX, RETIRED = ".parquet", ".retired"
COMPACTED = f"compacted{SUFFIX}"
AT_ONCE = 128  # small files that are read before their rows are moved together


class TableFolder:
    """The rows of `table` at `place`. A folder that does not exist holds none."""

    def __init__(self, place: Place, table: Table) -> None:
        self.place, self.table = place, table
        # Curves and layers are read in the order of their steps, whatever order they were written in.
        self.order = [name for name in (table.key, "step") if name in table.schema.names]

    def small(self) -> dict[str, str]:
        """Names of the files of single keys, by key in ascending order; each is the one that counts for its key."""
        names = self.place.names()
        retired = {name[1 : -len(RETIRED)]: name for name in names if name.startswith(".") and name.endswith(RETIRED)}
        own = {name.removesuffix(SUFFIX): name for name in names if name.endswith(SUFFIX) and not name.startswith(".")}
        own.pop(COMPACTED.removesuffix(SUFFIX), None)
        return dict(sorted((retired | own).items()))

    @staticmethod
    def retired(key: str) -> str:
        """What a compaction calls the file of a key before it removes it."""
        return f".{key}{RETIRED}"

    def write(self, key: str, rows: pa.Table) -> None:
        """Make the file of one key, or replace it: readers see the old one or the new one, whole."""
        self.place.write(f"{key}{SUFFIX}", rows)

    def remove(self, key: str) -> None:
        """Take away the file of one key; none is as good."""
        self.place.remove(f"{key}{SUFFIX}")

    def scan(
        self,
        keys: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        where: ds.Expression | None = None,
    ) -> pa.Table:
        """Rows of some keys (default: all) that fulfil `where`, which may name `columns` only, in the table's order.

        Files that cannot be read are left out, and told of. UserError where nothing can be read without them.
        """
        before = None
        while True:
            small = self.small()
            try:
                return self._scan(small, None if keys is None else set(keys), columns, where)
            except FileNotFoundError as error:
                if small == before:  # nobody took it away meanwhile: it is a link to nowhere
                    raise self._foreign(str(error.filename), error) from None
                before = small

    def _scan(
        self,
        small: dict[str, str],
        keys: set[str] | None,
        columns: Sequence[str] | None,
        where: ds.Expression | None,
    ) -> pa.Table:
        chosen = {key: name for key, name in small.items() if keys is None or key in keys}
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
            with self.place.open(COMPACTED) as source:
                file = pq.ParquetFile(source)
                check_version(f"{self.place}/{COMPACTED}", file.schema_arrow)
                groups = row_groups(file.metadata, self.table.key, keys)
                if not groups:
                    return nothing
                fragment = ds.ParquetFileFormat().make_fragment(source, row_groups=groups)
                found = fragment.to_table(schema=self.table.schema, columns=names, filter=self._of(keys, but, where))
                return found.cast(nothing.schema)
        except UserError:
            raise
        except (FileNotFoundError, NotADirectoryError):
            return nothing
        except (ValueError, pa.ArrowException, OSError) as error:  # ValueError: it has no such column
            raise self._foreign(COMPACTED, error) from None

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

    def read(self, files: Iterable[str], columns: list[str], whole: bool = False) -> pa.Table:
        """Columns of some files of single keys, one after another. `whole` refuses files that would lose anything.

        Others that cannot be read are left out. UserError for a file of a newer version, or one that the disk does not
        give; FileNotFoundError for one that has gone.
        """
        schema, found, damaged = self._schema(columns), [], list[Damaged]()

        def attempt(name: str) -> pa.Table | None:
            try:
                return self._read_one(name, schema, whole)
            except UnreadableError as error:
                if whole:
                    raise self._foreign(name, error) from None
                damaged.append(Damaged(self.table.name, f"{self.place}/{name}", str(error)))
                return None

        for some in chunks(list(files), AT_ONCE):
            pieces = [rows for rows in self.place.each(attempt, some) if rows is not None]
            rows = pa.concat_tables([schema.empty_table(), *pieces])
            found.append(rows.combine_chunks())  # a thousand buffers of one row take more room than their rows
        tell(damaged)
        return pa.concat_tables([schema.empty_table(), *found])

    def damaged(self) -> list[Damaged]:
        """The files that readers leave out; all are read. UserError as of `scan`."""
        schema = self.table.schema

        def attempt(name: str) -> Damaged | None:
            try:
                self._read_one(name, schema, whole=False)
            except UnreadableError as error:
                return Damaged(self.table.name, f"{self.place}/{name}", str(error))
            except FileNotFoundError:  # it was there a moment ago
                return None
            return None

        found = [file for file in self.place.each(attempt, self.small().values()) if file is not None]
        self._scan_compacted(None, (), schema.names, None)
        return found

    def _read_one(self, name: str, schema: pa.Schema, whole: bool) -> pa.Table:
        try:
            with self.place.open(name) as source, pq.ParquetFile(source) as file:
                check_version(f"{self.place}/{name}", file.schema_arrow)
                if whole:
                    self.refuse_unknown(name, file.schema_arrow)
                columns = list(dict.fromkeys([*schema.names, self.table.key]))
                rows = file.read(columns=columns, use_threads=False)
            if self.table.key not in rows.column_names:
                raise UnreadableError(f"it has no column {self.table.key!r}")
            check_key(rows, self.table.key, name.removeprefix(".").removesuffix(SUFFIX).removesuffix(RETIRED))
            return conform(rows, schema)
        except FileNotFoundError as error:
            raise FileNotFoundError(error.errno, error.strerror, name) from None
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno:  # the disk's fault, not the file's: it may pass
                raise self._foreign(name, error) from None
            raise UnreadableError(reason(error)) from None

    def refuse_unknown(self, name: str, found: pa.Schema) -> None:
        """UserError for columns that this version does not know: to merge the file would lose them."""
        unknown = set(found.names) - set(self.table.schema.names)
        if unknown:
            columns = ", ".join(sorted(unknown))
            raise UserError(
                f"results: '{self.place}/{name}' has columns that this version does not know ({columns}); "
                "compact the store with the version that wrote it"
            )

    def _foreign(self, name: str, error: Exception) -> UserError:
        why = reason(error)
        return UserError(
            f"results: a file in {str(self.place)!r} is not one of this store: {name}: {why}; remove it, or "
            "put a whole copy in its place"
        )


def chunks(names: Sequence[str], count: int) -> list[Sequence[str]]:
    """The names, at most `count` at a time."""
    return [names[start : start + count] for start in range(0, len(names), count)]


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
