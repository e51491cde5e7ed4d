"""Numbers as readers of a page see them."""

import math

import pandas as pd
from markupsafe import Markup


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


def counts(rows: pd.DataFrame) -> dict[str, str]:
    """How the trials of a group ended."""
    return {name: str((rows["status"] == status).sum()) for name, status in
            (("ok", "ok"), ("diverged", "diverged"), ("failed", "error"))}  # fmt: skip
