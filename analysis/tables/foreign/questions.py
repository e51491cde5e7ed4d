"""What an import may be meant otherwise, a sentence each: it is taken as it stands, and asked about."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.foreign.names import Name
from analysis.tables.foreign.sources import FLOPS_A_TOKEN, Source, quoted
from analysis.tables.goals import of_goals
from analysis.tables.varied import grouped
from scionlab.errors import assigned, option

Rows = Sequence[Mapping[str, Any]]

LIKE_A_BETA = 0.85  # a weight of the new gradient as large is rare, and what PyTorch calls momentum is seldom smaller
COUNTED_OTHERWISE = 1.1  # factor between C and 6 N T from which on they are told apart
FEW_PARAMETERS = 1e5  # below, numbers of parameters are likely to be in millions
OPTIMA = 4  # cells with one learning rate each from which on a table is said to have no curve
GOALS = 3  # runs with one loss from which on it is likely a goal
CELL = ("optimizer", "group", "n_params", "width", "tokens", "batch_size", "seq_len")


def questions(rows: Rows, sources: Mapping[str, Source], wanted: Mapping[str, Name]) -> tuple[str, ...]:
    """Of all `rows` of the imports table; `wanted` are targets that columns without use may be, by their names."""
    momenta = [row["momentum"] for row in rows if row["momentum"] is not None]
    momentum = sources.get("momentum")
    return (
        *(() if momentum is None else _of_momentum(momentum.text, momentum.column, momenta)),
        *_of_flops(rows),
        *_of_sizes(rows),
        *_of_checkpoints(rows),
        *_of_optima(rows),
        *_of_goals(rows),
        *_of_names(sources, wanted),
    )


def _of_momentum(text: str, column: str | None, values: Sequence[float]) -> tuple[str, ...]:
    """Whether the momentum is not the weight of the new gradient but 1 minus that, as PyTorch's momentum and β₁ are.

    It is asked where a `column` or a constant is taken as it stands: `text` is what it was mapped or set to, `values`
    what it is in the rows. All 1 is no momentum, in Scion's terms.
    """
    large = [value for value in values if value >= LIKE_A_BETA]
    beta = column is not None and "beta" in column.casefold()
    if not values or (column is None and not _is_number(text)) or not (beta or (large and set(values) != {1.0})):
        return ()
    way = assigned("set", {"momentum": f"1-{text}"})
    if column is not None:
        way = assigned("map", {"momentum": f"1-{quoted(column)}"})
    return (
        f"momentum: {max(values):.6g} is taken as the weight of the new gradient; if it is what PyTorch calls momentum "
        f"or beta1, that weight is 1 minus it: {way}",
    )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _of_flops(rows: Rows) -> Iterator[str]:
    """Whether C is not 6 N T: it may count embeddings, attention or a rematerialization, too, or not."""
    known = [row for row in rows if row["flops"] is not None and row["n_params"] is not None]
    c, n, t = (np.array([row[key] for row in known], dtype=float) for key in ("flops", "n_params", "tokens"))
    with np.errstate(all="ignore"):
        shares = (c / n / t / FLOPS_A_TOKEN).tolist()
    other = [share for share in shares if not 1 / COUNTED_OTHERWISE <= share <= COUNTED_OTHERWISE]
    if other:
        yield (
            f"flops: {min(other):.3g} to {max(other):.3g} times 6 × n_params × tokens in {len(other)} of {len(rows)} "
            "runs; all three are kept as they are, as flops may be counted otherwise"
        )


def _of_sizes(rows: Rows) -> Iterator[str]:
    sizes = [row["n_params"] for row in rows if row["n_params"] is not None]
    if sizes and max(sizes) < FEW_PARAMETERS:
        yield (
            f"n_params: {min(sizes):.6g} to {max(sizes):.6g} are taken as numbers of parameters; if they are in "
            f"millions, multiply: {assigned('map', {'n_params': '1e6*…'})}"
        )


def _of_checkpoints(rows: Rows) -> Iterator[str]:
    """Losses of checkpoints before a run's end are those of a learning rate that is still high."""
    early = [
        row for row in rows if row["checkpoint_step"] and row["steps"] and row["checkpoint_step"] < row["steps"] - 1
    ]
    if early:
        yield (
            f"checkpoint_step: {len(early)} of {len(rows)} losses are of checkpoints before their run's last step; a "
            "fit takes them as runs of that length"
        )


def _of_optima(rows: Rows) -> Iterator[str]:
    """A table of optima, or of single runs, has no curve that a best learning rate could be read off."""
    rates: dict[tuple[Any, ...], set[float]] = {}
    for row in rows:
        if row["lr"] is not None:
            rates.setdefault(tuple(row[key] for key in CELL), set()).add(row["lr"])
    if len(rates) >= OPTIMA and not _to_goals(rows) and all(len(found) == 1 for found in rates.values()):
        yield (
            f"lr: each of {len(rates)} settings was trained at one learning rate, as in a table of optima: it has no "
            "curves to read a best rate off"
        )


def _of_goals(rows: Rows) -> Iterator[str]:
    """A table of the tokens that it took to come to a loss has the same loss in every row of a size."""
    losses: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row["val_loss"] is not None:
            losses.setdefault(tuple(row[key] for key in ("optimizer", "group", "n_params")), []).append(row["val_loss"])
    if _to_goals(rows):
        yield (
            "val_loss: is a goal that every batch size of a size comes to: a table of tokens to a target, for "
            f"{option('study', 'critical-batch')}; no fit of losses can tell anything from it"
        )
    elif losses and all(len(found) >= GOALS and len(set(found)) == 1 for found in losses.values()):
        yield (
            "val_loss: is one number in all runs of a size, as in a table of tokens to a target: no fit of losses can "
            "tell anything from it, and without batch_size there is no critical one"
        )


def _to_goals(rows: Rows) -> bool:
    return of_goals(grouped(pd.DataFrame(rows)))


def _of_names(sources: Mapping[str, Source], wanted: Mapping[str, Name]) -> Iterator[str]:
    """Columns that are not used and have a name that is known for a target without a source."""
    free = {target: name.expression for target, name in wanted.items() if target not in sources}
    if free:
        yield f"not used, but by their names they may be wanted, too: {assigned('map', free)}"
