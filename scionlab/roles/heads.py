"""Which layer is the output: its name says so, the forward pass of nn.Sequential, or that it is the only layer.

The order of definition does not: a module lists its layers in any order, and a head may be the embedding, used by hand.
So where nothing else tells, nothing is assumed, and the caller is asked (`question`).
"""

import re
from collections.abc import Sequence

from torch import nn

from scionlab.roles.rules import Use, bare

NAMES = ("head", "lm_head")


def by_name(model: nn.Module, linear: Sequence[nn.Module]) -> list[nn.Module]:
    """The layers whose name says that they are the model's head; `linear` are its layers as they are defined.

    A layer of the model itself, called so, is. In a part of the model it has to be the only one there is and the last
    one defined; in one of a list of parts it is none, as those have heads of their own (of attention, say).
    """
    found: dict[str, list[nn.Module]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        place, _, own = bare(name).rpartition(".")
        if own in NAMES and isinstance(module, nn.Linear):
            found.setdefault(place, []).append(module)
    if "" in found:
        return found[""]
    ((place, heads), *others) = found.items() or [("", [])]
    in_a_list = any(part.isdigit() for part in place.split("."))
    return heads if heads and not others and not in_a_list and heads[-1] is linear[-1] else []


def by_order(model: nn.Module) -> nn.Module | None:
    """The nn.Linear that a model of nn.Sequential calls last, or that is all there is; None where nothing tells."""
    layers = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
    if len(layers) == 1:
        return layers[0] if isinstance(layers[0], nn.Linear) else None
    children = list(model.named_children())
    if type(model).__module__.startswith("torch.") and len(children) == 1 and not bare(children[0][0]):
        return by_order(children[0][1])  # a wrapper: torch.compile, DistributedDataParallel
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        with_weights = [child for _, child in children if any(True for _ in child.parameters())]
        return by_order(with_weights[-1]) if with_weights else None
    return None


def question(linear: Sequence[Use], embeddings: Sequence[Use]) -> str:
    """What to ask of a model whose output nothing tells, from the weights of its layers that have no rule."""
    rules = [f"{_rule(use)} if it is the last one defined" for use in linear[-1:]]
    rules += [f"{_rule(use)} if the embedding serves as the head, too" for use in embeddings[:1]]
    return (
        "roles: which parameter is the output? No nn.Linear of the model itself is called head or lm_head, and the "
        f"order of definition does not tell; add a rule, such as {' or '.join(rules)}; if there is none, rules that "
        "give every nn.Linear and nn.Embedding its role"
    )


def _rule(use: Use) -> str:
    return f"'{re.escape(bare(use.name))}=output'"
