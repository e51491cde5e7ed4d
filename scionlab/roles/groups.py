"""Any model as parameter groups for Scion: a role for every parameter, and with it a ball and a start on the ball.

    groups = param_groups(model, preset="text")      roles (`roles`), norms and radii (`presets`), rules (`rules`)
    initialize(groups, seed=0)                       ‖W‖ = ρ for matrices, b = 0
    optimizer = Scion(groups, lr=2**-6)

Norm and radius are, in this order: those of the rule that claims the parameter, those given for its role, the preset's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from scionlab.errors import UserError, unknown
from scionlab.geometry import (
    Column,
    Conv,
    Euclidean,
    Flat,
    Layer,
    Norm,
    Row,
    Schatten,
    Sign,
    Spectral,
    layer_of,
    norm_named,
)
from scionlab.roles.numbers import plain_number
from scionlab.roles.presets import norm_for, role_preset
from scionlab.roles.roles import Claim, assign_roles
from scionlab.roles.rules import ROLES, Rule

# Of embeddings: a row below this share of the largest one fades with its average, where its token stops appearing.
EMBEDDING_FLOOR = 1e-8
# How each geometry's `init` draws a matrix.
STARTS: dict[type[Norm], str] = {
    Spectral: "semi-orthogonal",
    Schatten: "semi-orthogonal",
    Conv: "semi-orthogonal taps",
    Column: "normalized Gaussian columns",
    Row: "normalized Gaussian rows",
    Sign: "random signs",
    Euclidean: "normalized Gaussian",
}


@dataclass(frozen=True)
class Explanation:
    """One parameter: its role and what decided about it, its ball, and where on the ball `initialize` starts it.

    `names` has more than one entry where the weight has several; `shared` says that it is both embedding and head.
    `layout`, `blocks` and `batch` are those of `scionlab.geometry.Layer`; `padding` is an embedding's row that starts
    and stays at zero. Parameters with the role "other" have no norm and no radius: they are for another optimizer.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    role: str
    norm: str | None
    radius: float | None
    layout: str
    blocks: int | tuple[int, ...]
    batch: int
    initialization: str
    decided_by: str
    shared: bool
    padding: int | None
    parameter: nn.Parameter = field(repr=False, compare=False)


