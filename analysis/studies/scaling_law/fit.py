"""L(N, T) of every method or source of a table, from network sizes, tokens and losses alone."""

from dataclasses import replace

import numpy as np

from analysis.fits.outcomes import SETTLED, Lacks, Missing, Outcome
from analysis.laws.compute_optimal import allocate
from analysis.laws.points import Points, points_of
from analysis.laws.scaling_laws import CHINCHILLA, RESAMPLES, ScalingLaw, fit_chinchilla
from analysis.studies.scaling_law.result import ScalingLaws, SourceLaw
from analysis.studies.scaling_law.settings import ScalingLawSettings
from analysis.tables.sweep import SweepTables

BEYOND = (1.0, 10.0, 100.0)  # times the largest measured number of operations
LACKS = {
    "collinear": Lacks.of([Missing.SIZES]),
    "undetermined": Lacks.of([Missing.SIZES, Missing.BUDGETS]),
    "too few": Lacks.of([Missing.SIZES, Missing.BUDGETS]),
    "E undetermined": Lacks.of([Missing.BUDGETS]),
}


def fit_scaling_laws(tables: SweepTables, seed: int = 0) -> ScalingLaws:
    """Fit a law to every method's or source's points (`analysis.laws.points`); `seed` is the bootstrap's.

    UserError for runs without sizes, and for a floor that is not below all losses of a source.
    """
    settings = ScalingLawSettings.parse(tables.settings)
    return ScalingLaws(tuple(law_of(points, settings, seed) for points in points_of(tables.runs)))


def law_of(points: Points, settings: ScalingLawSettings, seed: int = 0, resamples: int = RESAMPLES) -> SourceLaw:
    """The law of one method's or source's points; `seed` and `resamples` are the bootstrap's."""
    frame = points.frame
    law = fit_chinchilla(frame["n_params"], frame["tokens"], frame["val_loss"], seed, resamples, settings.floor)
    law = replace(law, warnings=(*points.mixed, *law.warnings))
    complete = len(law.terms) == len(CHINCHILLA.terms)
    flops = settings.flops or tuple(float(frame["flops"].max()) * factor for factor in BEYOND)
    verdict, lacks = _verdict(law)
    return SourceLaw(
        name=points.name,
        law=law,
        allocations=tuple(allocate(law, at) for at in np.sort(flops)) if complete and not lacks.missing else (),
        left_out=points.left_out,
        verdict=verdict,
        lacks=lacks,
    )


def _verdict(law: ScalingLaw) -> tuple[Outcome, Lacks]:
    if law.status in LACKS:
        return Outcome.CANNOT_TELL, LACKS[law.status]
    if law.allocation is None or law.allocation.low is None:
        return Outcome.CANNOT_TELL, Lacks.of([Missing.SIZES, Missing.BUDGETS])
    return Outcome.DETERMINED, SETTLED
