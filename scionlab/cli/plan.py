"""`scionlab plan`: what a large run of N parameters and T tokens is to be launched with, by every rule."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scionlab.cli.completion import complete_stored
from scionlab.cli.numbers import number, positive
from scionlab.cli.options import ByOption, Json, app, err, one_name, out, with_home
from scionlab.errors import UserError
from scionlab.runs.where import ResultsPlace

if TYPE_CHECKING:
    from analysis.laws.proposals import Plan

DOWN = "floor:"


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
            help="start from the batch-scaling fit of these results; with --params also from their joint law",
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
    params: Annotated[
        str | None, _quantity("parameters of the large run, without embedding: for laws of size and tokens")
    ] = None,
    depth: Annotated[str | None, _quantity("its blocks, for a joint law with a term of depth")] = None,
    width: Annotated[str | None, _quantity("its residual stream, for a joint law with a term of width")] = None,
    rules: Annotated[
        str | None,
        typer.Option(metavar="all|NAME,NAME", help="which rules; default: the main ones and what other options add"),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE.md", callback=with_home, help="also write a launch sheet, as Markdown"),
    ] = None,
    as_json: Json = False,
    option: ByOption = None,
    optimizer: Annotated[str | None, typer.Option(hidden=True)] = None,  # the first name of --only-optimizer
) -> None:
    """A large run by every rule, exact and rounded, from a tuned small one, from results, or from N and T alone.

    The learning rate is the rule's for the rounded batch size. Momentum, weight decay and β2 stay, unless a rule moves
    them. Base options given together with --results replace the fitted ones.

    Examples:

      scionlab plan --tokens 10.6e9 --base-tokens 1.3e9 --base-batch 256 --base-seq 1024 --base-lr 3.6e-4

      scionlab plan batch --tokens 300M --results results --only-optimizer scion --round 8 --grow-seq

      scionlab plan --params 1e9 --tokens 2e10
    """
    from scionlab.api.plans import FIELDS
    from scionlab.api.plans import plan as made_plan

    n_params = _above_zero("params", params)
    budget, multiple = positive("tokens", tokens), _multiple(round_)
    experiment = one_name(experiment, option)
    only = one_name(only_optimizer, optimizer, "only-optimizer", "--optimizer")
    texts = (base_tokens, base_batch, base_seq, base_lr, base_momentum, base_weight_decay, base_beta2, base_params)
    given = zip(FIELDS.items(), texts, strict=True)
    base = {field: positive(name, text) for (field, name), text in given if text is not None}
    made = made_plan(
        budget,
        base,
        results=results,
        experiment=experiment,
        optimizer=only,
        multiple=multiple,
        down=round_.startswith(DOWN),
        grow_seq=grow_seq,
        mu_ratio=positive("mu-ratio", mu_ratio),
        l_ratio=positive("l-ratio", l_ratio),
        kappa_ratio=positive("kappa-ratio", kappa_ratio),
        kappa_batch_exponent=_maybe("kappa-batch-exponent", kappa_batch_exponent),
        kappa_batch_shift=_maybe("kappa-batch-shift", kappa_batch_shift),
        n_params=n_params,
        depth=_above_zero("depth", depth),
        width=_above_zero("width", width),
        rules=_names(rules),
    )
    if sheet is not None:
        _write(made, sheet)
    if as_json:
        typer.echo(json.dumps(made.as_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _print(made, ("down " if round_.startswith(DOWN) else "") + _to(multiple), sheet)


def _write(made: "Plan", sheet: Path) -> None:
    """The launch sheet."""
    try:
        sheet.write_text(made.sheet(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"sheet: {str(sheet)!r} cannot be written: {error.strerror or error}") from None


def _maybe(option: str, text: str | None) -> float | None:
    return None if text is None else number(option, text)


def _above_zero(option: str, text: str | None) -> float | None:
    return None if text is None else positive(option, text)


def _to(multiple: int | None) -> str:
    return "to a power of two" if multiple is None else f"to a multiple of {multiple}"


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


def _print(made: "Plan", rounding: str, sheet: Path | None) -> None:
    from scionlab.cli import terminal

    base = made.base
    if made.origin:
        out.print(made.origin)
    if base is not None:
        named = {"momentum": base.momentum, "weight decay": base.weight_decay, "β2": base.beta2}
        more = "".join(f", {name} {value:g}" for name, value in named.items() if value is not None)
        more += "" if base.n_params is None else f", {base.n_params:.4g} parameters"
        whose = f" ({made.optimizer})" if made.optimizer else ""
        out.print(
            f"base{whose}: {base.tokens:.4g} tokens, batch size {base.batch_size:,.6g} of {base.seq_len:,.6g} tokens, "
            f"lr {base.lr:.3g}{more}, {base.steps:,.0f} steps"
        )
    growth = "" if base is None else f"{made.tokens / base.tokens:.4g} times the base; "
    title = f"Plan for {made.asked}, {growth}batch size rounded {rounding}, lr for the rounded one"
    terminal.print_frame(made.frame(), title, out)
    for proposal in made.proposals:
        rule = proposal.rule
        note = f"; {rule.note}" if rule.note else ""
        out.print(f"{rule.name}: {rule.title} ({rule.source}; {rule.certainty}){note}")
        if proposal.interval:
            out.print(f"{rule.name}: 95% interval: {proposal.interval.text()}")
        if proposal.new_optimum:
            out.print(f"{rule.name}: 95% interval of an optimum, which scatters: {proposal.new_optimum.text()}")
    out.print(made.spread_text())
    if sheet is not None:
        out.print(f"written: {sheet}")
    for text in made.warnings:
        err.print(f"warning: {text}", soft_wrap=True)
