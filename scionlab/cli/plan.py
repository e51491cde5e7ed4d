"""`scionlab plan`: batch size, sequence length, learning rate and steps of a large run, by every rule."""

import json
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scionlab.cli.completion import complete_stored
from scionlab.cli.options import ByOption, Json, app, err, one_name, out
from scionlab.errors import UserError
from scionlab.runs.where import ResultsPlace

if TYPE_CHECKING:
    from analysis.laws.evidence import Evidence
    from analysis.laws.kappa import KappaBst
    from analysis.laws.plan import Plan, Target
    from analysis.laws.rules import Point

DOWN = "floor:"
SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def _quantity(text: str) -> Any:
    """An option that `number` reads."""
    return typer.Option(metavar="NUMBER", help=text)


@app.command()
def plan(
    tokens: Annotated[str, _quantity("token budget of the large run: 10.6e9, 10.6B or 2^33")],
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="of which experiment, where --results holds fits of several", autocompletion=complete_stored
        ),
    ] = None,
    base_tokens: Annotated[str | None, _quantity("token budget of the tuned small run")] = None,
    base_batch: Annotated[str | None, _quantity("its batch size, sequences a step")] = None,
    base_seq: Annotated[str | None, _quantity("its sequence length, tokens")] = None,
    base_lr: Annotated[str | None, _quantity("its peak learning rate")] = None,
    base_momentum: Annotated[
        str | None, _quantity("weight of the new gradient, kept by most rules; default: the fit's, or 0.1")
    ] = None,
    base_weight_decay: Annotated[
        str | None, _quantity("its weight decay λ, a step shrinks by lr·λ: adds the rules that move it")
    ] = None,
    base_beta2: Annotated[
        str | None, _quantity("its β2, the weight of the old average of squares: adds the rules that move it")
    ] = None,
    base_params: Annotated[
        str | None, _quantity("its parameters without embedding, for rules in which N grows to --params")
    ] = None,
    results: Annotated[
        ResultsPlace | None,
        typer.Option(
            "--results",
            "--from",
            parser=ResultsPlace.of,
            metavar="FOLDER|URL",
            help="start from the batch-scaling fit of these results",
        ),
    ] = None,
    only_optimizer: Annotated[str | None, typer.Option(help="whose fit, where --results holds several")] = None,
    round_: Annotated[
        str,
        typer.Option(
            "--round",
            metavar="[floor:]pow2|N",
            help="batch size to the nearest power of two or multiple of N; with floor: to the next below",
        ),
    ] = "pow2",
    grow_seq: Annotated[
        bool,
        typer.Option(
            "--grow-seq/--keep-seq",
            help="share growth between batch size and sequence length: the latter doubles with every factor 4",
        ),
    ] = False,
    mu_ratio: Annotated[str, _quantity("BST: the constant μ of the large run over that of the base")] = "1",
    l_ratio: Annotated[str, _quantity("BST: the same ratio of the smoothness L")] = "1",
    kappa_ratio: Annotated[
        str, _quantity("BST: the same ratio of κ; with κ(B) given, of what is not due to the batch")
    ] = "1",
    kappa_batch_exponent: Annotated[
        str | None, _quantity("BST: exponent of κ(B) = (B + shift)^exponent, B in sequences; below 1.5")
    ] = None,
    kappa_batch_shift: Annotated[
        str | None, _quantity("BST: shift of κ(B), sequences; below 0 only where base batch + shift is above 0")
    ] = None,
    params: Annotated[str | None, _quantity("parameters without embedding: adds the absolute step law")] = None,
    rules: Annotated[
        str | None,
        typer.Option(metavar="all|NAME,NAME", help="which rules; default: the main ones and what other options add"),
    ] = None,
    as_json: Json = False,
    option: ByOption = None,
    optimizer: Annotated[str | None, typer.Option(hidden=True)] = None,  # the first name of --only-optimizer
) -> None:
    """Carry a tuned run to a larger token budget: what every rule advises, exact and rounded.

    The learning rate is the rule's for the rounded batch size. Momentum, weight decay and β2 stay, unless a rule moves
    them. Base options given together with --results replace the fitted ones.

    Examples:

      scionlab plan --tokens 10.6e9 --base-tokens 1.3e9 --base-batch 256 --base-seq 1024 --base-lr 3.6e-4

      scionlab plan batch --tokens 300M --results results --only-optimizer scion --round 8 --grow-seq
    """
    from analysis.laws.choice import choose_rules
    from analysis.laws.evidence import read_evidence
    from analysis.laws.plan import Target, make_plan

    n_params = None if params is None else positive("params", params)
    down = round_.startswith(DOWN)
    target = Target(positive("tokens", tokens), _multiple(round_), grow_seq, down, n_params)
    experiment = one_name(experiment, option)
    only = one_name(only_optimizer, optimizer, "only-optimizer", "--optimizer")
    for what, chosen in (("only-optimizer", only), ("experiment", experiment)):
        if results is None and chosen is not None:
            raise UserError(f"{what}: {chosen!r} chooses among the fits of --results, which is not given")
    evidence = read_evidence(results.folder, only, experiment) if results else None
    base = _base(
        evidence,
        {
            "tokens": ("base-tokens", base_tokens),
            "batch_size": ("base-batch", base_batch),
            "seq_len": ("base-seq", base_seq),
            "lr": ("base-lr", base_lr),
            "momentum": ("base-momentum", base_momentum),
            "weight_decay": ("base-weight-decay", base_weight_decay),
            "beta2": ("base-beta2", base_beta2),
            "n_params": ("base-params", base_params),
        },
    )
    mu, smoothness = positive("mu-ratio", mu_ratio), positive("l-ratio", l_ratio)
    norm_ratio = positive("kappa-ratio", kappa_ratio)
    constants = mu * norm_ratio / smoothness
    kappa, doubt = _kappa(evidence, kappa_batch_exponent, kappa_batch_shift, constants, base, target.tokens)
    power_law = evidence.power_law if evidence else None
    wanted = choose_rules(mu, smoothness, norm_ratio, n_params, kappa, power_law, base, _names(rules))
    made = make_plan(base, target, wanted, evidence)
    made = replace(made, warnings=(*made.warnings, *doubt, *_question(base)))
    if as_json:
        typer.echo(json.dumps(made.as_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _print(made, target)


def number(option: str, text: str) -> float:
    """10.6e9, 10.6B, 300M or 2^33 (also 2**33) as a finite number; a UserError that names the option otherwise."""
    power = re.fullmatch(r"([0-9.]+)(?:\^|\*\*)([-+]?[0-9.]+)", text.strip())
    plain = re.fullmatch(r"([-+]?[0-9_.]+(?:e[-+]?[0-9]+)?)([kmbgt]?)", text.strip().lower())
    try:
        if power:
            value = float(power[1]) ** float(power[2])
        else:
            value = float(plain[1]) * SUFFIXES[plain[2]] if plain else float(text)
    except (ValueError, ArithmeticError):
        raise UserError(f"{option}: {text!r} is not a number; write it like 10.6e9, 10.6B, 300M or 2^33") from None
    if not math.isfinite(value):
        raise UserError(f"{option}: {text!r} is not a finite number")
    return value


def positive(option: str, text: str) -> float:
    """A `number` above 0."""
    value = number(option, text)
    if value <= 0:
        raise UserError(f"{option}: {text!r} is not allowed; it must be above 0")
    return value


def _multiple(text: str) -> int | None:
    """The N of `N` and `floor:N`; None for a power of two."""
    rounding = text.removeprefix(DOWN)
    if rounding == "pow2":
        return None
    if not re.fullmatch(r"0*[1-9][0-9]{0,11}", rounding):
        raise UserError(
            f"round: {text!r} is not allowed; it must be pow2 or a positive whole number, or floor: and one of these"
        )
    return int(rounding)


def _names(rules: str | None) -> list[str] | None:
    """The names of `NAME,NAME`; None where none is asked for."""
    if rules is None:
        return None
    names = [name.strip() for name in rules.split(",") if name.strip()]
    if not names:
        raise UserError(f"rules: {rules!r} is not allowed; it must be all, or names with commas between")
    return names


def _base(evidence: "Evidence | None", options: dict[str, tuple[str, str | None]]) -> "Point":
    """The base point from options {field: (option, text)}, the fit's where they are silent."""
    from analysis.laws.rules import Point

    given = {field: positive(option, text) for field, (option, text) in options.items() if text is not None}
    if given.get("momentum", 0.0) > 1:
        raise UserError(
            f"base-momentum: {given['momentum']:g} is not allowed; the weight of the new gradient is at most 1"
        )
    if given.get("beta2", 0.0) >= 1:
        raise UserError(f"base-beta2: {given['beta2']:g} is not allowed; it must be below 1")
    if evidence is not None:
        return replace(evidence.base, **given)
    missing = [options[field][0] for field in ("tokens", "batch_size", "seq_len", "lr") if field not in given]
    if missing:
        raise UserError(
            f"{missing[0]}: is missing; give all of --base-tokens, --base-batch, --base-seq and --base-lr, or --results"
        )
    return Point(**given)


def _question(base: "Point") -> list[str]:
    """Whether the base's momentum is PyTorch's, which is 1 minus the weight of the new gradient."""
    from scionlab.api.plans import questions_of

    return questions_of(base)


def _kappa(
    evidence: "Evidence | None",
    exponent: str | None,
    shift: str | None,
    constants: float,
    base: "Point",
    tokens: float,
) -> tuple["KappaBst | None", list[str]]:
    """BST with the given κ(B), else with the measured one; a measured one that has no solution is a warning."""
    from analysis.laws.kappa import kappa_rule

    at = None if shift is None else number("kappa-batch-shift", shift)
    power = None if exponent is None else number("kappa-batch-exponent", exponent)
    return kappa_rule(evidence.kappa if evidence else None, power, at, constants, base, tokens)


def _print(made: "Plan", target: "Target") -> None:
    from scionlab.cli import terminal

    base = made.base
    named = {"momentum": base.momentum, "weight decay": base.weight_decay, "β2": base.beta2}
    more = "".join(f", {name} {value:g}" for name, value in named.items() if value is not None)
    more += "" if base.n_params is None else f", {base.n_params:.4g} parameters"
    whose = f" ({made.optimizer})" if made.optimizer else ""
    out.print(
        f"base{whose}: {base.tokens:.4g} tokens, batch size {base.batch_size:,.6g} of {base.seq_len:,.6g} tokens, "
        f"lr {base.lr:.3g}{more}, {base.steps:,.0f} steps"
    )
    rounding = "a power of two" if target.multiple is None else f"a multiple of {target.multiple}"
    rounding = f"{'down ' if target.down else ''}to {rounding}"
    growth = f"{made.tokens / base.tokens:.4g} times the base; batch size rounded {rounding}"
    terminal.print_frame(made.frame(), f"Plan for {made.tokens:.4g} tokens, {growth}, lr for the rounded one", out)
    for proposal in made.proposals:
        note = f"; {proposal.rule.note}" if proposal.rule.note else ""
        rule = proposal.rule
        out.print(f"{rule.name}: {rule.title} ({rule.source}; {rule.certainty}){note}")
        if proposal.interval:
            out.print(f"{proposal.rule.name}: 95% interval: {proposal.interval.text()}")
    for text in made.warnings:
        err.print(f"warning: {text}", soft_wrap=True)
