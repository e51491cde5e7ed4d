"""A plan for a large run as one call."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.laws.choice import choose_absolute, choose_rules
from analysis.laws.joint import FURTHER
from analysis.laws.kappa import kappa_rule
from analysis.laws.plan import Target, make_plan
from analysis.laws.proposals import Plan
from analysis.laws.rules import Point, Rule
from analysis.laws.start import Start, read_start
from analysis.tables.foreign.questions import LIKE_A_BETA
from scionlab.errors import UserError, argument, option, unknown, worded
from scionlab.runs.where import ResultsPlace

NEEDED = ("tokens", "batch_size", "seq_len", "lr")  # of a base point
# Fields of a base, by the options of the command that say them.
FIELDS = {
    "tokens": "base-tokens",
    "batch_size": "base-batch",
    "seq_len": "base-seq",
    "lr": "base-lr",
    "momentum": "base-momentum",
    "weight_decay": "base-weight-decay",
    "beta2": "base-beta2",
    "n_params": "base-params",
}


def plan(
    tokens: float,
    base: Mapping[str, float] | Point | None = None,
    *,
    results: str | os.PathLike[str] | ResultsPlace | None = None,
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
    depth: float | None = None,
    width: float | None = None,
    rules: str | Sequence[str] | None = None,
) -> Plan:
    """A large run of N parameters and T tokens: what every rule advises, exact and rounded (docs/planning.md).

    `tokens`                budget of the large run, above 0
    `base`                  the tuned small run: {"tokens": T, "batch_size": sequences, "seq_len": tokens, "lr": peak},
                            and `momentum`, the weight of the new gradient, 0.1 by default; `weight_decay`, `beta2`
                            and `n_params` where they are known. With `results` it may hold some of them, in place of
                            the fitted ones. Without base and results `n_params` is needed, and rules are those that
                            speak of N and T alone; `seq_len` may then be given, else it is 2048
    `results`               a folder with a batch-scaling fit to start from (`scionlab fit`), by default none; with
                            `n_params` also with a joint-scaling fit, whose law is then the first rule
    `experiment`            whose fit, where `results` holds several
    `optimizer`             likewise
    `multiple`              sequences that batch sizes are multiples of; by default they are powers of two
    `down`                  whether batch sizes are rounded down; by default they go to the nearest
    `grow_seq`              whether sequences grow, too, by doublings; by default the batch takes all growth
    `mu_ratio`, `l_ratio`, `kappa_ratio`  the constants μ, L and κ of the large run over those of the base; 1 by default
    `kappa_batch_exponent`, `kappa_batch_shift`  of κ(B) = (B + shift)^exponent, B in sequences; by default the measured
                            ones of `results`, else none
    `n_params`              parameters of the large network without embedding, which adds the absolute step law; by
                            default not known
    `depth`, `width`        its blocks and its residual stream, which a joint law with a term of them needs; by default
                            not known
    `rules`                 "all", or names of rules; by default the main ones and what else is given speaks for

    The plan has `proposals`, one a rule with `rule`, `exact`, `rounded`, `interval` and `new_optimum`; `spread`;
    `lead`, the fitted rule that is not far from what was measured; `warnings`; `frame()`, texts to print; `sheet()`,
    Markdown; and `as_dict()`, for JSON. UserError for numbers that are not allowed, a base that lacks one, and results
    that do not settle on one fit.

        plan(10.6e9, {"tokens": 1.3e9, "batch_size": 256, "seq_len": 1024, "lr": 3.6e-4}).frame()
    """
    for name, value in {"tokens": tokens, "mu_ratio": mu_ratio, "l_ratio": l_ratio, "kappa_ratio": kappa_ratio}.items():
        _check(name, value)
    size = {"n_params": n_params, "depth": depth, "width": width}
    known = {name: value for name, value in size.items() if value is not None}
    for name, value in known.items():
        _check(name, value)
    further = {name: float(known[name]) for name in FURTHER if name in known}
    if multiple is not None and (multiple < 1 or multiple != int(multiple)):
        raise UserError(f"multiple: {multiple!r} is not allowed; it must be a positive whole number")
    for name, chosen in (("experiment", experiment), ("only-optimizer", optimizer)):
        if results is None and chosen is not None:
            way = option("results")
            raise UserError(f"{argument(name)}: {chosen!r} chooses among the fits of {way}, which is not given")
    given = base if isinstance(base, Point) else _checked(base or {})
    target = Target(float(tokens), multiple, grow_seq, down, n_params, further=further)
    start = _start(given, results, optimizer, experiment, target)
    names = [rules] if isinstance(rules, str) else rules
    joint = start.joint.rule(further) if start.joint else None
    wanted: list[Rule]
    doubts: list[str] = []
    if start.base is None:
        if kappa_batch_exponent is not None:
            name = argument("kappa-batch-exponent")
            raise UserError(f"{name}: says nothing without a base; BST starts from one")
        wanted = choose_absolute(joint, names)
        alone = given.get("seq_len") if isinstance(given, dict) else None
        target = replace(target, seq_len_alone=float(alone or target.seq_len_alone))
        if alone is None:
            doubts = [f"no sequence length is given: {target.seq_len_alone:g} tokens are taken"]
        if joint is not None and not joint.absolute:
            doubts.append("joint-law is left out: batch sizes have no law, so it needs a base")
    else:
        constants = mu_ratio * kappa_ratio / l_ratio
        measured, fitted = (start.evidence.kappa, start.evidence.power_law) if start.evidence else (None, None)
        shape = (kappa_batch_exponent, kappa_batch_shift)
        kappa, doubts = kappa_rule(measured, *shape, constants, start.base, tokens)
        doubts = [*doubts, *questions_of(start.base)]
        ratios = (mu_ratio, l_ratio, kappa_ratio)
        wanted = choose_rules(*ratios, n_params, kappa, fitted, start.base, names, joint)
    made = make_plan(start.base, target, wanted, start.evidence, start.joint, start.origin)
    return replace(made, warnings=(*made.warnings, *doubts))


def questions_of(base: Point) -> list[str]:
    """Whether the base's momentum is PyTorch's, which is 1 minus the weight of the new gradient."""
    if base.momentum is None or not LIKE_A_BETA <= base.momentum < 1:
        return []
    return [
        f"momentum {base.momentum:g} is taken as the weight of the new gradient; what PyTorch calls momentum or beta1 "
        "is 1 minus it"
    ]


def _said(name: str) -> str:
    """What a message that is about a field of the base begins with."""
    return worded(f"{FIELDS[name]}:", f"base: {name}")


def _check_whole(given: Mapping[str, float], n_params: float | None) -> None:
    """UserError for a base, without results, that lacks something; with `n_params` there may be none at all."""
    missing = [name for name in NEEDED if name not in given]
    if missing and not (n_params is not None and set(given) <= {"seq_len"}):
        *first, last = (worded(f"--{FIELDS[name]}", name) for name in NEEDED)
        way = worded("--results; or --params alone", "`results` to take them from; or `n_params` alone")
        give = f"give all of {', '.join(first)} and {last}{worded('', ' of `base`')}, or {way}"
        raise UserError(f"{_said(missing[0])} is missing; {give}, for laws of N and T")


def _checked(base: Mapping[str, float]) -> dict[str, float]:
    """A copy; UserError for fields that there are not, and values that they cannot have."""
    for name, value in base.items():
        if name not in FIELDS:
            raise unknown("base", name, FIELDS)
        _check(f"base: {name}", value)
    if base.get("momentum", 0.0) > 1:
        limit = "the weight of the new gradient is at most 1"
        raise UserError(f"{_said('momentum')} {base['momentum']:g} is not allowed; {limit}")
    if base.get("beta2", 0.0) >= 1:
        raise UserError(f"{_said('beta2')} {base['beta2']:g} is not allowed; it must be below 1")
    return dict(base)


def _start(
    given: dict[str, float] | Point,
    results: str | os.PathLike[str] | ResultsPlace | None,
    optimizer: str | None,
    experiment: str | None,
    target: Target,
) -> Start:
    """What is given, and what `results` hold where that is silent."""
    start = Start(None)
    if results is not None:
        start = read_start(ResultsPlace.of(results).folder, optimizer, experiment, target.resources)
    if isinstance(given, Point):
        return replace(start, base=given, origin="")
    if start.base is None:
        _check_whole(given, target.n_params)
        whole = set(NEEDED) <= set(given)
        return replace(start, base=Point(**given)) if whole else start
    if start.evidence is None and "seq_len" in given and "batch_size" not in given:
        given = {"batch_size": float(start.base.batch_tokens) / given["seq_len"], **given}  # the tokens a step stay
    origin = start.origin
    if origin and given:
        origin = "" if set(NEEDED) <= set(given) else f"{origin}; given values replace its own"
    return replace(start, base=replace(start.base, **given), origin=origin)


def _check(name: str, value: float) -> None:
    """UserError for what is no finite number above 0."""
    try:
        allowed = math.isfinite(value) and value > 0
    except TypeError:
        allowed = False
    if not allowed:
        raise UserError(f"{name}: {value!r} is not allowed; it must be a finite number above 0")
