"""Roles: which part a parameter plays, decided by the caller's rules on its name, then by its module's type and name.

The first rule that matches wins, and a parameter that nothing claims is an error: an optimizer that treats layers
differently must not guess. Where no rule of the caller's matches, PyTorch's own modules play these parts:

    output   nn.Linear of the model itself called head or lm_head, or the last layer of a model of nn.Sequential; where
             neither tells, the caller is asked (`scionlab.roles.heads`)
    input    nn.Embedding, nn.EmbeddingBag; in presets for images also the first linear or convolutional layer
    hidden   every other nn.Linear and convolution, and the matrices of nn.MultiheadAttention, nn.RNN, nn.LSTM, nn.GRU
    gain     weights of normalization layers
    bias     vectors called bias (in PyTorch's modules also bias_ih_l0, in_proj_bias, …)

The layout says which axis of a matrix is the input; it is declared, never read off the shape. `nn.Linear` stores
(d_out, d_in); `nn.Embedding` stores (vocabulary, width), its input axis first. `blocks` are the matrices that one
parameter holds side by side along d_out: 3 for fused q, k, v, the gates of an LSTM, the groups of a convolution.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from scionlab.errors import UserError
from scionlab.roles import heads
from scionlab.roles.presets import role_preset
from scionlab.roles.rules import ROLES, Layout, Role, Rule, Use, bare
from scionlab.roles.sharded import refuse_sharded
from scionlab.roles.suggestions import examples

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_GATES = {nn.LSTM: 4, nn.LSTMCell: 4, nn.GRU: 3, nn.GRUCell: 3, nn.RNN: 1, nn.RNNCell: 1}
_RECURRENT = tuple(_GATES)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_STORE_OUT_IN = (nn.Linear, nn.MultiheadAttention, *_CONVOLUTIONS, *_RECURRENT)
_NORMS = (
    nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A parameter with the role it was given, and what decided: `reason`.

    `names` has more than one entry where the weight is shared. `norm` and `radius` are those of the caller's rule.
    `layout`, `blocks` and `batch` are those of `scionlab.geometry.Layer`. `padding` is the row of an embedding that
    stays zero, as no token is looked up in it. `shared` says that the matrix is both embedding and head.
    """

    names: tuple[str, ...]
    parameter: nn.Parameter
    role: Role
    layout: Layout
    blocks: int | tuple[int, ...] = 1
    norm: str | None = None
    radius: float | None = None
    reason: str = ""
    batch: int = 0
    padding: int | None = None
    shared: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one matrix of the batch, as it is stored."""
        return tuple(self.parameter.shape[self.batch :])

    def fill(self, values: Tensor) -> None:
        """Start the parameter at these values, and its row for padding at zero. Call it without gradients."""
        self.parameter.copy_(values)
        if self.padding is not None:
            self.parameter[self.padding] = 0


@dataclass(frozen=True)
class _Found:
    """What one use of a parameter claims for it, and the caller's rule if it decided; no claim where nothing tells."""

    use: Use
    rule: Rule | None
    claim: Claim | None

    @property
    def embeds(self) -> bool:
        """Whether tokens are looked up in the parameter."""
        return isinstance(self.use.module, _EMBEDDINGS)


class UnclaimedError(UserError):
    """Parameters that nothing claims: `uses` are all of them, `examples` rules for them, to be corrected.

    `question` asks for the output, too, where nothing tells it; empty where something does.
    """

    def __init__(self, uses: Sequence[Use], claimed: Iterable[str], question: str = "") -> None:
        self.uses = tuple(uses)
        self.examples = examples(uses, claimed)
        self.question = question
        more = f" (and {len(uses) - 1} more)" if len(uses) > 1 else ""
        rules = " and ".join(f"'{text}'" for text in self.examples)
        super().__init__(
            f"roles: parameter {uses[0]} is claimed by no rule{more}; add a rule that gives it one of "
            f"{', '.join(ROLES)}, or other to leave it to another optimizer, such as {rules}"
            + (f"; {question}" if question else "")
        )