def explain(
    model: nn.Module,
    preset: str = "text",
    rules: Sequence[Rule | str] = (),
    radii: Mapping[str, float] | None = None,
    norms: Mapping[str, str] | None = None,
) -> list[Explanation]:
    """Every trainable parameter of the model, in its order, with the ball that `param_groups` gives it.

    Takes the arguments of `param_groups` and raises the same errors.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"model: {type(model).__name__} is not allowed: it must be a torch.nn.Module")
    chosen = role_preset(preset)
    _check_roles("radii", radii or {})
    _check_roles("norms", norms or {})
    balls = {role: ({**chosen.norms, **(norms or {})}[role], {**chosen.radii, **(radii or {})}[role]) for role in ROLES}
    return [_explained(claim, balls) for claim in assign_roles(model, rules, preset=preset)]


def param_groups(
    model: nn.Module,
    preset: str = "text",
    rules: Sequence[Rule | str] = (),
    radii: Mapping[str, float] | None = None,
    norms: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups of the model for `Scion`: one for the parameters that share role, ball and form of storage.

    - preset: a name in `PRESETS`, which gives every role a norm and a radius, and says at what sizes these were tuned:
        "text" at width 32 to 128, "nanogpt" at 124M parameters and more.
    - rules: what the model's own types and order do not say, or say wrongly; a `Rule`, or its text.
    radii, norms: replace the preset's, by role: {"hidden": 2.0}. Norms of matrices also serve for convolutions.

    Embeddings have the norm option "floor" 1e-8: the row of a token that stops appearing comes to rest
    (docs/library.md).
    Besides what the optimizer reads, a group has "names", "role", "shared", whether its parameters are both embedding
    and head, and "padding", the row of an embedding that stays zero, or None. Raises UserError for parameters whose
    role is not known, an output that nothing tells, balls that do not fit their shapes, and sharded parameters.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in explain(model, preset, rules, radii, norms):
        if row.role == "other":
            continue
        ball = {name: getattr(row, name) for name in ("norm", "radius", "layout", "blocks", "batch")}
        start = {"shared": row.shared, "padding": row.padding}
        key = (row.role, *ball.values(), *start.values())
        more = {"norm_options": {"floor": EMBEDDING_FLOOR}} if _may_fade(row) else {}
        group = groups.setdefault(key, {"role": row.role, "names": [], "params": [], **ball, **start, **more})
        group["names"].append(" = ".join(row.names))
        group["params"].append(row.parameter)
    return list(groups.values())


@torch.no_grad()
def initialize(groups: Iterable[Mapping[str, Any]], seed: int | torch.Generator = 0, output_init: float = 1.0) -> None:
    """Fill the parameters of `param_groups` in place: matrices on the sphere of their radius, biases with 0, gains not.

    `seed` may be a CPU generator. `output_init` multiplies the start of an output that is not shared; at 0 all classes
    are equally likely at first. The row of an embedding for padding is zero, as PyTorch makes it.
    """
    if not 0 <= output_init <= 1:
        raise UserError(f"output_init: {output_init!r} is not allowed: it must lie in [0, 1]")
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    for group in groups:
        role = group.get("role")
        if role not in ROLES:
            raise unknown("initialize: role of a group", str(role), ROLES)
        factor = output_init if role == "output" and not group["shared"] else 1.0
        layer = layer_of(group)
        for parameter in group["params"]:
            if role == "bias":
                parameter.zero_()
            elif role != "gain":
                parameter.copy_(factor * layer.radius * layer.init(parameter.shape, generator))
                if group.get("padding") is not None:
                    parameter[group["padding"]] = 0


def _may_fade(row: Explanation) -> bool:
    """Whether tokens are looked up in the parameter, in a norm that gives each of them a step of its own."""
    norm = norm_named(str(row.norm))
    return row.role == "input" and row.layout == "in_out" and isinstance(norm, (Column, Row, Sign))


def _check_roles(argument: str, given: Mapping[str, Any]) -> None:
    for role in given:
        if role not in ROLES:
            raise unknown(f"{argument}: role", str(role), ROLES)


def _explained(claim: Claim, balls: Mapping[str, tuple[str, float]]) -> Explanation:
    row = Explanation(
        names=claim.names,
        shape=tuple(claim.parameter.shape),
        role=claim.role,
        norm=None,
        radius=None,
        layout=claim.layout,
        blocks=claim.blocks,
        batch=claim.batch,
        initialization="as it is",
        decided_by=claim.reason,
        shared=claim.shared,
        padding=claim.padding,
        parameter=claim.parameter,
    )
    if claim.role == "other":
        return row
    norm, radius = balls[claim.role]
    norm = norm if claim.norm is None else claim.norm
    radius = radius if claim.radius is None else claim.radius
    try:
        radius = plain_number(radius, "radius")
        norm = norm_for(norm, len(claim.shape))
        layer = Layer(norm_named(norm), radius, claim.layout, claim.blocks, claim.batch)
        layer.check(norm, row.shape)
    except UserError as error:
        raise UserError(f"parameter {claim.names[0]!r} ({claim.role}): {error}") from None
    return replace(row, norm=norm, radius=float(radius), initialization=_start(claim, layer.norm))


def _start(claim: Claim, norm: Norm) -> str:
    """How `initialize` starts a parameter, in words."""
    if claim.role in ("bias", "gain"):
        return "0" if claim.role == "bias" else "as it is"
    start = STARTS.get(type(norm.matrix if isinstance(norm, Flat) else norm), "random")
    return start if claim.padding is None else f"{start}, row {claim.padding} at 0"
