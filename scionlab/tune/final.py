"""The comparison after the searches, as an ordinary experiment: what was found, trained with fresh seeds.

At every target, for every method and every search seed two ways: `zero-shot`, the best values of the proxy's search
with its learning rate carried over by the rule, and `direct`, the best values of the search made there. All use the
same fresh seeds, so that differences are paired. Where two searches found the same values, their trials are the same.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from scionlab.runs.store import RunStore
from scionlab.spec import Experiment, Preset, Trial
from scionlab.spec.tuning import TransferExperiment
from scionlab.sweep.plan import make_plan
from scionlab.tune.search import Place, Search

STUDY = "transfer"
ZERO_SHOT, DIRECT = "zero_shot", "direct"


def final_experiment(
    spec: TransferExperiment,
    preset_name: str,
    rule: str,
    found: Mapping[str, Mapping[str, Any]],
    proxies: Sequence[Search],
    directs: Sequence[Search],
    store: RunStore,
) -> Experiment:
    """One preset, called `preset_name`. `found` are the best rows of all searches by their study.

    The settings say for every method, target and search seed which trials are which way, and the names of the two
    searches.
    """
    proxy_of = {(search.method_name, search.seed): search for search in proxies}
    trials: dict[str, Trial] = {}
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for direct in directs:
        proxy = proxy_of[direct.method_name, direct.seed]
        ways = {
            ZERO_SHOT: _trials(direct, found[proxy.study], direct.place.lr_factor),
            DIRECT: _trials(direct, found[direct.study]),
        }
        plans = {way: make_plan(some, store, spec.name, preset_name) for way, some in ways.items()}
        ids = {way: [cell.trial_id for cell in plan.cells] for way, plan in plans.items()}
        for way, some in ways.items():
            trials |= dict(zip(ids[way], some, strict=True))
        about = {
            "method": direct.method_name,
            "optimizer": direct.method.optimizer,
            "target": direct.place.name,
            "changes": described(direct.place, proxy.place),
            "searches": [],
        }
        searches = cells.setdefault((direct.place.name, direct.method_name), about)["searches"]
        searches.append({"seed": direct.seed, "proxy_search": proxy.study, "direct_search": direct.study, **ids})
    return Experiment(
        name=spec.name,
        title=spec.title,
        question=spec.question,
        study=STUDY,
        settings={"rule": rule, "cells": list(cells.values())},
        presets={preset_name: Preset(trials=tuple(trials.values()), about="what the searches found, with fresh seeds")},
    )


def described(place: Place, proxy: Place) -> str:
    """What is different at a target, in words: "tokens 524288 (65536), batch_size 32 (8), lr × 0.5"."""
    parts = [
        f"{name} {value} ({proxy.fields[name]})" if name in proxy.fields else f"{name} {value}"
        for name, value in place.fields.items()
        if proxy.fields.get(name) != value
    ]
    return ", ".join([*parts, *([f"lr × {place.lr_factor:.3g}"] if place.lr_factor != 1 else [])])


def _trials(search: Search, best: Mapping[str, Any], lr_factor: float = 1.0) -> list[Trial]:
    preset, values = search.preset, json.loads(best["params"])
    return [preset.trial(search.method_name, search.place.fields, values, seed, lr_factor) for seed in preset.seeds]
