"""`scionlab explain`: what Scion would do with a model that the caller wrote."""

import json
import math
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from scionlab.cli.options import Json, app, err, one_name, out
from scionlab.errors import UserError
from scionlab.own.finding import find, told

if TYPE_CHECKING:
    from torch import nn

    from scionlab.roles.groups import Explanation
    from scionlab.roles.roles import UnclaimedError


DEFAULT = "text"  # as in `scionlab.param_groups`


@app.command()
def explain(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FACTORY", help="a function that makes the model, without arguments or of width and depth"
        ),
    ],
    roles: Annotated[
        str | None,
        typer.Option(help="norms and radii by role: text (default), shakespeare, nanogpt, image, …"),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REGEX=ROLE[,layout=in_out][,blocks=3][,batch=1][,norm=NAME][,radius=R][,shared=yes]",
            help="role of the parameters whose names match, before everything else; repeatable",
        ),
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="call FACTORY(width, depth), as trials do")] = None,
    depth: Annotated[int, typer.Option(min=1, help="depth that goes with --width")] = 2,
    as_json: Json = False,
    preset: Annotated[str | None, typer.Option(hidden=True)] = None,  # the first name of --roles
) -> None:
    """Print the shape, role, norm, radius and initialization of every parameter of a PyTorch model.

    MODULE is imported as Python would from the current directory; FACTORY is a function, a class or a finished model in
    it. Parameters of modules that are not PyTorch's own need a rule, and those without one are listed.

    Examples:

      scionlab explain my_models:build_gpt

      scionlab explain my_models:build_gpt --rule '.*c_attn\\.weight=hidden,layout=in_out,blocks=3'

      scionlab explain torchvision.models:resnet18 --roles image --rule 'fc\\.weight=output'

      scionlab explain my_model:build --width 64 --depth 2
    """
    from scionlab.roles.groups import explain as explain_model
    from scionlab.roles.presets import role_preset
    from scionlab.roles.roles import UnclaimedError

    chosen = one_name(roles, preset, "roles", "--preset") or DEFAULT
    source = role_preset(chosen, "roles").source
    made = load_model(model, () if width is None else (width, depth))
    try:
        rows = explain_model(made, chosen, rule or ())
    except UnclaimedError as error:
        _print_unclaimed(error)
        raise UserError(f"{len(error.uses)} parameters of {model!r} need a rule") from None
    frozen = [name for name, parameter in made.named_parameters() if not parameter.requires_grad]
    if as_json:
        answer = {"preset": chosen, "radii_from": source, "parameters": [_record(row) for row in rows]}
        typer.echo(json.dumps({**answer, "frozen": frozen}))
        return
    _print_rows(rows, chosen)
    out.print(f"Radii of preset {chosen}: {source}", soft_wrap=True)
    if frozen:
        out.print(f"Frozen, so without a role: {', '.join(frozen)}")


def load_model(target: str, arguments: tuple[int, ...] = ()) -> "nn.Module":
    """The model that MODULE:FACTORY makes; UserError, with the line of the caller's code where there is one."""
    from torch import nn

    module, found = find("model", target, "MODULE:FACTORY", "my_models:build_gpt")
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise UserError(
                f"model: {target!r} is of type {type(found).__name__}; it must be a function that makes a model"
            )
        try:
            found = found(*arguments)
        except Exception as error:
            raise UserError(f"model: {target!r} raised {told(error, module)}") from error
    if not isinstance(found, nn.Module):
        raise UserError(
            f"model: {target!r} makes an object of type {type(found).__name__}; it must make a torch.nn.Module"
        )
    return found


def _record(row: "Explanation") -> dict[str, Any]:
    """A row as JSON has it: without the tensor."""
    return {field.name: getattr(row, field.name) for field in fields(row) if field.name != "parameter"}


def _print_rows(rows: "list[Explanation]", preset: str) -> None:
    table = Table(title=f"Preset {preset}", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("parameter", overflow="fold", min_width=24)
    for column in ("shape", "role", "norm", "radius", "stored"):
        table.add_column(column, no_wrap=True)
    for column in ("starts as", "decided by"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            "\n= ".join(row.names),
            " × ".join(map(str, row.shape)),
            row.role,
            row.norm or "–",
            "–" if row.radius is None else f"{row.radius:g}",
            _stored(row),
            row.initialization,
            row.decided_by,
        )
    _wide(table).print(table)
    entries = sum(row.parameter.numel() for row in rows)
    out.print(f"{len(rows)} parameters with {entries:,} entries; matrices start at norm = radius")


def _wide(table: Table) -> Console:
    """The terminal, or a console as wide as the table: a file has no width at which names should be folded."""
    if out.is_terminal:
        return out
    needed = Measurement.get(out, out.options.update(width=10_000), table).maximum
    return Console(width=needed, highlight=False, markup=False)


def _stored(row: "Explanation") -> str:
    """Layout, blocks and members of the batch, of which single vectors have none."""
    if len(row.shape) < 2:
        return "–"
    blocks = "+".join(map(str, row.blocks)) if isinstance(row.blocks, tuple) else row.blocks
    stored = row.layout if blocks == 1 else f"{row.layout} × {blocks}"
    return f"{math.prod(row.shape[: row.batch])} of {stored}" if row.batch else stored


def _print_unclaimed(error: "UnclaimedError") -> None:
    err.print("No rule says which part these parameters play:")
    for use in error.uses:
        err.print(f"  {use}", soft_wrap=True)
    err.print("Give them one, for instance:")
    for example in error.examples:
        err.print(f"  --rule '{example}'", soft_wrap=True)
    err.print(
        "Roles are input, hidden, output, gain, bias, and other (left to another optimizer). The layout is out_in for "
        "weights stored (d_out, d_in, …) and in_out for (d_in, d_out, …); blocks=3 for fused queries, keys and values; "
        "batch=1 for a stack of matrices along the first axis, such as experts.",
        soft_wrap=True,
    )
    if error.question:
        err.print(error.question, soft_wrap=True)
