"""Sweeps: from a grid of trials to rows in the store, by an executor of choice."""

from scionlab.sweep.run import SweepResult, plan_sweep, run_sweep

__all__ = ["SweepResult", "plan_sweep", "run_sweep"]
