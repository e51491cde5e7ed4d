"""Laws of the best learning rate, batch size and the like in N and T together, by every reading of the optimum."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.fits.outcomes import SETTLED, Lacks, Missing, Outcome
from analysis.laws.joint import BATCH_TOKENS, LR, JointLaw, fit_joint
from analysis.studies.joint_scaling.places import BESIDE, UNITS, Place, Source, sources_of
from analysis.studies.joint_scaling.readings import (
    AS_GIVEN,
    AT_END,
    BATCHES_END,
    BESIDE_DIVERGENCE,
    RATES_END,
    Optimum,
    read_place,
)
from analysis.studies.joint_scaling.result import BestSetting, JointScaling, PlaceOptimum, ReadLaw, SourceJoint
from analysis.studies.joint_scaling.settings import JointScalingSettings
from analysis.tables.arrays import Floats
from analysis.tables.sweep import SweepTables


def fit_joint_scaling(tables: SweepTables, seed: int = 0) -> JointScaling:
    """Read every place of every method or source, and fit the laws; `seed` is that of drawn curves.

    UserError for missing columns, runs without sizes or rates, nothing that trained, or two runs of one setting.
    """
    settings = JointScalingSettings.parse(tables.settings)
    sources = sources_of(tables.runs, settings.further, seed)
    return JointScaling(tuple(_joint(source, settings) for source in sources), settings.tolerance)


def _joint(source: Source, settings: JointScalingSettings) -> SourceJoint:
    read = [read_place(place, source.swept, settings.bands) for place in source.places]
    chosen = settings.chosen if source.swept else AS_GIVEN
    laws = []
    names = dict.fromkeys((o.quantity, o.reading) for optima in read for o in optima)
    for quantity, reading in sorted(names, key=lambda name: source.quantities.index(name[0])):
        pairs = [
            (place, optimum)
            for place, optima in zip(source.places, read, strict=True)
            for optimum in optima
            if (optimum.reading, optimum.quantity) == (reading, quantity)
        ]
        laws.append(_law(reading, quantity, pairs, settings))
    return SourceJoint(
        name=source.name,
        reading=chosen,
        laws=tuple(laws),
        optima=tuple(
            PlaceOptimum.of(place, optimum)
            for place, optima in zip(source.places, read, strict=True)
            for optimum in optima
        ),
        n_places=len(source.places),
        notes=source.notes,
        left_out=source.left_out,
        settings=tuple(
            setting
            for place, optima in zip(source.places, read, strict=True)
            for setting in _setting(place, [o for o in optima if o.reading == chosen], source.shared)
        ),
    )


def _setting(place: Place, optima: Sequence[Optimum], shared: Mapping[str, float]) -> list[BestSetting]:
    """The best setting of a place, of what was not swept the one value; none where some optimum does not count."""
    found = {optimum.quantity: float(2**optimum.log2.value) for optimum in optima}
    for quantity in BESIDE:
        values = place.values(quantity)
        if quantity not in found and len(values) == 1 and np.isfinite(values[0]):
            found[quantity] = float(2 ** values[0])
    if any(optimum.why for optimum in optima) or not {LR, BATCH_TOKENS} <= set(found):
        return []
    further = {name: value for name, value in place.further.items() if np.isfinite(value)}
    return [BestSetting(n_params=place.n_params, tokens=place.tokens, **found, **shared, **further)]


def _law(
    reading: str, quantity: str, pairs: Sequence[tuple[Place, Optimum]], settings: JointScalingSettings
) -> ReadLaw:
    kept = [(place, optimum) for place, optimum in pairs if not optimum.why]
    values = np.array([2**optimum.log2.value for _, optimum in kept])
    resources = _resources([place for place, _ in kept], settings.further)
    law = fit_joint(quantity, values, resources, UNITS[quantity]) if kept else None
    without = None
    if law is not None and law.term("n_params") is not None:
        # Width and depth, which go with N, must not take its part.
        rest = {term.resource: resources[term.resource] for term in law.terms if term.resource != "n_params"}
        without = fit_joint(quantity, values, rest, UNITS[quantity]) if rest else None
    left_out = Counter(optimum.why for _, optimum in pairs if optimum.why)
    verdict = judge(law, settings.tolerance)
    return ReadLaw(
        reading=reading,
        quantity=quantity,
        law=law,
        without_n=without,
        n_places=len(pairs),
        left_out=dict(left_out),
        cut=sum(optimum.cut for _, optimum in kept),
        noise=_noise([optimum for _, optimum in kept]),
        verdict=verdict,
        lacks=_lacks(law, left_out, quantity) if verdict.open else SETTLED,
    )


def judge(law: JointLaw | None, tolerance: float) -> Outcome:
    """Whether N's term is needed; `tolerance` are octaves of y, over the measured sizes, that do not matter."""
    reach = None if law is None else law.reach("n_params")
    if law is None or reach is None:
        return Outcome.CANNOT_TELL
    if reach <= tolerance:
        return Outcome.NOT_NEEDED
    return Outcome.NEEDED if law.sure("n_params") else Outcome.CANNOT_TELL


def _resources(places: Sequence[Place], further: Sequence[str]) -> dict[str, Floats]:
    """What a law is over: N, T, and further resources that all places know."""
    known = [name for name in further if places and all(place.further.get(name, np.nan) > 0 for place in places)]
    return {
        "n_params": np.array([place.n_params for place in places]),
        "tokens": np.array([place.tokens for place in places]),
        **{name: np.array([place.further[name] for place in places]) for name in known},
    }


def _noise(optima: Sequence[Optimum]) -> float | None:
    """Root mean square, in octaves, of a quarter of the optima's own intervals; None where none is known."""
    widths = [o.log2.high - o.log2.low for o in optima if o.log2.low is not None and o.log2.high is not None]
    return float(np.sqrt(np.mean(np.square(widths)))) / 4 if widths else None


def _lacks(law: JointLaw | None, left_out: Counter[str], quantity: str) -> Lacks:
    """Why N's part is open: optima at a grid's end, one size, sizes that go with tokens, or too few of either."""
    beyond = {LR: Missing.RATES_BEYOND, BATCH_TOKENS: Missing.BATCHES}.get(quantity, Missing.VALUES_BEYOND)
    of = {
        AT_END: beyond,
        RATES_END: Missing.RATES_BEYOND,
        BATCHES_END: Missing.BATCHES,
        BESIDE_DIVERGENCE: Missing.RATES_CLOSER,
    }
    missing = [of[why] for why in left_out if why in of]
    few = law is None or law.term("tokens") is None
    return Lacks.of([*missing, Missing.SIZES, *([Missing.BUDGETS] if few else [])])
