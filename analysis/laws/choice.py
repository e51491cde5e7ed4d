"""Which rules a plan is made by: the main ones and those that what is known of the base speaks for, or those named."""

from collections.abc import Callable, Mapping, Sequence

from analysis.laws.kappa import KappaBst
from analysis.laws.rules import (
    ABSOLUTE,
    RIVALS,
    RULES,
    AbsoluteStepLaw,
    JointRule,
    Need,
    Point,
    PowerLaw,
    Rule,
    bst,
    square_root,
)
from scionlab.errors import UserError, option, unknown, worded

ALL = "all"
# Rules that not every plan can have, and what brings them.
ON_CONDITION: Mapping[str, Callable[[], str]] = {
    "bst-kappa": lambda: f"{option('kappa-batch-exponent')}, or a fit that measured it",
    "power-law": lambda: f"{option('results')} with optima at two budgets or more",
    "joint-law": lambda: f"{option('results')} with a joint-scaling fit, and {option('params')}",
}


def choose_rules(
    mu_ratio: float = 1.0,
    l_ratio: float = 1.0,
    kappa_ratio: float = 1.0,
    n_params: float | None = None,
    kappa: KappaBst | None = None,
    power_law: PowerLaw | None = None,
    base: Point | None = None,
    names: Sequence[str] | None = None,
    joint: JointRule | None = None,
) -> list[Rule]:
    """The rules that the arguments allow, in the order in which they are printed.

    `mu_ratio`, `l_ratio`, `kappa_ratio`  those of `bst`, in it and in the square-root rule
    `n_params`                            of the large run, without embedding: adds the absolute step law
    `kappa`                               BST with κ(B), with the ratios that it is to use
    `power_law`                           the one fitted to runs
    `base`                                where its λ or β₂ is known, rules that move it are added, if that is all
                                          they need
    `names`                               the rules wanted, in the usual order, or "all"; by default `RULES` and what
                                          the other arguments add
    `joint`                               the one fitted to runs of several sizes; it comes first

    By default everything but the ratios is None, which leaves its rules out. UserError for a name that is not known, or
    whose rule cannot be made of the arguments.
    """
    made = (bst(mu_ratio, l_ratio, kappa_ratio), square_root(mu_ratio, l_ratio, kappa_ratio))
    with_ratios = {rule.name: rule for rule in made}
    first, *others = (RULES | with_ratios).values()
    absolute = None if n_params is None else AbsoluteStepLaw(n_params=n_params)
    known = {} if base is None else {Need.WEIGHT_DECAY: base.weight_decay, Need.BETA2: base.beta2}
    added = [rule for rule in RIVALS.values() if _speaks_for(rule, known, base, n_params)]
    usual = [rule for rule in (joint, first, kappa, *others, absolute, *added, power_law) if rule is not None]
    if names is None:
        return usual
    rest = (rule for rule in (RIVALS | ABSOLUTE).values() if rule.name not in {rule.name for rule in usual})
    return _named({rule.name: rule for rule in (*usual, *rest)}, names)


def choose_absolute(joint: JointRule | None = None, names: Sequence[str] | None = None) -> list[Rule]:
    """The rules that need no base, a fitted `joint` law with batch and rate first; `names` as for `choose_rules`."""
    fitted = [joint] if joint is not None and joint.absolute else []
    every: dict[str, Rule] = {rule.name: rule for rule in (*fitted, *ABSOLUTE.values())}
    for name in names or ():
        if name in RULES | RIVALS and name not in every:
            raise UserError(
                f"rules: {name!r} starts from a base, which is not given; give "
                f"{worded('--base-tokens and the others', '`base`')}"
            )
    return _named(every, names or [ALL])


def _named(every: dict[str, Rule], names: Sequence[str]) -> list[Rule]:
    """Those of the names, in the order of `every`."""
    for name in names:
        if name in ON_CONDITION and name not in every:
            raise UserError(f"rules: {name!r} needs {ON_CONDITION[name]()}")
        if name != ALL and name not in every:
            raise unknown("rules", name, [ALL, *every])
    return [rule for name, rule in every.items() if ALL in names or name in names]


def _speaks_for(rule: Rule, known: dict[Need, float | None], base: Point | None, n_params: float | None) -> bool:
    """Whether λ or β₂ is given, the rule moves it, and nothing else is missing."""
    moved = any(known.get(need) is not None for need in rule.moves)
    return moved and base is not None and not rule.lacking(base, n_params)
