"""A trial's identity: a hash of everything that changes its numbers.

So the same cell is never trained twice: not after a crash, not when a grid grows, not when two experiments share it.
"""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from scionlab.spec.trial import ADDED_LATER, Trial

# Part of every trial's identity. Raise it when a change to the code changes the numbers a trial gives.
NUMERICS_VERSION = 1


def trial_id(
    trial: Trial,
    data_sha256: str,
    model_sha256: str | None = None,
    code: Mapping[str, str | int] = MappingProxyType({}),
) -> str:
    """16 hex digits of a hash of everything that changes the trial's numbers.

    The text enters by its content (`Corpus.split_sha256`), not by its name or path. `trial` must be resolved:
    device, dtype, warm-up, calls a step and the optimizer's options explicit, so that a changed default is a changed
    trial. A model of the caller's enters by its name and by the hash of its code, and so does what else the numbers
    follow from, by `code`.
    """
    if "auto" in (trial.device, trial.dtype) or None in (trial.warmup, trial.calls_per_step):
        raise AssertionError("trial_id needs a resolved trial")
    as_before = {name for name, before in ADDED_LATER.items() if getattr(trial, name) == before}
    fields = trial.model_dump(exclude={"data", *as_before})
    fields |= {"data_sha256": data_sha256, "numerics": NUMERICS_VERSION}
    if model_sha256 is not None:
        fields["model_sha256"] = model_sha256
    fields |= code
    return fields_hash(fields)


def fields_hash(fields: Mapping[str, Any]) -> str:
    """16 hex digits of a hash of plain values by name, whatever their order."""
    text = json.dumps(fields, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
