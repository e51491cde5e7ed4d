"""The law of the loss in network size and tokens, as one call and one object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.fits.intervals import Estimate
from analysis.laws.compute_optimal import Allocation, allocate
from analysis.laws.points import points_of
from analysis.laws.scaling_laws import HeldOut, ScalingLaw
from analysis.studies.scaling_law.fit import law_of
from analysis.studies.scaling_law.result import SourceLaw
from analysis.studies.scaling_law.settings import ScalingLawSettings
from analysis.tables.arrays import Floats
from scionlab.api.importing import import_table
from scionlab.api.tables import Runs, tables_of
from scionlab.errors import UserError, listed, unknown


@dataclass(frozen=True)
class ScalingLawFit:
    """L(N, T) = E + A N^−alpha + B T^−beta of one source: N parameters, T tokens, losses in nats per token.

    `E`, `A`, `B`, `alpha`, `beta`  estimates with `value`, `low`, `high` (95%, from resampled points; None where there
                                    is none); None for a term that the points do not have
    `size_exponent`                 a in N* ∝ C^a, beta/(alpha + beta); `tokens_exponent` is 1 − a; None without both
    `status`, `determined`          "ok", or why not to trust it (docs/scaling-laws.md has the list); whether the points
                                    bound all parameters
    `rms`                           root mean square of the residuals, nats
    `held_out`                      how the law fitted without the largest budget does there; None where there is none
    `left_out`                      runs that are no points, by reason
    `warnings`                      what the points leave open, a sentence each
    `points`                        one row a point: n_params, tokens, val_loss, predicted
    `law`                           the same as the analysis has it, with its resamples
    """

    source: str
    E: Estimate | None
    A: Estimate | None
    B: Estimate | None
    alpha: Estimate | None
    beta: Estimate | None
    size_exponent: Estimate | None
    tokens_exponent: Estimate | None
    status: str
    determined: bool
    rms: float | None
    held_out: HeldOut | None
    left_out: Mapping[str, int]
    warnings: tuple[str, ...]
    points: pd.DataFrame = field(repr=False, compare=False)
    law: ScalingLaw = field(repr=False)

    @classmethod
    def of(cls, found: SourceLaw, with_intervals: bool = True) -> "ScalingLawFit":
        """Of a law of the study `scaling-law`, which without intervals cannot tell how far it is determined."""
        law, exponents = found.law, found.exponents or (None, None)
        of = law.parameters.get
        bounded = law.status == "ok" and found.exponents is not None
        return cls(
            source=found.name,
            E=of("E"),
            A=of("A"),
            B=of("B"),
            alpha=of("a"),
            beta=of("b"),
            size_exponent=exponents[0],
            tokens_exponent=exponents[1],
            status=law.status,
            determined=not found.verdict.open if with_intervals else bounded,
            rms=law.rms,
            held_out=law.held_out,
            left_out=found.left_out,
            warnings=law.warnings,
            points=law.points(),
            law=law,
        )

    def predict(self, n_params: ArrayLike, tokens: ArrayLike) -> Floats:
        """Loss in nats per token at N parameters and T tokens: numbers, or arrays of shapes that broadcast.

        UserError where the points were too few for any law.
        """
        predicted: Floats = self.law.predict(n_params, tokens)[()]
        return predicted

    def compute_optimal(self, flops: float) -> Allocation:
        """The best network for C `flops` = 6 N T, above 0: `n_params`, `tokens` and `loss`, estimates with intervals.

        Beyond the points they suppose that the law goes on. UserError where the points do not determine the law.
        """
        if not self.determined:
            raise UserError(
                f"scaling law of {self.source!r}: the points do not determine it ({self.status}), so no network is "
                f"best by it; {'; '.join(self.warnings) or 'add sizes and budgets'}"
            )
        return allocate(self.law, flops)

    def profiles(self) -> Mapping[str, Estimate]:
        """Profile intervals of E, alpha and beta, a likelihood ratio of robust fits, beside the resampled ones."""
        words = {"a": "alpha", "b": "beta"}
        return {words.get(name, name): estimate for name, estimate in self.law.profiles.items()}

    def frame(self) -> pd.DataFrame:
        """One row per parameter and exponent: parameter, value, low, high."""
        names = ("E", "A", "B", "alpha", "beta", "size_exponent", "tokens_exponent")
        rows = [(name, getattr(self, name)) for name in names]
        known = [(name, found.value, found.low, found.high) for name, found in rows if found is not None]
        return pd.DataFrame(known, columns=["parameter", "value", "low", "high"])

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the points."""
        kept = {"source": self.source, "status": self.status, "determined": self.determined, "rms": self.rms}
        parameters = self.frame().set_index("parameter").astype(object)
        estimates = parameters.where(parameters.notna(), None).to_dict("index")
        return {**kept, "parameters": estimates, "left_out": dict(self.left_out), "warnings": list(self.warnings)}


def fit_scaling_law(
    runs: Runs,
    *,
    map: Mapping[str, str] | None = None,
    where: str | Sequence[str] = (),
    source: str | None = None,
    floor: float | None = None,
    seed: int = 0,
    resamples: int = 200,
) -> ScalingLawFit:
    """Fit L(N, T) = E + A N^−alpha + B T^−beta by Huber's loss on log L (Hoffmann et al., arXiv 2203.15556, 3.3).

    `runs`       what `import_table` gave, or takes: a file or a DataFrame with n_params, tokens and val_loss, n rows
                 each, or two of n_params, tokens and flops; or rows of `RunStore.runs()`
    `map`        as in `import_table`, where columns have other names
    `where`      as in `import_table`; by default all rows
    `source`     which method or group, where the table has several; each has a law of its own
    `floor`      a value to hold E at, nats, 0 or more and below all losses; by default it is fitted
    `seed`       of the bootstrap
    `resamples`  of the points, for the intervals; 0 for none

    UserError for what `import_table` refuses, a table of several sources of which none is named, and a floor that is
    not allowed. What the points do not determine is no error: `status` and `warnings` say it.

        law = fit_scaling_law("points.csv", map={"n_params": "Model Size", "val_loss": "loss"})
        law.alpha.value, law.predict(1e9, 2e10), law.compute_optimal(1e21).n_params.value
    """
    if map or where:
        if not isinstance(runs, str | pd.DataFrame) and not hasattr(runs, "__fspath__"):
            raise UserError("map: says how a file or a DataFrame is read, and these runs are imported already")
        runs = import_table(runs, map=map, where=where)
    found = {points.name: points for points in points_of(tables_of(runs).runs)}
    if source is None and len(found) > 1:
        raise UserError(f"source: the table has several, {listed(found)}; name one, or fit('scaling-law', …) all")
    name = next(iter(found)) if source is None else source
    if name not in found:
        raise unknown("source", name, found)
    settings = ScalingLawSettings.parse({"floor": None if floor is None else float(np.asarray(floor))})
    return ScalingLawFit.of(law_of(found[name], settings, seed, resamples), resamples > 0)
