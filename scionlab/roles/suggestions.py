r"""Rules to copy for parameters that nothing claims: only what a module or a name tells, and `other` for the rest.

What is not known is not suggested: a matrix in a module that is not PyTorch's may be stored either way round, three
dimensions may be a stack of experts or a kernel, and a vector may be a gain, the exponents of a state-space model or a
LayerScale of 1e-5, which constrained steps would pull to ±1.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from scionlab.roles.rules import Use, bare

_POSITIONS = re.compile(r"wpe|pos(ition)?(al)?(_?(emb|embed|embedding|embeddings|encoding))?(_table)?s?")
# Logarithms of rates, skip factors and time steps of state-space models, whose start is part of the model.
_STATE_SPACE = re.compile(r"[ABCD]|[AD]_\w+|log_\w+|\w+_log|dt_\w+|inv_dt")
_BIAS = re.compile(r"(\w+_)?bias(_\w+)?")
_GATE_AND_UP = re.compile(r"(\w+_)?(gate_?up|up_?gate)(_(proj|weights?))?")


def examples(unclaimed: Sequence[Use], others: Iterable[str]) -> tuple[str, ...]:
    r"""Rules as text that give every one of `unclaimed` a part, for the caller to correct; none matches `others`.

    Numbers in names become \d+ where that is unambiguous, so that one rule serves all layers.
    """
    parts = {use.name: _part(use) for use in unclaimed}
    found = []
    for use in unclaimed:
        wide = r"\.".join(r"\d+" if word.isdigit() else re.escape(word) for word in bare(use.name).split("."))
        matched = {name for name in (*parts, *others) if re.fullmatch(wide, bare(name))}
        same = all(parts.get(name) == parts[use.name] for name in matched)
        found.append(f"{wide if same else re.escape(bare(use.name))}={parts[use.name]}")
    return tuple(dict.fromkeys(found))


def _part(use: Use) -> str:
    """The part that the module or the name tells, as a rule says it."""
    ndim, kind = use.parameter.ndim, type(use.module).__name__
    if isinstance(use.module, _ConvTransposeNd):
        return "hidden,layout=in_out" if use.module.groups == 1 else "other"
    if ndim == 1:
        return _vector(use, kind)
    if ndim == 2 and kind == "Conv1D":  # of transformers
        return "hidden,layout=in_out" + (",blocks=3" if ".c_attn." in use.name else "")
    if ndim == 2 and _POSITIONS.fullmatch(use.attribute) and use.parameter.shape[0] > 1:
        return "input,layout=in_out"  # (S, D), and a position picks a row
    return _experts(use) if ndim == 3 else "other"


def _vector(use: Use, kind: str) -> str:
    if _STATE_SPACE.fullmatch(use.attribute):
        return "other"
    if "norm" in kind.lower() or _all(use.parameter, 1):  # what a gain starts at
        return "gain"
    return "bias" if _BIAS.fullmatch(use.attribute) and _all(use.parameter, 0) else "other"


def _all(parameter: Tensor, value: float) -> bool:
    return not parameter.is_meta and bool(torch.all(parameter.detach() == value))


def _experts(use: Use) -> str:
    """A stack of matrices beside the one that comes before or after it, where only one layout fits both.

    One leads from d to 2 f, fused with a gate, the other from f back to d. Without a gate both layouts fit. What is
    called gate and up holds two matrices side by side where the output's axis is first; where it is last, some models
    interleave their columns, and the name does not tell.
    """
    if isinstance(use.module, nn.Bilinear):
        return "other"
    stacks = [p for p in use.module.parameters(recurse=False) if p.ndim == 3 and p.shape[0] == use.parameter.shape[0]]
    pairs = [pair for pair in permutations(stacks, 2) if any(p is use.parameter for p in pair)]
    fitting = [layout for layout, out in (("out_in", 1), ("in_out", 2)) if any(_fits(*pair, out) for pair in pairs)]
    if len(fitting) != 1:
        return "other"
    leading = any(up is use.parameter and _fits(up, down, 1) for up, down in pairs)
    fused = leading and _GATE_AND_UP.fullmatch(use.attribute)
    return f"hidden,layout={fitting[0]}{',blocks=2' if fused else ''},batch=1"


def _fits(up: Tensor, down: Tensor, out: int) -> bool:
    """Whether `up` leads from d to 2 f, and `down` from f to d, where axis `out` is the output's."""
    d, f = up.shape[3 - out], down.shape[3 - out]
    return up.shape[out] == 2 * f and down.shape[out] == d
