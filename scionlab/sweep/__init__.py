"""Sweeps: from a grid of trials to rows in the store, by an executor of choice.

Importing this package loads no torch: the queue of a cluster's sweep lives in a small process of its own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scionlab.sweep.arrange import How
    from scionlab.sweep.run import SweepResult, plan_sweep, run_sweep
    from scionlab.sweep.workers import check_gpu, default_workers

__all__ = ["How", "SweepResult", "check_gpu", "default_workers", "plan_sweep", "run_sweep"]


_HOMES = {"How": "arrange", "check_gpu": "workers", "default_workers": "workers"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'run')}"), name)
