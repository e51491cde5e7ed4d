"""A plan for a large run as one call."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from analysis.laws.choice import choose_rules
from analysis.laws.evidence import Evidence, read_evidence
from analysis.laws.kappa import kappa_rule
from analysis.laws.plan import Plan, Target, make_plan
from analysis.laws.rules import Point
from analysis.tables.foreign.questions import LIKE_A_BETA
from scionlab.errors import UserError, unknown
from scionlab.runs.where import ResultsPlace

NEEDED = ("tokens", "batch_size", "seq_len", "lr")  # of a base point


def plan(
    tokens: float,
    base: Mapping[str, float] | Point | None = None,
    *,
    results: str | os.PathLike[str] | None = None,
    experiment: str | None = None,
    optimizer: str | None = None,
    multiple: int | None = None,
    down: bool = False,
    grow_seq: bool = False,
    mu_ratio: float = 1.0,
    l_ratio: float = 1.0,
    kappa_ratio: float = 1.0,
    kappa_batch_exponent: float | None = None,
    kappa_batch_shift: float | None = None,
    n_params: float | None = None,
    rules: Sequence[str] | None = None,
) -> Plan:
    """Carry a tuned run to a larger token budget: what every rule advises, exact and rounded (docs/planning.md).

    `tokens`                budget of the large run, above 0
    `base`                  the tuned small run: {"tokens": T, "batch_size": sequences, "seq_len": tokens, "lr": peak},
                            and `momentum`, the weight of the new gradient, 0.1 by default. With `results` it may hold
                            some of them, in place of the fitted ones
    `results`               a folder with a batch-scaling fit to start from (`scionlab fit`), by default none
    `experiment`            whose fit, where `results` holds several
    `optimizer`             likewise
    `multiple`              sequences that batch sizes are multiples of; by default they are powers of two
    `down`                  whether batch sizes are rounded down; by default they go to the nearest
    `grow_seq`              whether sequences grow, too, by doublings; by default the batch takes all growth
    `mu_ratio`, `l_ratio`, `kappa_ratio`  the constants μ, L and κ of the large run over those of the base; 1 by default
    `kappa_batch_exponent`, `kappa_batch_shift`  of κ(B) = (B + shift)^exponent, B in sequences; by default the measured
                            ones of `results`, else none
    `n_params`              parameters without embedding, which adds the absolute step law; by default it is left out
    `rules`                 names of the rules wanted, or ["all"]; by default the usual ones and what `base` allows

    The plan has `proposals`, one a rule with `rule`, `exact`, `rounded` and `interval`; `warnings`; `frame()`, texts to
    print; and `as_dict()`, for JSON. UserError for numbers that are not allowed, a base that lacks one, and results
    that do not settle on one fit.

        plan(10.6e9, {"tokens": 1.3e9, "batch_size": 256, "seq_len": 1024, "lr": 3.6e-4}).frame()
    """
    for name, value in {"tokens": tokens, "mu_ratio": mu_ratio, "l_ratio": l_ratio, "kappa_ratio": kappa_ratio}.items():
        _check(name, value)
    if n_params is not None:
        _check("n_params", n_params)
    if multiple is not None and (multiple < 1 or multiple != int(multiple)):
        raise UserError(f"multiple: {multiple!r} is not allowed; it must be a positive whole number")
    for name, chosen in (("experiment", experiment), ("optimizer", optimizer)):
        if results is None and chosen is not None:
            raise UserError(f"{name}: {chosen!r} chooses among the fits of results, which is not given")
    evidence = None
    if results is not None:
        evidence = read_evidence(ResultsPlace.of(results).folder, optimizer, experiment)
    start = _base(base, evidence)
    constants = mu_ratio * kappa_ratio / l_ratio
    measured = evidence.kappa if evidence else None
    kappa, doubts = kappa_rule(measured, kappa_batch_exponent, kappa_batch_shift, constants, start, tokens)
    power_law = evidence.power_law if evidence else None
    chosen_rules = choose_rules(mu_ratio, l_ratio, kappa_ratio, n_params, kappa, power_law, start, rules)
    made = make_plan(start, Target(float(tokens), multiple, grow_seq, down, n_params), chosen_rules, evidence)
    return replace(made, warnings=(*made.warnings, *doubts, *questions_of(start)))


def questions_of(base: Point) -> list[str]:
    """Whether the base's momentum is PyTorch's, which is 1 minus the weight of the new gradient."""
    if base.momentum is None or not LIKE_A_BETA <= base.momentum < 1:
        return []
    return [
        f"momentum {base.momentum:g} is taken as the weight of the new gradient; what PyTorch calls momentum or beta1 "
        "is 1 minus it"
    ]


def _base(base: Mapping[str, float] | Point | None, evidence: Evidence | None) -> Point:
    """The base point, the fit's where it is silent."""
    if isinstance(base, Point):
        return base
    given = dict(base or {})
    names = [each.name for each in fields(Point)]
    for name, value in given.items():
        if name not in names:
            raise unknown("base", name, names)
        _check(f"base: {name}", value)
    if given.get("momentum", 0.0) > 1:
        raise UserError(
            f"base: momentum {given['momentum']:g} is not allowed; the weight of the new gradient is at most 1"
        )
    if evidence is not None:
        return replace(evidence.base, **given)
    missing = [name for name in NEEDED if name not in given]
    if missing:
        raise UserError(f"base: {missing[0]} is missing; give {', '.join(NEEDED)}, or results to take them from")
    return Point(**given)


def _check(name: str, value: float) -> None:
    """UserError for what is no finite number above 0."""
    try:
        allowed = math.isfinite(value) and value > 0
    except TypeError:
        allowed = False
    if not allowed:
        raise UserError(f"{name}: {value!r} is not allowed; it must be a finite number above 0")