def assign_roles(
    model: nn.Module, rules: Sequence[Rule | str] = (), defaults: bool = True, preset: str = "text"
) -> list[Claim]:
    """One claim for every parameter that requires a gradient, in the model's order.

    `rules`, also as text (`Rule.of`), come before the defaults; one of them that matches nothing is an error, as are
    unclaimed parameters (`UnclaimedError`), an output that nothing tells, and sharded parameters. A weight shared by
    input and output plays the output's part, unless a rule says otherwise: it is measured as (vocabulary, width) acting
    on the hidden state.
    """
    refuse_sharded(model)
    ordered = [Rule.of(rule) if isinstance(rule, str) else rule for rule in rules]
    parts = _Parts(model, role_preset(preset).first_layer) if defaults else None
    found = [_found(use, ordered, parts) for use in _uses(model)]
    for rule in ordered:
        if not any(one.rule is rule for one in found):
            raise UserError(f"roles: rule {rule.name!r} for role {rule.role!r} matches no parameter")
    ruled = {id(one.use.parameter) for one in found if one.rule is not None}
    open_ = [one for one in found if one.rule is None and id(one.use.parameter) not in ruled]
    claimed: dict[int, list[_Found]] = {}
    for one in found:
        if one.claim is not None:
            claimed.setdefault(id(one.use.parameter), []).append(one)
    claims = [_joined(group) for group in claimed.values()]
    question = _question(claims, open_, parts) if parts and not parts.outputs else ""
    if unclaimed := [one.use for one in open_ if one.claim is None]:
        raise UnclaimedError(unclaimed, [name for claim in claims for name in claim.names], question)
    if question:
        raise UserError(question)
    return claims


def _found(use: Use, rules: Sequence[Rule], parts: "_Parts | None") -> _Found:
    rule = next((rule for rule in rules if rule.matches(use)), None)
    if rule is not None:
        return _Found(use, rule, _by_rule(use, rule))
    return _Found(use, None, parts.claim(use) if parts else None)


def _question(claims: Sequence[Claim], by_default: Sequence[_Found], parts: "_Parts") -> str:
    """What to ask of a model whose own modules do not tell the output; empty where a rule does, or nothing has one.

    Of a model without linear layers, the embedding may be the head.
    """
    matrices = [one for one in by_default if one.claim is not None and one.claim.role in ("hidden", "input")]
    linear = [one.use for one in matrices if any(one.use.module is layer for layer in parts.linear)]
    embeddings = [one.use for one in matrices if one.embeds]
    roles = {claim.role for claim in claims}
    if "output" in roles or not (linear or (embeddings and "hidden" in roles)):
        return ""
    last = [one.use for one in matrices if not one.embeds][-1:]  # of a U-Net, a convolution
    return heads.question(last or linear, embeddings)


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
    layout = rule.layout or _own_layout(use, rule.role, rule.batch)
    if layout is None:
        raise UserError(
            f"roles: rule {rule.name!r} claims {use}, whose layout is not known; give the rule a layout, "
            "'out_in' if the weight is stored (d_out, d_in, …), 'in_out' if (d_in, d_out)"
        )
    blocks = _own_blocks(use) if rule.blocks is None else rule.blocks
    reason = f"rule '{rule.name}'"  # as it was written: repr doubles its backslashes
    return Claim(
        names=(use.name,),
        parameter=use.parameter,
        role=rule.role,
        layout=layout,
        blocks=blocks,
        norm=rule.norm,
        radius=rule.radius,
        reason=reason,
        batch=rule.batch,
        padding=_padding(use),
    )


def _own_layout(use: Use, role: Role, batch: int = 0) -> Layout | None:
    """The layout that the module stores its weights in; None where it is not known."""
    if isinstance(use.module, _EMBEDDINGS):
        return "out_in" if role == "output" else "in_out"  # as a head, (vocabulary, width) is (d_out, d_in)
    known = isinstance(use.module, _STORE_OUT_IN) or use.parameter.ndim - batch < 2 or role == "other"
    return "out_in" if known else None


