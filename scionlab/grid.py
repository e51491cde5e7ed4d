"""For experiment files: grids of trials (`scionlab.spec.grid`), and values that follow from others in them."""

from scionlab.spec.grid import extend, extend_preset, log2_range, named_for, trials
from scionlab.spec.scaled import scaled

__all__ = ["extend", "extend_preset", "log2_range", "named_for", "scaled", "trials"]
