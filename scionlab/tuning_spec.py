"""For files of searches: what a transfer experiment is (`scionlab.spec.tuning`)."""

from scionlab.spec.tuning import Method, TransferExperiment, TransferPreset

__all__ = ["Method", "TransferExperiment", "TransferPreset"]
