r"""Rules: what a caller says about parameters by name, in Python or as text.

`Rule("hidden", r"h\.\d+\.c_attn\.weight", layout="in_out", blocks=3)` and the text
`h\.\d+\.c_attn\.weight=hidden,layout=in_out,blocks=3` are the same rule.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from scionlab.errors import UserError, unknown

# "other" leaves a parameter to another optimizer; only a rule gives it.
Role = Literal["input", "hidden", "output", "gain", "bias", "other"]
Layout = Literal["out_in", "in_out"]
ROLES: tuple[str, ...] = tuple(role for role in get_args(Role) if role != "other")
FORM = "REGEX=ROLE[,layout=out_in|in_out][,blocks=N|ROWS+ROWS+…][,batch=AXES][,norm=NAME][,radius=R][,shared=yes|no]"
_WORDS = {"yes": True, "no": False}


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
    """The name without the segments that wrappers put in it.

    These are `_orig_mod` of torch.compile, `module` of DistributedDataParallel, and what activation checkpointing, FSDP
    and others call `_checkpoint_wrapped_module`, `_fsdp_wrapped_module`, `_forward_module`.
    """
    return ".".join(part for part in name.split(".") if not re.fullmatch(r"_orig_mod|module|_\w+_module", part))


@dataclass(frozen=True)
class Rule:
    """Gives `role` to parameters whose full name matches `name` inside a module of type `module`.

    Names are matched as they are and without what wrappers put into them (`bare`).

    - layout, blocks: how the tensor holds its matrices, as in `scionlab.geometry.Layer`; by default the module's own.
        Of a module that is not PyTorch's nothing is known, so a rule for its matrices must say the layout.
    - batch: leading axes that count matrices of their own, default 0; 1 for experts stored (expert, d_out, d_in).
    - norm, radius: used in place of the preset's.
    - shared: whether the matrix is both embedding and head, which `output_init` then leaves as it is. By default, one
        with several names is, and an nn.Embedding whose role is output: the head is then the embedding, used by hand.

    The role "other" leaves a parameter to another optimizer. Raises UserError for a field that is not allowed.
    """

    role: Role
    name: str = ".*"
    module: type[nn.Module] | tuple[type[nn.Module], ...] = nn.Module
    ndim: int | None = None
    layout: Layout | None = None
    blocks: int | tuple[int, ...] | None = None
    norm: str | None = None
    radius: float | None = None
    batch: int = 0
    shared: bool | None = None

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
        values: dict[str, Any] = {"role": found["role"], "name": found["name"]}
        for option, value in (part.split("=") for part in found["options"].split(",") if part):
            if option not in _OPTIONS:
                raise unknown(f"rule: {text!r}: option", option, _OPTIONS)
            read, allowed = _OPTIONS[option]
            try:
                values[option] = read(value)
            except (ValueError, KeyError):
                raise UserError(f"rule: {text!r}: {option}: {value!r} is not allowed: it must be {allowed}") from None
        return cls(**values)

    def matches(self, use: Use) -> bool:
        """Whether the rule claims this use of a parameter."""
        return (
            any(re.fullmatch(self.name, name) is not None for name in (use.name, bare(use.name)))
            and isinstance(use.module, self.module)
            and self.ndim in (None, use.parameter.ndim)
        )


def _blocks(text: str) -> int | tuple[int, ...]:
    """3 for three equal blocks; (64, 16, 16) for "64+16+16"."""
    return tuple(map(int, text.split("+"))) if "+" in text else int(text)


# How a text's option is read, and what it must be.
_OPTIONS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "layout": (str, "out_in or in_out"),
    "blocks": (_blocks, "a number, or the rows of every block, as in 64+16+16"),
    "batch": (int, "a number"),
    "norm": (str, "a name"),
    "radius": (float, "a number"),
    "shared": (_WORDS.__getitem__, "yes or no"),
}
