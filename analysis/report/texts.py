"""Numbers as readers of a page see them."""

import math
import re
from collections.abc import Callable, Mapping

import pandas as pd
from markupsafe import Markup, escape

Column = Callable[[pd.DataFrame], str]  # of the trials of a group
POWER = re.compile(r"\^([+\-−]?\d+(?:\.\d+)?)")


def raised(text: str) -> Markup:
    """A text whose powers, N^-0.5, are raised as HTML has them; what is HTML already stays as it is."""
    if isinstance(text, Markup):
        return text
    return Markup(POWER.sub(lambda found: f"<sup>{found[1].replace('-', '−')}</sup>", str(escape(text))))


def power(value: float) -> Markup:
    """A learning rate as a power of two, to a tenth of an octave."""
    exponent = f"{round(math.log2(value), 1):g}".replace("-", "−")
    return Markup("2<sup>{}</sup>").format(exponent)


def powers(values: "pd.Series[float]") -> Markup:
    """First and last of a set of learning rates, and how many there are."""
    rates = sorted(values.unique())
    return Markup("{} … {} ({})").format(power(rates[0]), power(rates[-1]), len(rates))


def thousands(value: float) -> str:
    """A count, or a dash where it is not known."""
    return "–" if pd.isna(value) else f"{round(value):,}"


def span(values: "pd.Series[float]") -> str:
    """The smallest and the largest number to three digits, or a dash where none is known."""
    known = values.dropna()
    return "–" if known.empty else f"{known.min():.3g} to {known.max():.3g}"


def sizes(rows: pd.DataFrame) -> str:
    """How many network sizes there are, or a dash where they are not known."""
    return thousands(rows["n_params"].nunique()) if "n_params" in rows else "–"


def spans(column: str) -> Column:
    """The smallest and the largest number in a column, of any group."""
    return lambda rows: span(rows[column])


def by_source(runs: pd.DataFrame, columns: Mapping[str, Column]) -> list[dict[str, str]]:
    """What was run, a row per method or source: its `columns` by their heads, and how its trials ended."""
    return [
        {"source": str(name)} | {head: text(rows) for head, text in columns.items()} | counts(rows)
        for name, rows in runs.groupby("optimizer", sort=True)
    ]


def by_width(runs: pd.DataFrame) -> list[dict[str, str | Markup]]:
    """What was run, a row per method and width: its sizes and rates, and how its trials ended."""
    return [
        {
            "optimizer": str(rows["optimizer"].iloc[0]),
            "width": str(rows["width"].iloc[0]),
            "parameters": thousands(rows["n_params"].max()),
            "learning rates": powers(rows["lr"]),
            "steps": thousands(rows["steps"].max()),
            "seeds": str(rows["seed"].nunique()),
            **counts(rows),
        }
        for _, rows in runs.groupby(["optimizer", "width"], sort=True)
    ]


def counts(rows: pd.DataFrame) -> dict[str, str]:
    """How the trials of a group ended."""
    return {name: str((rows["status"] == status).sum()) for name, status in
            (("ok", "ok"), ("diverged", "diverged"), ("failed", "error"))}  # fmt: skip
