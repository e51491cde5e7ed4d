"""The tables of the run store: their columns, types, units and meaning. docs/data-dictionary.md is made of them."""

from scionlab.runs.schema.sweeps import IMPORTS, SWEEPS, TUNINGS
from scionlab.runs.schema.table import SCHEMA_VERSION, TIME, TRIAL, Column, Table
from scionlab.runs.schema.trials import CURVES, LAYERS, RUNS, SCORES

TABLES = (RUNS, CURVES, LAYERS, SCORES, SWEEPS, TUNINGS, IMPORTS)


def data_dictionary() -> str:
    """The tables in Markdown, as README shows them."""
    parts = []
    for table in TABLES:
        lines = [f"**`{table.name}`**: {table.about}.", "", "| column | type | meaning |", "|---|---|---|"]
        for column in table.columns:
            empty = f"; null if {column.null}" if column.null else ""
            lines.append(f"| `{column.name}` | {column.type} | {column.meaning}{empty} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


__all__ = [
    "CURVES",
    "IMPORTS",
    "LAYERS",
    "RUNS",
    "SCHEMA_VERSION",
    "SCORES",
    "SWEEPS",
    "TABLES",
    "TIME",
    "TRIAL",
    "TUNINGS",
    "Column",
    "Table",
    "data_dictionary",
]
