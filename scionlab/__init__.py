"""scionlab: how learning rate, batch size and momentum transfer across width, depth and token budget.

Importing this package loads neither torch nor Ray: the analysis reads stores without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scionlab.optim.steps.scion import Scion, ScionLight
    from scionlab.roles.groups import explain, initialize, param_groups
    from scionlab.roles.rules import Rule

__all__ = ["Rule", "Scion", "ScionLight", "explain", "initialize", "param_groups"]

_HOMES = {
    "Rule": "scionlab.roles.rules",
    "Scion": "scionlab.optim.steps.scion",
    "ScionLight": "scionlab.optim.steps.scion",
    "explain": "scionlab.roles.groups",
    "initialize": "scionlab.roles.groups",
    "param_groups": "scionlab.roles.groups",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
