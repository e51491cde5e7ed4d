"""Roles: which part a parameter plays, decided by the caller's rules on its name, then by its module's type and order.

The first rule that matches wins, and a parameter that nothing claims is an error: an optimizer that treats layers
differently must not guess. Where no rule of the caller's matches, PyTorch's own modules play these parts:

    output   nn.Linear called head or lm_head; where there is none, the last nn.Linear of the model
    input    nn.Embedding; with the preset "image" also the first linear or convolutional layer
    hidden   every other nn.Linear and convolution, and the matrices of nn.MultiheadAttention, nn.RNN, nn.LSTM, nn.GRU
    gain     weights of normalization layers
    bias     vectors called bias (also bias_ih_l0, in_proj_bias, …)

The layout says which axis of a matrix is the input; it is declared, never read off the shape. `nn.Linear` stores
(d_out, d_in); `nn.Embedding` stores (vocabulary, width), its input axis first. `blocks` is the number of matrices that
one parameter holds side by side along d_out: 3 for fused q, k, v, the gates of an LSTM, the groups of a convolution.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import nn
from torch.nn.parameter import is_lazy

from scionlab.errors import UserError
from scionlab.optim.presets import role_preset
from scionlab.optim.rules import ROLES, Layout, Role, Rule, Use, bare, examples

_HEADS = ("head", "lm_head")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_GATES = {nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3, nn.RNN: 1, nn.RNNCell: 1}
_RECURRENT = tuple(_GATES)
_STORE_OUT_IN = (nn.Linear, nn.MultiheadAttention, *_CONVOLUTIONS, *_RECURRENT)
_NORMS = (
    nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A parameter with the role it was given, and what decided: `reason`.

    `names` has more than one entry where the weight is shared. `norm` and `radius` are those of the caller's rule.
    """

    names: tuple[str, ...]
    parameter: nn.Parameter
    role: Role
    layout: Layout
    blocks: int = 1
    norm: str | None = None
    radius: float | None = None
    reason: str = ""


class UnclaimedError(UserError):
    """Parameters that nothing claims: `uses` are all of them, `examples` rules for them, to be corrected."""

    def __init__(self, uses: Sequence[Use], claimed: Iterable[str]) -> None:
        self.uses = tuple(uses)
        self.examples = examples(uses, claimed)
        more = f" (and {len(uses) - 1} more)" if len(uses) > 1 else ""
        rules = " and ".join(f"'{text}'" for text in self.examples)
        super().__init__(
            f"roles: parameter {uses[0]} is claimed by no rule{more}; add a rule that gives it one of "
            f"{', '.join(ROLES)}, or other to leave it to another optimizer, such as {rules}"
        )


def assign_roles(
    model: nn.Module, rules: Sequence[Rule | str] = (), defaults: bool = True, preset: str = "text"
) -> list[Claim]:
    """One claim for every parameter that requires a gradient, in the model's order.

    `rules`, also as text (`Rule.of`), come before the defaults; one of them that matches nothing is an error, as are
    unclaimed parameters (`UnclaimedError`). A weight shared by input and output plays the output's part, unless a rule
    says otherwise: it is measured as (vocabulary, width) acting on the hidden state.
    """
    ordered = [Rule.of(rule) if isinstance(rule, str) else rule for rule in rules]
    parts = _Parts(model, role_preset(preset).first_layer) if defaults else None
    used: set[int] = set()
    unclaimed: list[Use] = []
    found: dict[int, list[tuple[Claim, bool]]] = {}
    for use in _uses(model):
        index = next((i for i, rule in enumerate(ordered) if rule.matches(use)), None)
        if index is not None:
            used.add(index)
            claim: Claim | None = _by_rule(use, ordered[index])
        else:
            claim = parts.claim(use) if parts else None
        if claim is None:
            unclaimed.append(use)
        else:
            found.setdefault(id(use.parameter), []).append((claim, index is not None))
    for index, rule in enumerate(ordered):
        if index not in used:
            raise UserError(f"roles: rule {rule.name!r} for role {rule.role!r} matches no parameter")
    ruled = {key for key, claims in found.items() if any(by_rule for _, by_rule in claims)}
    if unclaimed := [use for use in unclaimed if id(use.parameter) not in ruled]:
        claimed = [name for claims in found.values() for claim, _ in claims for name in claim.names]
        raise UnclaimedError(unclaimed, claimed)
    return [_joined(claims) for claims in found.values()]


