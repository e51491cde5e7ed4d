"""Roles: which part a parameter plays, decided by ordered rules on its name and its module's type.

The first rule that matches wins, and a parameter that no rule claims is an error: an optimizer that treats layers
differently must not guess. The layout says which axis of a matrix is the input; it is declared, never read off the
shape. `nn.Linear` stores (d_out, d_in); `nn.Embedding` stores (vocabulary, width), its input axis first.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from scionlab.errors import UserError

Role = Literal["input", "hidden", "output", "gain", "bias"]
Layout = Literal["out_in", "in_out"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True)
class Rule:
    """Gives `role` and `layout` to parameters whose full name matches `name` inside a module of type `module`."""

    role: Role
    name: str = ".*"
    module: type[nn.Module] | tuple[type[nn.Module], ...] = nn.Module
    ndim: int | None = None
    layout: Layout = "out_in"

    def matches(self, name: str, module: nn.Module, parameter: nn.Parameter) -> bool:
        return (
            re.fullmatch(self.name, name) is not None
            and isinstance(module, self.module)
            and self.ndim in (None, parameter.ndim)
        )


@dataclass(frozen=True)
class Claim:
    """A parameter with the role a rule gave it. `names` has more than one entry where the weight is shared."""

    names: tuple[str, ...]
    parameter: nn.Parameter
    role: Role
    layout: Layout


_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)

DEFAULT_RULES: tuple[Rule, ...] = (
    Rule("output", name=r"(.*\.)?(head|lm_head)\.weight", module=nn.Linear),
    Rule("input", module=nn.Embedding, layout="in_out"),
    Rule("bias", name=r"(.*\.)?bias", ndim=1),
    Rule("gain", name=r"(.*\.)?weight", module=_NORMS),
    Rule("hidden", name=r"(.*\.)?weight", module=nn.Linear),
)


def _named(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            yield f"{prefix}.{name}" if prefix else name, module, parameter


def assign_roles(model: nn.Module, rules: Sequence[Rule] = (), defaults: bool = True) -> list[Claim]:
    """One claim for every parameter that requires a gradient, in the model's order.

    `rules` come before `DEFAULT_RULES`; one of them that matches nothing is an error, as is an unclaimed
    parameter. A weight shared by input and output plays the output's part: it is measured as (vocabulary, width)
    acting on the hidden state.
    """
    ordered = [*rules, *(DEFAULT_RULES if defaults else ())]
    used: set[int] = set()
    found: dict[int, list[tuple[str, Rule, nn.Parameter]]] = {}
    for name, module, parameter in _named(model):
        if not parameter.requires_grad:
            continue
        index = next((i for i, rule in enumerate(ordered) if rule.matches(name, module, parameter)), None)
        if index is None:
            raise UserError(
                f"roles: parameter {name!r} of shape {tuple(parameter.shape)} in {type(module).__name__} is "
                f"claimed by no rule; add a Rule that gives it one of {', '.join(ROLES)}"
            )
        used.add(index)
        found.setdefault(id(parameter), []).append((name, ordered[index], parameter))
    for index, rule in enumerate(rules):
        if index not in used:
            raise UserError(f"roles: rule {rule.name!r} for role {rule.role!r} matches no parameter")
    return [_claim(uses) for uses in found.values()]


def _claim(uses: list[tuple[str, Rule, nn.Parameter]]) -> Claim:
    rule = next((rule for _, rule, _ in uses if rule.role == "output"), uses[0][1])
    names = tuple(dict.fromkeys(name for name, _, _ in uses))
    return Claim(names, uses[0][2], rule.role, rule.layout)
