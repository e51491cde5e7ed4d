"""What a table of the run store is made of.

Raise `SCHEMA_VERSION` when a column changes its meaning or goes away; adding a column does not.
"""

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 1

STR, INT, REAL, BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Column:
    """A column; `null` says when it is empty, or is "" when it never is."""

    name: str
    type: pa.DataType
    meaning: str
    null: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the store: a folder of Parquet files named by the value of `key`."""

    name: str
    key: str
    about: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema every file of the table has."""
        fields = [pa.field(c.name, c.type, nullable=bool(c.null)) for c in self.columns]
        return pa.schema(fields, metadata={"scionlab_schema_version": str(SCHEMA_VERSION)})


VERSION = Column("schema_version", pa.int16(), "version of this dictionary the row was written with")
TRIAL = Column("trial_id", STR, "hash of everything that changes the trial's numbers")
OLDER = "older than this column"
