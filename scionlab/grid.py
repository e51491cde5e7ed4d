"""For experiment files: grids of trials (`scionlab.spec.grid`)."""

from scionlab.spec.grid import extend, extend_preset, log2_range, named_for, trials

__all__ = ["extend", "extend_preset", "log2_range", "named_for", "trials"]
