"""Keys: how settings name what varies between trials, and how it is read from a table of runs.

A key is a column of the runs (`width`), else a field of the trials' specs (`train_limit`), or `options.NAME` for an
option of the optimizer. Its values name things: text stands for itself, numbers have the key before them ("depth 8").
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.same import same_budget, same_number
from scionlab.errors import UserError, listed, worded
from scionlab.spec import ADDED_LATER

# Fields that specs leave out, and what that says, as JSON has it.
LEFT_OUT = {name: list(before) if isinstance(before, tuple) else before for name, before in ADDED_LATER.items()}
# What changes no number of a trial: how often it is measured, and by which of its names its data was asked for.
WITHOUT_EFFECT = ("probe", "watch", "data")
OPTION = "options."
# Settings that only imports have as columns; those of trials are in their specs.
OF_IMPORTS = ("beta2", "weight_decay", "warmup")
# What must not vary within a series, where the table has it: the curves would mix different experiments.
FIXED = (
    "model",
    "width",
    "depth",
    "tokens",
    "batch_size",
    "seq_len",
    "momentum",
    "schedule",
    "stages",
    "data_sha256",
    "device",
    "dtype",
    *OF_IMPORTS,
    "data",
)
# Of a row, beside its spec: what a run was made from and with, where it is known. Losses of several are not averaged.
MEASURED = ("data_sha256", "device", "dtype")
NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?")


def specs(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """The trials' specs; a field that only some of them write has its default in the others."""
    found = [json.loads(text) for text in runs["spec"]]
    written = {name: default for name, default in LEFT_OUT.items() if any(name in spec for spec in found)}
    return [{**written, **spec} for spec in found]


def values(runs: pd.DataFrame, key: str, field: str) -> "pd.Series[Any]":
    """A key's value in every run, NaN where a run has none; UserError, naming `field`, if none has one."""
    column = "tokens_budget" if key == "tokens" and "tokens_budget" in runs else key  # as asked for, not in whole steps
    written = column in LEFT_OUT and "spec" in runs  # columns of such fields are empty in older rows
    if column in runs and runs[column].notna().any() and not written:
        return runs[column]
    found = [_of(spec, key) for spec in specs(runs)] if "spec" in runs else []
    if not any(value is not None for value in found):
        raise UserError(
            f"{field}: {key!r} is in none of the runs; it must be one of their columns, a field of a trial, or "
            "options.NAME for an option of its optimizer"
        )
    shown = [
        np.nan if value is None else json.dumps(value) if isinstance(value, list | dict) else value for value in found
    ]
    return pd.Series(shown, index=runs.index, name=key)


def _of(spec: dict[str, Any], key: str) -> Any:
    if key.startswith(OPTION):
        return spec.get("options", {}).get(key.removeprefix(OPTION))
    return spec.get(key, LEFT_OUT.get(key))


def spoken(key: str) -> str:
    """The key in words."""
    return key.removeprefix(OPTION).replace("_", " ")


def plain(value: Any) -> str:
    """A value as text; whole numbers without a point."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return f"{value:.10g}" if number else str(value)


def label(key: str, value: Any) -> str:
    """A value as the name of a thing."""
    if isinstance(value, bool | np.bool_):
        return spoken(key) if value else f"not {spoken(key)}"
    text = plain(value)
    return text if isinstance(value, str) and not NUMBER.fullmatch(text) else f"{spoken(key)} {text}"


def labels(runs: pd.DataFrame, keys: Sequence[str], field: str) -> "pd.Series[str]":
    """The labels of several keys in every run, joined; a key that a run has no value of is left out."""
    columns = [[label(key, v) if pd.notna(v) else "" for v in values(runs, key, field)] for key in keys]
    joined = [", ".join(filter(None, parts)) for parts in zip(*columns, strict=True)]
    return pd.Series(joined, index=runs.index, dtype=object)


def different(runs: pd.DataFrame, but: Iterable[str], columns: Iterable[str]) -> dict[str, str]:
    """Fields in which runs differ, apart from some keys and what has no effect, with the values they take.

    Fields are those of the trials' specs and what is known of the data and the machine, `MEASURED`; for a table without
    specs those of some columns, where numbers equal but for rounding are one. One data set may have several names; two
    under one name are two, unless data sets are what varies.
    """
    # An import has no hash of its data: their names are all that tells them apart.
    dropped = {*but, *(WITHOUT_EFFECT if "spec" in runs else ())} | ({"data_sha256"} if "data" in but else set())
    if "spec" in runs:
        options = {key.removeprefix(OPTION) for key in dropped if key.startswith(OPTION)}
        rows = specs(runs)
        for row in rows:
            row["options"] = {name: value for name, value in row.get("options", {}).items() if name not in options}
        table = pd.DataFrame(rows, index=runs.index)
    else:
        table = as_meant(runs[[column for column in columns if column in runs]])
    found = {str(name): column for name, column in table.astype(str).items()}
    # A gap in what is known is not a value of its own.
    found |= {column: runs[column].dropna() for column in MEASURED if column in runs and runs[column].notna().any()}
    return {
        name: listed(sorted(map(str, column.unique())))
        for name, column in found.items()
        if name not in dropped and column.nunique() > 1
    }


def how_to_part(runs: pd.DataFrame) -> str:
    """What to do with runs that are several settings in one: a hint for the end of a message."""
    if "spec" in runs:
        return "give each setting a preset of its own (finished trials are reused)"
    way = worded("`scionlab import --where COLUMN=VALUE`", "import_table(…, where='COLUMN=VALUE')")
    return f"import each setting under a name of its own, with {way}"


def as_meant(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of a foreign table with numbers that are meant to be one as one."""
    numbers = table.select_dtypes("number")
    return table.assign(
        **{str(name): (same_budget if name == "tokens" else same_number)(column) for name, column in numbers.items()}
    )
