"""What the figures of a comparison have in common.

Their tables have the columns `arm`, `optimizer` and `metric`, and where there are several places also `across` (the key
in words), `place` (its value as text) and `position`: where it is drawn, log₂ of a number above 0, else its index.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.drawing import style, units
from analysis.studies.comparison.claims import NAMES, UNITS
from analysis.studies.comparison.design import arrange, sign
from analysis.studies.comparison.result import Comparison
from analysis.tables.keys import plain, values
from analysis.tables.sweep import SweepTables


def positions(fit: Comparison) -> list[float]:
    """Of every place."""
    places = fit.design.places
    if fit.design.numeric and all(place > 0 for place in places):
        return [float(np.log2(place)) for place in places]
    return [float(i) for i in range(len(places))]


def where(fit: Comparison, place: int) -> dict[str, Any]:
    """The columns that say where a row belongs; none where there is one place."""
    if not fit.design.across:
        return {}
    return {"across": fit.design.across, "place": fit.design.place(place), "position": positions(fit)[place]}


def placed(tables: SweepTables, fit: Comparison) -> pd.DataFrame:
    """The finished runs with `arm` and `place`, as indices; those with the best values of what else is tuned."""
    settings = fit.design.settings
    runs = arrange(tables.runs, settings, list(tables.sweep.get("trial_ids", ())))[1]
    names = [arm.name for arm in fit.design.arms]
    best = {(names.index(cell.arm), fit.design.places.index(cell.place)): cell.choice for cell in fit.cells}
    for key in settings.tuned:
        wanted = [best[place][key] for place in zip(runs["arm"], runs["place"], strict=True)]
        runs = runs[values(runs, key, "tuned").to_numpy() == np.array(wanted)]
    return runs


def finish(rows: Sequence[dict[str, Any]] | pd.DataFrame, tables: SweepTables, fit: Comparison) -> pd.DataFrame:
    """A table with `metric`, and the unit of its losses."""
    return units.with_unit(pd.DataFrame(rows).assign(metric=fit.design.settings.metric), tables.runs)


def colours(data: pd.DataFrame) -> dict[str, str]:
    """A colour for every arm, in their order."""
    return style.colours(map(plain, data["arm"]), data["optimizer"])


def of(data: pd.DataFrame, arm: str) -> pd.DataFrame:
    """An arm's rows."""
    return data[data["arm"].map(plain) == arm]


def name(data: pd.DataFrame) -> str:
    """The metric in words."""
    return NAMES[str(data["metric"].iloc[0])]


def label(data: pd.DataFrame, metric: str | None = None) -> str:
    """The metric in words with its unit."""
    metric = metric or str(data["metric"].iloc[0])
    return NAMES[metric] + ("" if metric in UNITS else units.nats(data))


def headroom(data: pd.DataFrame) -> float:
    """How far beyond the best value a scale reaches: what is worse is drawn at its edge."""
    return 10.0 if data["metric"].iloc[0] == "log2_loss" else 1.0


def worst(data: pd.DataFrame, values: "pd.Series[float]") -> float:
    """The value at the edge of a scale that shows `headroom` beyond the best, or all there is if that is less."""
    side = sign(str(data["metric"].iloc[0]))
    costs = side * values[np.isfinite(values.astype(float))]
    return float(side * min(costs.max(), costs.min() + headroom(data)))


def clip(data: pd.DataFrame, values: "pd.Series[float]", edge: float) -> "pd.Series[float]":
    """Values, those beyond the edge at it."""
    return values.clip(upper=edge) if sign(str(data["metric"].iloc[0])) > 0 else values.clip(lower=edge)


def ticks(axis: Axes, data: pd.DataFrame) -> None:
    """Label the places."""
    found = data.drop_duplicates("position").sort_values("position")
    names = [_tick(plain(place)) for place in found["place"]]
    crowded = len(names) > 4 and max(map(len, map(plain, found["place"]))) > 7
    axis.set_xticks(list(found["position"]), names, rotation=30 if crowded else 0, ha="right" if crowded else "center")
    axis.set_xlabel(str(data["across"].iloc[0]))


def _tick(place: str) -> str:
    """Large powers of two, such as token budgets, as powers."""
    large = place.isdecimal() and int(place) >= 4096 and int(place).bit_count() == 1
    return style.power_of_two(int(place)) if large else place


def handles(data: pd.DataFrame) -> list[Line2D]:
    """Legend entries of the arms."""
    return [
        Line2D([], [], color=color, marker=marker(i), linestyle=dashes(i), label=name)
        for i, (name, color) in enumerate(colours(data).items())
    ]


def dashes(index: int) -> Literal["-", "--", ":"]:
    """The line style of an arm by its place in their order: another one where colours begin again."""
    styles: tuple[Literal["-"], Literal["--"], Literal[":"]] = ("-", "--", ":")
    return styles[index // len(style.PALETTE) % 3]


def marker(index: int) -> str:
    """The marker of an arm by its place in their order."""
    return style.MARKERS[index % len(style.MARKERS)]


def hollow(label: str = "best rate ends its grid") -> Line2D:
    """The legend entry of a value that may be better beyond."""
    return Line2D([], [], color=style.GREY, marker="o", markerfacecolor="white", linestyle="", label=label)


def cross(label: str = "every rate diverges") -> Line2D:
    """That of divergence."""
    return Line2D([], [], color=style.GREY, marker="x", markeredgewidth=2, linestyle="", label=label)