def _padding(use: Use) -> int | None:
    """The row that an embedding keeps at zero for padding."""
    return use.module.padding_idx if isinstance(use.module, _EMBEDDINGS) else None


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
        modules = list(model.modules())
        attention = [m for m in modules if isinstance(m, nn.MultiheadAttention)]
        inside = {id(part) for m in attention for part in m.modules()}
        layers = [m for m in modules if isinstance(m, (nn.Linear, *_CONVOLUTIONS)) and id(m) not in inside]
        self.linear = [m for m in layers if isinstance(m, nn.Linear)]
        self.named = heads.by_name(model, self.linear)
        last = heads.by_order(model)
        self.outputs = self.named or ([] if last is None else [last])
        self.inputs = layers[:1] if first_layer else []

    def claim(self, use: Use) -> Claim | None:
        """The parameter's part; None where there is no telling."""
        part = self._vector(use) or (self._weight(use) if use.attribute == "weight" else None) or self._matrix(use)
        if part is None:
            return None
        role, reason = part
        layout = _own_layout(use, role)
        assert layout is not None, "every module that has a part has a layout"
        blocks = _own_blocks(use)
        return Claim((use.name,), use.parameter, role, layout, blocks, reason=reason, padding=_padding(use))

    def _vector(self, use: Use) -> tuple[Role, str] | None:
        own = any(_is_pytorchs(kind) for kind in type(use.module).__mro__)
        called = re.fullmatch(r"(\w+_)?bias(_\w+)?" if own else "bias", use.attribute)
        time_step = bare(use.name).endswith("dt_proj.bias")  # of a state-space model: its start, log Δ, is no zero
        if use.parameter.ndim == 1 and called and not time_step:
            return "bias", "called bias"
        return None

    def _weight(self, use: Use) -> tuple[Role, str] | None:
        module = use.module
        kind = _kind(module, (nn.Linear, *_EMBEDDINGS, *_CONVOLUTIONS, *_NORMS))
        if any(module is output for output in self.outputs):
            return "output", f"{kind} called {bare(use.name).split('.')[-2]}" if self.named else f"last layer, {kind}"
        if isinstance(module, _EMBEDDINGS):
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


def _is_pytorchs(kind: type) -> bool:
    """Whether it is a layer of PyTorch's, not one of the classes that everybody's modules are made of."""
    made_of = kind is nn.Module or kind.__module__.endswith(".container")
    return kind.__module__.startswith("torch.nn.modules") and not made_of


def _kind(module: nn.Module, kinds: Sequence[type[nn.Module]]) -> str:
    """The name of the first of `kinds` that the module is; empty if it is none."""
    return next((f"nn.{kind.__name__}" for kind in kinds if isinstance(module, kind)), "")


def _joined(found: Sequence[_Found]) -> Claim:
    """One claim for the uses of a shared parameter: rules go before defaults, the output before other roles."""
    counted = [one for one in found if one.rule is not None] or found
    claims = [one.claim for one in counted if one.claim is not None]
    chosen = next((claim for claim in claims if claim.role == "output"), claims[0])
    names = tuple(dict.fromkeys(one.use.name for one in found))
    if chosen.role != "output" and len({(c.role, c.layout, c.blocks, c.batch) for c in claims}) > 1:
        parts = ", ".join(f"{claim.role} as {claim.names[0]!r}" for claim in claims)
        raise UserError(f"roles: a shared parameter plays several parts ({parts}); add a Rule that gives it one")
    padding = next((one.claim.padding for one in found if one.claim and one.claim.padding is not None), None)
    said = next((one.rule.shared for one in counted if one.rule and one.rule.shared is not None), None)
    both = len(names) > 1 or (chosen.role == "output" and any(one.embeds for one in found))
    return replace(chosen, names=names, padding=padding, shared=both if said is None else said)