def _uses(model: nn.Module) -> Iterator[Use]:
    """Every trainable parameter under every name it has, in the model's order."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            use = Use(f"{prefix}.{name}" if prefix else name, module, parameter)
            if is_lazy(parameter):
                raise UserError(f"roles: parameter {use.name!r} has no shape yet; call the model once before")
            if parameter.requires_grad:
                yield use


def _by_rule(use: Use, rule: Rule) -> Claim:
    layout = rule.layout or _own_layout(use, rule.role)
    if layout is None:
        raise UserError(
            f"roles: rule {rule.name!r} claims {use}, whose layout is not known; give the rule a layout, "
            "'out_in' if the weight is stored (d_out, d_in, …), 'in_out' if (d_in, d_out)"
        )
    blocks = _own_blocks(use) if rule.blocks is None else rule.blocks
    reason = f"rule '{rule.name}'"  # as it was written: repr doubles its backslashes
    return Claim((use.name,), use.parameter, rule.role, layout, blocks, rule.norm, rule.radius, reason)


def _own_layout(use: Use, role: Role) -> Layout | None:
    """The layout that the module stores its weights in; None where it is not known."""
    if isinstance(use.module, nn.Embedding):
        return "out_in" if role == "output" else "in_out"  # as a head, (vocabulary, width) is (d_out, d_in)
    known = isinstance(use.module, _STORE_OUT_IN) or use.parameter.ndim < 2 or role == "other"
    return "out_in" if known else None


def _own_blocks(use: Use) -> int:
    """How many matrices the module keeps in this parameter."""
    module = use.module
    if isinstance(module, nn.MultiheadAttention):
        return 3 if use.attribute == "in_proj_weight" else 1
    if isinstance(module, _CONVOLUTIONS):
        return module.groups if use.attribute == "weight" else 1
    if use.attribute.startswith(("weight_ih", "weight_hh")):
        return next((gates for kind, gates in _GATES.items() if isinstance(module, kind)), 1)
    return 1


class _Parts:
    """The parts that PyTorch's own modules play in one model, where no rule says otherwise."""

    def __init__(self, model: nn.Module, first_layer: bool) -> None:
        modules = list(model.named_modules(remove_duplicate=False))
        attention = [m for _, m in modules if isinstance(m, nn.MultiheadAttention)]
        inside = {id(part) for m in attention for part in m.modules()}
        layers = [m for _, m in modules if isinstance(m, (nn.Linear, *_CONVOLUTIONS)) and id(m) not in inside]
        linear = [m for m in layers if isinstance(m, nn.Linear)]
        self.heads = [m for n, m in modules if isinstance(m, nn.Linear) and bare(n).split(".")[-1] in _HEADS]
        self.outputs = self.heads or linear[-1:]
        self.inputs = layers[:1] if first_layer else []

    def claim(self, use: Use) -> Claim | None:
        """The parameter's part; None where there is no telling."""
        part = self._vector(use) or (self._weight(use) if use.attribute == "weight" else None) or self._matrix(use)
        if part is None:
            return None
        role, reason = part
        layout = _own_layout(use, role)
        assert layout is not None, "every module that has a part has a layout"
        return Claim((use.name,), use.parameter, role, layout, _own_blocks(use), reason=reason)

    def _vector(self, use: Use) -> tuple[Role, str] | None:
        if use.parameter.ndim == 1 and re.fullmatch(r"(\w+_)?bias(_\w+)?", use.attribute):
            return "bias", "called bias"
        return None

    def _weight(self, use: Use) -> tuple[Role, str] | None:
        module = use.module
        kind = _kind(module, (nn.Linear, nn.Embedding, *_CONVOLUTIONS, *_NORMS))
        if any(module is output for output in self.outputs):
            return "output", f"{kind} called {bare(use.name).split('.')[-2]}" if self.heads else f"last {kind}"
        if isinstance(module, nn.Embedding):
            return "input", kind
        if any(module is first for first in self.inputs):
            return "input", f"first layer, {kind}"
        if isinstance(module, _NORMS):
            return ("gain", kind) if use.parameter.ndim == 1 else None
        return ("hidden", kind) if kind else None

    def _matrix(self, use: Use) -> tuple[Role, str] | None:
        """Matrices of modules that hold several."""
        fused = isinstance(use.module, nn.MultiheadAttention) and use.attribute.endswith("proj_weight")
        gates = isinstance(use.module, _RECURRENT) and use.attribute.startswith("weight_")
        kind = _kind(use.module, (nn.MultiheadAttention, *_RECURRENT))
        return ("hidden", kind) if fused or gates else None


def _kind(module: nn.Module, kinds: Sequence[type[nn.Module]]) -> str:
    """The name of the first of `kinds` that the module is; empty if it is none."""
    return next((f"nn.{kind.__name__}" for kind in kinds if isinstance(module, kind)), "")


def _joined(found: Sequence[tuple[Claim, bool]]) -> Claim:
    """One claim for the uses of a shared parameter: rules go before defaults, the output before other roles."""
    claims = [claim for claim, ruled in found if ruled] or [claim for claim, _ in found]
    chosen = next((claim for claim in claims if claim.role == "output"), claims[0])
    names = tuple(dict.fromkeys(name for claim, _ in found for name in claim.names))
    if chosen.role != "output" and len({(claim.role, claim.layout, claim.blocks) for claim in claims}) > 1:
        parts = ", ".join(f"{claim.role} as {claim.names[0]!r}" for claim in claims)
        raise UserError(f"roles: a shared parameter plays several parts ({parts}); add a Rule that gives it one")
    return replace(chosen, names=names)
