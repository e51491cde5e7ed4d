r"""Rules: what a caller says about parameters by name, in Python or as text.

`Rule("hidden", r"h\.\d+\.c_attn\.weight", layout="in_out", blocks=3)` and the text
`h\.\d+\.c_attn\.weight=hidden,layout=in_out,blocks=3` are the same rule.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from scionlab.errors import UserError, unknown

# "other" leaves a parameter to another optimizer; only a rule gives it.
Role = Literal["input", "hidden", "output", "gain", "bias", "other"]
Layout = Literal["out_in", "in_out"]
ROLES: tuple[str, ...] = tuple(role for role in get_args(Role) if role != "other")
FORM = "REGEX=ROLE[,layout=out_in|in_out][,blocks=N][,norm=NAME][,radius=R]"


@dataclass(frozen=True)
class Use:
    """A parameter under one of its names, in the module that holds it."""

    name: str
    module: nn.Module
    parameter: nn.Parameter

    @property
    def attribute(self) -> str:
        """The parameter's own name in its module."""
        return self.name.rpartition(".")[2]

    def __str__(self) -> str:
        return f"{self.name!r} of shape {tuple(self.parameter.shape)} in {type(self.module).__name__}"


def bare(name: str) -> str:
    """The name without the segments that torch.compile and DistributedDataParallel put in it."""
    return ".".join(part for part in name.split(".") if part not in ("_orig_mod", "module"))


@dataclass(frozen=True)
class Rule:
    """Gives `role` to parameters whose full name matches `name` inside a module of type `module`.

    Names are matched as they are and without `_orig_mod.` (torch.compile) and `module.` (DistributedDataParallel).
    `layout` and `blocks` are the module's own if not given; of a module that is not PyTorch's nothing is known, so a
    rule for its matrices must say the layout. `norm` and `radius` are used in place of the preset's. The role "other"
    leaves a parameter to another optimizer. Raises UserError for a field that is not allowed.
    """

    role: Role
    name: str = ".*"
    module: type[nn.Module] | tuple[type[nn.Module], ...] = nn.Module
    ndim: int | None = None
    layout: Layout | None = None
    blocks: int | None = None
    norm: str | None = None
    radius: float | None = None

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise unknown("rule: role", str(self.role), get_args(Role))
        if self.layout not in (None, *get_args(Layout)):
            raise unknown("rule: layout", str(self.layout), get_args(Layout))
        try:
            re.compile(self.name)
        except re.error as error:
            raise UserError(f"rule: name: {self.name!r} is not a regular expression: {error}") from None

    @classmethod
    def of(cls, text: str) -> "Rule":
        """The rule that `text` says in the form `FORM`; only options follow =ROLE."""
        found = re.fullmatch(rf"(?P<name>.*?)=(?P<role>{'|'.join(get_args(Role))})(?P<options>(,\w+=[^,=]*)*)", text)
        if found is None:
            raise UserError(
                f"rule: {text!r} is not allowed: it must read {FORM}, ROLE one of {', '.join(get_args(Role))}"
            )
        kinds: dict[str, type] = {"layout": str, "blocks": int, "norm": str, "radius": float}
        values: dict[str, Any] = {"role": found["role"], "name": found["name"]}
        for option, value in (part.split("=") for part in found["options"].split(",") if part):
            if option not in kinds:
                raise unknown(f"rule: {text!r}: option", option, kinds)
            try:
                values[option] = kinds[option](value)
            except ValueError:
                raise UserError(f"rule: {text!r}: {option}: {value!r} is not allowed: it must be a number") from None
        return cls(**values)

    def matches(self, use: Use) -> bool:
        return (
            any(re.fullmatch(self.name, name) is not None for name in (use.name, bare(use.name)))
            and isinstance(use.module, self.module)
            and self.ndim in (None, use.parameter.ndim)
        )


def examples(unclaimed: Sequence[Use], others: Iterable[str]) -> tuple[str, ...]:
    r"""Rules as text that give every one of `unclaimed` a part, for the caller to correct; none matches `others`.

    Numbers in names become \d+ where that is unambiguous, so that one rule serves all layers. The layout is known of
    PyTorch's transposed convolutions and of Conv1D of transformers, which fuses queries, keys and values in `c_attn`.
    """
    parts = {use.name: _example_part(use) for use in unclaimed}
    found = []
    for use in unclaimed:
        wide = r"\.".join(r"\d+" if word.isdigit() else re.escape(word) for word in bare(use.name).split("."))
        matched = {name for name in (*parts, *others) if re.fullmatch(wide, bare(name))}
        same = all(parts.get(name) == parts[use.name] for name in matched)
        found.append(f"{wide if same else re.escape(bare(use.name))}={parts[use.name]}")
    return tuple(dict.fromkeys(found))


def _example_part(use: Use) -> str:
    shape = use.parameter.shape
    if isinstance(use.module, _ConvTransposeNd):
        return "hidden,layout=in_out" if use.module.groups == 1 else "other"
    if len(shape) == 1:
        return "gain"
    normalizes = isinstance(use.module, (nn.LayerNorm, nn.RMSNorm))  # over several axes: no norm here measures that
    if normalizes or len(shape) not in (2, 3, 4, 5) or (len(shape) > 2 and shape[0] == 1):  # numbers, learned tokens
        return "other"
    if type(use.module).__name__ == "Conv1D":
        return "hidden,layout=in_out" + (",blocks=3" if ".c_attn." in use.name else "")
    return "hidden,layout=out_in"
