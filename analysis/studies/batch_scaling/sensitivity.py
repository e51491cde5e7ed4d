"""How the exponents depend on choices of the fit (the profile's form, the reading of the best batch, the budgets)."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from analysis.fits.profile import TOLERANCE, Profile
from analysis.studies.batch_scaling.exponents import NEAR_BEST, Path, best_path, fit_path, largest_path
from analysis.studies.batch_scaling.result import Sensitivity
from analysis.studies.batch_scaling.table import Table

Choose = Callable[[Sequence[Profile]], Path]


def sensitivity(observed: Table, drawn: Table | None, floor: float | None) -> list[Sensitivity]:
    """The exponents along the best batch when one choice is made otherwise, and with each budget left out.

    `floor` is E of the fitted surface in nats, None where there is none.
    """
    tokens = observed.tokens
    grid = Table.of(observed.budgets, observed.readings, "grid")
    variants: list[tuple[str, Choose, Table, Table | None]] = [
        ("as reported", best_path, observed, drawn),
        ("best batch: three cells instead of five", partial(best_path, shape="vertex"), observed, drawn),
        ("profile: lowest of the measured rates, nothing between", best_path, grid, grid.draws("grid")),
    ]
    for tolerance in (TOLERANCE / 2, TOLERANCE, 2 * TOLERANCE, 4 * TOLERANCE):
        name = f"largest batch within {tolerance:.3g} of what is left"
        variants.append((name, partial(largest_path, share=tolerance, floor=floor), observed, drawn))
    for band in (NEAR_BEST / 5, NEAR_BEST / 2, NEAR_BEST):
        variants.append((f"centre of the cells within {band:g} nats of the best", _centre(band), observed, drawn))
    paths = [(name, choose(of.profiles), choose(re.profiles) if re else None) for name, choose, of, re in variants]
    lines = [_line(name, tokens, at, sample) for name, at, sample in paths]
    if len(tokens) > 2:
        _, at, sample = paths[0]
        for i, left_out in enumerate(tokens):
            name = f"without the budget of {left_out:,.0f} tokens"
            lines.append(_line(name, tokens, at, sample, np.arange(len(tokens)) != i))
    return lines


def _centre(band: float) -> Choose:
    """log-mean of the batch sizes within `band` nats of the lowest, and of the best rates there."""

    def choose(profiles: Sequence[Profile]) -> Path:
        near = [of.loss <= of.loss.min(axis=1, keepdims=True) + band for of in profiles]
        batch = np.stack([(n * of.x).sum(1) / n.sum(1) for n, of in zip(near, profiles, strict=True)], axis=1)
        lr = np.stack([(n * of.lr).sum(1) / n.sum(1) for n, of in zip(near, profiles, strict=True)], axis=1)
        inside = np.stack([~(n[:, 0] | n[:, -1]) for n in near], axis=1)
        return Path(batch, inside, lr, np.ones_like(inside))

    return choose


def _line(name: str, tokens: np.ndarray, at: Path, sample: Path | None, keep: np.ndarray | None = None) -> Sensitivity:
    keep = np.ones(len(tokens), bool) if keep is None else keep
    batch, lr = fit_path(name, tokens[keep], at.at(keep), None if sample is None else sample.at(keep))
    return Sensitivity(name, batch.estimate, lr.estimate)
