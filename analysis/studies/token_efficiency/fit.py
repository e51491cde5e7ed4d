"""Tokens that methods need to the same loss, as ratios to those of one of them.

    ratio(ℓ) = T_reference(ℓ) / T_method(ℓ)        above 1 the method needs fewer tokens

at every size and at losses that both come to between their budgets, each at its own best settings. All ratios of a
table are judged together: an interval is the ratio's logarithm ± width · scale, with one width for all, within which
all of them stay in 95% of the draws (`analysis.fits.simultaneous`). Where a best setting ends its grid nothing is
claimed. Over sizes the ratio has a power law, log ratio = c + s log N: whether an advantage vanishes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.fits.intervals import CONFIDENCE, TAIL, Estimate
from analysis.fits.log_line import log_line
from analysis.fits.outcomes import SETTLED, Lacks, Missing, Outcome
from analysis.fits.seeds import more_seeds
from analysis.fits.simultaneous import width_of
from analysis.laws.critical_batch import QUARTERS
from analysis.studies.token_efficiency.curves import MethodCurve, curves_of, reference_of
from analysis.studies.token_efficiency.result import LAW, Ratio, SizeLaw, TokenEfficiency
from analysis.studies.token_efficiency.settings import TokenEfficiencySettings
from analysis.tables.arrays import Floats
from analysis.tables.sweep import SweepTables


@dataclass(frozen=True)
class _Drawn:
    """A ratio as read, in logarithms: its value, and draws (R,) about it, NaN where one of the two does not come there.

    None without noise, and where too many draws are NaN.
    """

    value: float
    about: Floats | None


@dataclass(frozen=True)
class _Pair:
    """A ratio with what it is read from, before all are judged."""

    ratio: Ratio
    curves: tuple[MethodCurve, MethodCurve]
    between: _Drawn | None = None
    law: _Drawn | None = None

    def of(self, curve: str) -> _Drawn | None:
        """By the law, or between budgets."""
        return self.law if curve == LAW else self.between

    @property
    def missing(self) -> list[Missing]:
        """Of the two methods' tuning."""
        return [kind for curve in self.curves for kind in curve.missing]


def fit_token_efficiency(tables: SweepTables, seed: int = 0) -> TokenEfficiency:
    """Compare every method of the runs with the reference; `seed` is the bootstrap's.

    UserError for fewer than two methods, an unknown reference, and what `curves_of` refuses.
    """
    settings = TokenEfficiencySettings.parse(tables.settings)
    curves = curves_of(tables.runs, settings, seed)
    reference = reference_of((curve.method for curve in curves), settings)
    others = [curve for curve in curves if curve.method != reference]
    pairs = [pair for curve in others for pair in _pairs(curve, curves, reference, settings)]
    widths = {of: _width([pair.of(of) for pair in pairs if not pair.missing]) for of in ("interpolation", LAW)}
    judged = [_judged(pair, widths, settings) for pair in pairs]
    return TokenEfficiency(
        settings=settings,
        reference=reference,
        curves=tuple(curves),
        ratios=tuple(judged),
        sizes=tuple(_size_laws([replace(p, ratio=r) for p, r in zip(pairs, judged, strict=True)], settings)),
    )


def _pairs(
    curve: MethodCurve, curves: Sequence[MethodCurve], reference: str, settings: TokenEfficiencySettings
) -> list[_Pair]:
    """A method's ratios at one size; none where the reference has no runs of that size."""
    other = next((c for c in curves if c.method == reference and c.n_params == curve.n_params), None)
    if other is None:
        return []
    low, high = (pick(ends) for pick, ends in ((max, _ends(curve, other, 0)), (min, _ends(curve, other, 1))))
    losses = sorted(settings.losses or [low + share * (high - low) for share in QUARTERS], reverse=True)
    if not settings.losses and low >= high:
        why = f"no loss is reached by both: {_reach(curve)}, {_reach(other)}"
        return [_Pair(Ratio(curve.method, curve.n_params, None, why=why), (curve, other))]
    at = np.array(losses)
    measured = other.curve.between(at)
    between = [_difference(*each) for each in zip(_columns(measured), _columns(curve.curve.between(at)), strict=True)]
    laws: list[_Drawn | None] = [None] * len(at)
    if curve.law is not None and other.law is not None:
        of = zip(_columns(other.law.log_tokens(at)), _columns(curve.law.log_tokens(at)), strict=True)
        laws = [_difference(*each) for each in of]
    found = []
    for i, loss in enumerate(losses):
        reached = between[i] is not None
        tokens = float(np.exp(measured[0][i])) if reached else None
        why = "" if reached else f"not reached by both between their budgets: {_reach(curve)}, {_reach(other)}"
        ratio = Ratio(curve.method, curve.n_params, float(loss), tokens, why=why)
        found.append(_Pair(ratio, (curve, other), between[i], laws[i] if reached else None))
    return found


def _ends(curve: MethodCurve, other: MethodCurve, end: int) -> tuple[float, float]:
    return curve.curve.reach[end], other.curve.reach[end]


def _reach(of: MethodCurve) -> str:
    low, high = of.curve.reach
    return f"{of.method} has {high:.4g} to {low:.4g}"


Column = tuple[float, Floats | None]


def _columns(read: tuple[Floats, Floats | None]) -> list[Column]:
    """A value and its draws for every loss."""
    values, drawn = read
    return [(float(value), None if drawn is None else drawn[:, i]) for i, value in enumerate(values)]


