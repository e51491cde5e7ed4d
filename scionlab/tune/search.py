"""What a search is: one method at one place with one seed, checked, and named by all that decides what it finds."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scionlab.errors import unknown
from scionlab.runs.store import RunStore
from scionlab.spec import Trial
from scionlab.spec.tuning import Method, TransferExperiment, TransferPreset
from scionlab.sweep.plan import Cell, make_plan

# Raise it when a search with the same ranges and seed would sample or prune otherwise.
SEARCH_VERSION = 2


@dataclass(frozen=True)
class Place:
    """Where a method is tuned or used: fields of a trial, and the factor on the proxy's learning rate to come there."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    lr_factor: float = 1.0


@dataclass(frozen=True)
class Search:
    """`trials` trials of a method at a place, sampled and trained with `seed`.

    `study` is its name everywhere; `flops` are those of one whole trial. `compiled` says whether its trials take their
    gradients from compiled graphs, which changes what it finds by rounding only, and so is no part of its name.
    """

    experiment: str
    preset_name: str
    preset: TransferPreset
    method_name: str
    place: Place
    seed: int
    trials: int
    study: str
    flops: int
    steps: int
    compiled: bool = False

    @property
    def method(self) -> Method:
        """The method that is searched."""
        return self.preset.methods[self.method_name]

    def trial(self, values: Mapping[str, float]) -> Trial:
        """The trial with these values; learning rates are those of the place itself."""
        return self.preset.trial(self.method_name, self.place.fields, values, self.seed)

    def cell(self, values: Mapping[str, float], store: RunStore) -> tuple[Cell, bool]:
        """The trial resolved and identified, and whether the store has it already."""
        plan = make_plan([self.trial(values)], store, self.experiment, self.preset_name)
        return plan.cells[0], not plan.todo


def make_searches(
    spec: TransferExperiment,
    preset_name: str,
    methods: Sequence[str],
    places: Sequence[Place],
    store: RunStore,
    trials: int | None = None,
    compiled: bool = False,
) -> list[Search]:
    """One of every method at every place with every seed, checked; `trials` of each, by default the preset's."""
    seeds = spec.preset(preset_name).search_seeds
    return [
        make_search(spec, preset_name, method, place, seed, store, trials, compiled)
        for place in places
        for method in methods
        for seed in seeds
    ]


def make_search(
    spec: TransferExperiment,
    preset_name: str,
    method: str,
    place: Place,
    seed: int,
    store: RunStore,
    trials: int | None = None,
    compiled: bool = False,
) -> Search:
    """The search, checked: UserError where a trial of it cannot run, also at the ends of its ranges."""
    preset = spec.preset(preset_name)
    chosen = preset.methods[method]
    whole = [preset.trial(method, place.fields, values, seed) for values in (chosen.middle, *chosen.corners)]
    cells = make_plan(whole, store, spec.name, preset_name).cells
    decides = [SEARCH_VERSION, [cell.trial_id for cell in cells], sorted(chosen.space), preset.pruning]
    identity = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:8]
    study = f"{spec.name}.{preset_name}.{method}.{place.name}.seed{seed}.{identity}"
    count = preset.trials if trials is None else trials
    size = cells[0].flops, cells[0].trial.steps
    return Search(spec.name, preset_name, preset, method, place, seed, count, study, *size, compiled)


def chosen_methods(preset: TransferPreset, names: Sequence[str] | None) -> list[str]:
    """The methods called so, in the preset's order; all of them by default."""
    for name in names or ():
        if name not in preset.methods:
            raise unknown("method", name, preset.methods)
    return [name for name in preset.methods if not names or name in names]
