"""Every experiment as it ships: its presets can be trained, its study knows its settings, its claims name its arms."""

import re
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from published_data import write_published

from analysis.studies.comparison.design import arrange
from analysis.studies.comparison.settings import ComparisonSettings
from analysis.studies.table import study
from experiments.batch import for_optimizer
from scionlab.optim import recipe
from scionlab.problems.data import load
from scionlab.spec import trial_id
from scionlab.spec.loading import experiment_names, load_experiment
from scionlab.training import stem_key
from scionlab.training.prepare import architecture, resolve

ROOT = Path(__file__).parents[2]
EXPERIMENTS = experiment_names()
PRESETS = ("smoke", "laptop", "full", "gpu")  # and others for GPUs, whose names begin with gpu-
GRIDS = [(name, preset) for name in EXPERIMENTS for preset in load_experiment(name).presets]
COMPARISONS = [name for name in EXPERIMENTS if load_experiment(name).study == "comparison"]


def runs_of(trials) -> pd.DataFrame:
    """A table of the trials as if each had trained to the same loss."""
    rows = [
        {
            **trial.model_dump(exclude={"options", "stages"}),
            "trial_id": str(i),
            "status": "ok",
            "val_loss": 2.0,
            "train_loss": 2.0,
            "spec": trial.model_copy(update={"options": recipe(trial).model_dump()}).model_dump_json(),
        }
        for i, trial in enumerate(trials)
    ]
    return pd.DataFrame(rows)


def test_every_file_is_an_experiment_with_its_name_and_a_make_target():
    makefile = (ROOT / "Makefile").read_text()
    for name in EXPERIMENTS:
        experiment = load_experiment(name)
        assert experiment.name == name
        assert re.search(rf"^sweep-{name}: ", makefile, flags=re.MULTILINE), name
        study(experiment.study).check(experiment.settings)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_are_all_there_and_say_what_they_are(name):
    presets = load_experiment(name).presets
    assert tuple(presets)[:4] == PRESETS
    assert all(preset.startswith("gpu-") for preset in list(presets)[4:])
    assert all(preset.about for preset in presets.values())
    cost = [sum(trial.exact_tokens for trial in presets[p].trials) for p in ("smoke", "laptop", "full")]
    assert cost == sorted(cost)


@pytest.mark.parametrize(("name", "preset"), GRIDS)
def test_trials_fit_their_method_model_and_data_and_differ(name, preset, tmp_path, monkeypatch):
    write_published(tmp_path)  # which some experiments are on
    monkeypatch.chdir(tmp_path)
    load.cache_clear()
    trials = load_experiment(name).preset(preset).trials
    settings = {(t.optimizer, tuple(t.options.items()), t.width, t.depth, t.model, t.data) for t in trials}
    shapes = {data: load(data).shape for data in {setting[-1] for setting in settings}}
    seen = set()
    for trial in trials:
        key = (trial.optimizer, tuple(trial.options.items()), trial.width, trial.depth, trial.model, trial.data)
        if key not in seen:  # the model is built of these alone
            seen.add(key)
            assert architecture(resolve(trial), shapes[trial.data]).n_params > 0
    cpu = [resolve(trial.replace(device="cpu", dtype="float32")) for trial in trials[:200]]
    assert len({trial_id(trial, "0") + trial.data for trial in cpu}) == len(cpu)


@pytest.mark.parametrize(("name", "preset"), [grid for grid in GRIDS if grid[0] in COMPARISONS])
def test_claims_name_arms_and_places_of_the_grid(name, preset):
    experiment = load_experiment(name)
    settings = ComparisonSettings.parse(experiment.settings)
    design, _ = arrange(runs_of(experiment.preset(preset).trials), settings, [])
    for claim in settings.claims:
        arms = [claim.than, *(claim.of if isinstance(claim.of, tuple) else (claim.of,))]
        for arm in filter(None, arms):
            assert design.arm(arm) is not None, (arm, [found.name for found in design.arms])
        assert claim.at is None or design.find_place(claim.at) is not None, claim.at


def test_a_file_may_import_what_lies_beside_it(tmp_path):
    before = list(sys.path)
    (tmp_path / "my_sizes_for_this_test.py").write_text("WIDTHS = [16, 32, 64]\n")
    mine = tmp_path / "my_experiment.py"
    mine.write_text(
        "from my_sizes_for_this_test import WIDTHS\n"
        "from scionlab.spec.grid import trials\n"
        "from scionlab.spec import Experiment, Preset\n"
        "GRID = trials({'optimizer': 'scion', 'lr': 0.1}, width=WIDTHS)\n"
        "SPEC = Experiment(name='mine', title='', question='', presets={'laptop': Preset(trials=GRID)})\n"
    )
    assert [trial.width for trial in load_experiment(str(mine)).preset("laptop").trials] == [16, 32, 64]
    assert sys.path == before


def test_the_batch_grid_takes_a_schedule_by_which_its_budgets_share_their_first_steps():
    plain, wsd = for_optimizer("scion"), for_optimizer("scion", schedule="trapezoid", warmup=0)
    assert plain == load_experiment("batch")
    for name, preset in plain.presets.items():
        other = wsd.presets[name].trials
        assert [trial.replace(schedule="linear", warmup=None) for trial in other] == list(preset.trials)
        assert {(trial.schedule, trial.warmup) for trial in other} == {("trapezoid", 0)}
    tiny = [resolve(trial.replace(device="cpu")) for trial in wsd.presets["smoke"].trials if not trial.probe]
    groups = Counter(map(stem_key, tiny))
    assert None not in groups
    assert max(groups.values()) == len({trial.tokens for trial in tiny}) == 3
