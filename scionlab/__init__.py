"""scionlab: how learning rate, batch size and momentum transfer across width, depth and token budget.

    import_table, fit, fit_scaling_law, plan, RunStore     tables, laws and plans (docs/python.md)
    Scion, ScionLight, param_groups, initialize, explain   the optimizer in a training loop (docs/library.md)
    Anchor                                                 a pull to the start around any optimizer (docs/optimizers.md)

Importing this package loads neither torch nor Ray, and nor do the names of the first line: they are looked up when they
are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scionlab.api import ImportedTable, ScalingLawFit, fit, fit_scaling_law, import_table, plan
    from scionlab.errors import UserError
    from scionlab.optim.steps.anchor import Anchor
    from scionlab.optim.steps.scion import Scion, ScionLight
    from scionlab.roles.groups import explain, initialize, param_groups
    from scionlab.roles.rules import Rule
    from scionlab.runs.store import RunStore

__all__ = [
    "Anchor",
    "ImportedTable",
    "Rule",
    "RunStore",
    "ScalingLawFit",
    "Scion",
    "ScionLight",
    "UserError",
    "explain",
    "fit",
    "fit_scaling_law",
    "import_table",
    "initialize",
    "param_groups",
    "plan",
]

_HOMES = {
    "Anchor": "scionlab.optim.steps.anchor",
    "ImportedTable": "scionlab.api",
    "RunStore": "scionlab.runs.store",
    "ScalingLawFit": "scionlab.api",
    "UserError": "scionlab.errors",
    "fit": "scionlab.api",
    "fit_scaling_law": "scionlab.api",
    "import_table": "scionlab.api",
    "plan": "scionlab.api",
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


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
