"""Sweeps: from a grid of trials to rows in the store, by an executor of choice."""

from scionlab.sweep.arrange import How
from scionlab.sweep.run import SweepResult, default_workers, plan_sweep, run_sweep

__all__ = ["How", "SweepResult", "default_workers", "plan_sweep", "run_sweep"]