def _difference(reference: Column, method: Column) -> _Drawn | None:
    """log of the ratio; None where one of the two does not come to the loss."""
    value = reference[0] - method[0]
    if not np.isfinite(value):
        return None
    if reference[1] is None or method[1] is None:
        return _Drawn(value, None)
    count = min(len(reference[1]), len(method[1]))
    drawn = reference[1][:count] - method[1][:count]
    if np.isfinite(drawn).mean() < 1 - TAIL:
        return _Drawn(value, None)
    return _Drawn(value, drawn - np.nanmedian(drawn))


def _width(read: Sequence[_Drawn | None]) -> float | None:
    """The width that all ratios share; None without draws."""
    known = [each.about for each in read if each is not None and each.about is not None]
    if not known:
        return None
    count = min(map(len, known))
    return width_of(np.stack([about[:count] for about in known], axis=1))


def _estimate(read: _Drawn | None, width: float | None) -> Estimate | None:
    """log of the ratio with its simultaneous interval."""
    if read is None:
        return None
    if read.about is None or width is None:
        return Estimate(read.value)
    half = width * float(np.nanmedian(np.abs(read.about)))
    return Estimate(read.value, read.value - half, read.value + half)


def _judged(pair: _Pair, widths: dict[str, float | None], settings: TokenEfficiencySettings) -> Ratio:
    """The ratio by both readings with its verdict, by the chosen one."""
    logs = {of: _estimate(pair.of(of), width) for of, width in widths.items()}
    chosen, ratio = logs[settings.curve], pair.ratio
    read = {of: known and known.exp() for of, known in logs.items()}
    found = replace(ratio, between=read["interpolation"], law=read[LAW])
    if chosen is None:
        few = ratio.why or "too few budgets for the law"
        return replace(found, why=few, lacks=Lacks.of([Missing.LONGER, *pair.missing]))
    if pair.missing:
        return replace(found, why=_doubt(pair), lacks=Lacks.of(pair.missing))
    outcome = _outcome(chosen)
    n_seeds = min(curve.n_seeds for curve in pair.curves)
    if not outcome.open:
        return replace(found, verdict=outcome, lacks=SETTLED)
    if chosen.low is None:
        return replace(found, why="how noisy the losses are is not known", lacks=more_seeds(n_seeds))
    return replace(found, why="the interval holds ×1", lacks=more_seeds(n_seeds, chosen, _outcome))


def _outcome(logarithm: Estimate) -> Outcome:
    if logarithm.low is None or logarithm.high is None:
        return Outcome.CANNOT_TELL
    if logarithm.low > 0:
        return Outcome.BETTER
    return Outcome.WORSE if logarithm.high < 0 else Outcome.CANNOT_TELL


def _doubt(pair: _Pair) -> str:
    """Whose best settings end their grids, at how many budgets."""
    parts = [
        f"{curve.method} at {count} of {len(curve.untuned)} budgets"
        for curve in pair.curves
        if (count := sum(map(bool, curve.untuned)))
    ]
    return f"not tuned, as the best setting ends its grid or is the only one: {'; '.join(parts)}"


def _size_laws(pairs: Sequence[_Pair], settings: TokenEfficiencySettings) -> list[SizeLaw]:
    """The ratio at the lowest loss of every size over sizes, of the methods that have several."""
    methods = list(dict.fromkeys(pair.ratio.method for pair in pairs if pair.ratio.n_params is not None))
    of = {method: _lowest([p for p in pairs if p.ratio.method == method], settings) for method in methods}
    several = {method: found for method, found in of.items() if len({p.ratio.n_params for p in found}) > 1}
    level = 1 - (1 - CONFIDENCE) / max(1, len(several))  # Bonferroni, as claims of a comparison
    return [_size_law(method, found, settings, level) for method, found in several.items()]


def _lowest(pairs: Sequence[_Pair], settings: TokenEfficiencySettings) -> list[_Pair]:
    """At every size the ratio at the lowest loss that can be read, of tuned methods."""
    found: dict[float | None, _Pair] = {}
    for pair in pairs:
        if pair.of(settings.curve) is not None and not pair.missing:
            found[pair.ratio.n_params] = pair  # losses descend
    return list(found.values())


def _size_law(method: str, pairs: Sequence[_Pair], settings: TokenEfficiencySettings, level: float) -> SizeLaw:
    sizes = np.array([float(pair.ratio.n_params or 1.0) for pair in pairs])
    read = [each for pair in pairs if (each := pair.of(settings.curve)) is not None]
    known = [each.value + each.about for each in read if each.about is not None]
    drawn = None
    if len(known) == len(read):
        drawn = np.stack([each[: min(map(len, known))] for each in known], axis=1)
        drawn = np.exp(drawn[np.isfinite(drawn).all(axis=1)])
    line = log_line([sizes], np.exp([each.value for each in read]), drawn, [sizes.max()], level=level)
    assert line is not None, "two sizes make a line"
    exponent, last = line.exponents[0], line.at_reference
    lacks = Lacks.of([Missing.SIZES])
    if exponent.low is None or exponent.high is None or exponent.low <= 0 <= exponent.high:
        return SizeLaw(method, exponent, last, float(sizes.max()), len(sizes), lacks=lacks)
    shrinks = (exponent.value < 0) == (last.value > 1)
    return SizeLaw(
        method, exponent, last, float(sizes.max()), len(sizes), Outcome.SHRINKS if shrinks else Outcome.GROWS, SETTLED
    )
