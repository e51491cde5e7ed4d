"""scionlab: how learning rate, batch size and momentum transfer across width, depth and token budget.

Importing this package loads neither torch nor Ray: the analysis reads stores without them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scionlab.optim.scion import Scion

__all__ = ["Scion"]


def __getattr__(name: str) -> Any:
    if name == "Scion":
        from scionlab.optim.scion import Scion

        return Scion
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
