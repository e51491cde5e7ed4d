"""scionlab: how learning rate, batch size and momentum transfer across width, depth and token budget.

Importing this package loads neither torch nor Ray: the analysis reads stores without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scionlab.optim.groups import explain, initialize, param_groups
    from scionlab.optim.rules import Rule
    from scionlab.optim.scion import Scion, ScionLight

__all__ = ["Rule", "Scion", "ScionLight", "explain", "initialize", "param_groups"]

_HOMES = {
    "Rule": "scionlab.optim.rules",
    "Scion": "scionlab.optim.scion",
    "ScionLight": "scionlab.optim.scion",
    "explain": "scionlab.optim.groups",
    "initialize": "scionlab.optim.groups",
    "param_groups": "scionlab.optim.groups",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
