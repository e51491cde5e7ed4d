"""Short names of trials, for people: the optimizer and whatever differs among its trials."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from scionlab.spec import Trial

# What is said first; the other fields follow in the order of `Trial`.
FIRST = ("model", "width", "depth", "tokens", "batch_size", "seq_len", "lr", "momentum")
SHORT = {"batch_size": "batch", "seq_len": "length"}
LACKS = ""  # the value of an option or late field that others have


def trial_labels(trials: Mapping[str, Trial], names: bool = True) -> dict[str, str]:
    """By the same keys, such as `scion width 128 lr 2^-5 seed 0`: different for different trials.

    Without `names` it is `scion 128 2^-5 0`, for narrow terminals.
    """
    groups: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for key, trial in trials.items():
        groups[trial.optimizer][key] = _fields(trial)
    labels = {}
    for optimizer, group in groups.items():
        found = dict.fromkeys(name for fields in group.values() for name in fields)
        differ = [name for name in found if len({fields.get(name, LACKS) for fields in group.values()}) > 1]
        for key, fields in group.items():
            said = (
                f"{SHORT.get(name, name)} {fields[name]}" if names else fields[name]
                for name in differ
                if name in fields
            )
            labels[key] = " ".join([optimizer, *said])
    return labels


def _fields(trial: Trial) -> dict[str, str]:
    fields = trial.model_dump(exclude={"optimizer", "options", "sampler_options"})
    fields |= trial.sampler_options | trial.options
    return {name: _short(fields[name]) for name in dict.fromkeys([*FIRST, *fields])}


def _short(value: Any) -> str:
    """A value for reading; a number as a power of two where it is one, stages as what each begins with."""
    if isinstance(value, list | tuple):
        return ",".join(map(_short, value))
    if isinstance(value, dict):
        return f"{value['from_tokens']}:{value['batch_size']}:{_short(value['lr'])}"
    if isinstance(value, float) and value > 0:
        octaves = round(math.log2(value), 2)
        return f"2^{octaves:g}" if math.isclose(2.0**octaves, value, rel_tol=1e-9) else f"{value:.6g}"
    return str(value)
