"""Optimizers of the caller's own, MODULE:RECIPE: trained as built-in ones are, and identified by their code."""

import itertools
import json
import subprocess
import sys

import pytest
from own_code import DATA, MODEL, SMALL
from rich.console import Console

from scionlab.errors import UserError
from scionlab.optim import OPTIMIZERS, recipe
from scionlab.optim.recipes.adam import Adam
from scionlab.runs.store import RunStore
from scionlab.spec import Experiment, Preset, Trial
from scionlab.spec.loading import built_in
from scionlab.sweep import How, run_sweep
from scionlab.sweep.plan import make_plan
from scionlab.training import stack_key, train
from scionlab.training.prepare import data_of, identity, resolve

NUMBERS = itertools.count()
OWN = """
import torch

from scionlab.optim.recipes.adam import Adam
from scionlab.optim.recipes.base import Recipe
from scionlab.optim.recipes.conditional import ScionRecipe


class Mine(Adam):
    rate: float = 1.0

    def optimizers(self, claims, lr, momentum, width):
        return super().optimizers(claims, self.rate * lr, momentum, width)


class Other(Mine):
    pass


class RowScion(ScionRecipe):
    norm_hidden: str = "row"
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module into the current folder; gives its name, which no other test has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def module(source, name=None):
        name = name or f"my_recipe_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return module


def trial(optimizer, **fields):
    return resolve(Trial(**{**SMALL, "optimizer": optimizer, "lr": 0.02, "data": "sotu", "head_dim": 8, **fields}))


def numbers(asked, compiled=False):
    outcome = train(asked, data_of(asked), compiled)
    return [outcome.summary["val_loss"], *(row["train_loss"] for row in outcome.curve)]


def test_an_own_recipe_gives_the_numbers_of_the_built_in_one_it_repeats(write):
    name = write(OWN)
    assert numbers(trial(f"{name}:Mine")) == numbers(trial("adam"))
    assert numbers(trial(f"{name}:Mine", options={"rate": 2.0})) == numbers(trial("adam", lr=0.04))


def test_options_are_the_recipes_fields(write):
    name = write(OWN)
    assert trial(f"{name}:Mine").options == {**trial("adam").options, "rate": 1.0}
    with pytest.raises(UserError, match=r"^options\.speed: no such field"):
        trial(f"{name}:Mine", options={"speed": 1.0})


def test_an_own_scion_keeps_its_balls_on_images(write):
    name = write(OWN)
    options = recipe(Trial(optimizer=f"{name}:RowScion", lr=0.1, width=8, model="mlp", data="digits"))
    built_in = recipe(Trial(optimizer="scion", lr=0.1, width=8, model="mlp", data="digits"))
    assert options.norm_hidden == "row"
    assert options.radius_output == built_in.radius_output


def test_own_recipes_are_trained_alone(write):
    assert stack_key(trial(f"{write(OWN)}:Mine")) is None
    assert stack_key(trial("adam")) is not None


def test_two_recipes_of_one_module_are_two(write):
    name = write(OWN)
    first, second = trial(f"{name}:Mine"), trial(f"{name}:Other")
    assert identity(first, data_of(first)) != identity(second, data_of(second))


def test_a_recipe_put_into_the_table_is_known_by_its_code(monkeypatch):
    class Slow(Adam):
        def optimizers(self, claims, lr, momentum, width):
            return super().optimizers(claims, lr, momentum, width)

    class Fast(Adam):
        def optimizers(self, claims, lr, momentum, width):
            return super().optimizers(claims, 100 * lr, momentum, width)

    found = []
    for chosen in (Slow, Fast):
        monkeypatch.setitem(OPTIMIZERS, "mine", chosen)
        asked = trial("mine")
        found.append(identity(asked, data_of(asked)))
    assert found[0] != found[1]


def test_a_recipe_without_a_file_is_known_by_what_it_does(monkeypatch):
    ids = []
    for factor in (1, 100, 1):
        names = {"__name__": "nowhere"}
        exec(OWN.replace("self.rate * lr", f"{factor} * lr"), names)
        monkeypatch.setitem(OPTIMIZERS, "mine", names["Mine"])
        asked = trial("mine")
        ids.append(identity(asked, data_of(asked)))
    assert ids[0] == ids[2] != ids[1]


def test_a_version_of_a_built_in_method_changes_its_trials_alone(monkeypatch):
    asked, other = trial("adam"), trial("muon")
    before = identity(asked, data_of(asked)), identity(other, data_of(other))
    monkeypatch.setattr(OPTIMIZERS["muon"], "NUMERICS", 1)
    assert identity(asked, data_of(asked)) == before[0]
    assert identity(other, data_of(other)) != before[1]


REPORT = """
import json, sys
from pathlib import Path
from rich.console import Console
from scionlab.spec import Experiment, Preset, Trial
from scionlab.runs.store import RunStore
from scionlab.sweep import run_sweep

trials = tuple(Trial(**fields) for fields in json.loads(sys.argv[1]))
experiment = Experiment(name="mine", title="T", question="Q?", presets={"smoke": Preset(trials=trials)})
done = run_sweep(experiment, "smoke", RunStore(Path("runs")), Console(quiet=True), "inline")
print(json.dumps([report.trial_id for report in done.reports]))
"""


def test_an_edited_optimizer_trains_again_and_nothing_else_does(write, tmp_path):
    write(OWN, "edited_recipe")
    fields = {**SMALL, "lr": 0.02, "data": "sotu", "head_dim": 8}
    trials = json.dumps([{**fields, "optimizer": name} for name in ("edited_recipe:Mine", "adam")])

    def trained():
        done = subprocess.run(
            [sys.executable, "-c", REPORT, trials], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    first = trained()
    assert len(first) == 2
    assert trained() == []
    write(OWN.replace("self.rate * lr", "100 * lr"), "edited_recipe")
    again = trained()
    assert len(again) == 1
    assert again[0] not in first
    rows = RunStore(tmp_path / "runs").runs()
    assert rows[rows["optimizer"] == "edited_recipe:Mine"]["optimizer_sha256"].nunique() == 2
    assert rows[rows["optimizer"] == "adam"]["optimizer_sha256"].isna().all()


NOT_ALL = "[torch.optim.SGD([claims[0].parameter], lr=lr)]"
REFUSED = {
    "nothing": ("x = 1", "x", "is of type int; it must be a class made from scionlab.optim.Recipe"),
    "a_torch_optimizer": ("", "torch.optim.NAdam", "is the class NAdam; it must be a class made from"),
    "abstract": ("class R(Recipe):\n    pass", "R", "is a recipe without initialize, optimizers"),
    "missing": ("", "Nobody", "attribute of {name}: 'Nobody' is not known"),
    "no_list": ("class R(Adam):\n    def optimizers(self, *a):\n        return 3", "R", "returned of type int"),
    "not_all": (f"class R(Adam):\n    def optimizers(self, claims, lr, *a):\n        return {NOT_ALL}", "R", "0 times"),
    "arguments": ("class R(Adam):\n    def optimizers(self):\n        return []", "R", "raised TypeError: "),
    "raising": ("class R(Adam):\n    def initialize(self, *a):\n        1 / 0", "R", "raised ZeroDivisionError: "),
    "scale": ("class R(Adam):\n    def output_scale(self, width):\n        1 / 0", "R", "ZeroDivisionError: "),
    "check": ("class R(Adam):\n    def check(self, lr):\n        1 / 0", "R", "ZeroDivisionError: "),
    "step": (
        "class S(torch.optim.SGD):\n    def step(self, closure=None):\n        1 / 0\n\n\n"
        "class R(Adam):\n    def optimizers(self, claims, lr, *a):\n"
        "        return [S([claim.parameter for claim in claims], lr=lr)]",
        "R",
        "raised ZeroDivisionError: ",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_recipe_that_does_not_work_is_one_sentence_and_nothing_is_written(write, tmp_path, case):
    source, path, said = REFUSED[case]
    name = write(OWN + "\n\n" + source)
    store = RunStore(tmp_path / "runs")
    asked = Trial(**{**SMALL, "optimizer": f"{name}:{path}", "lr": 0.02, "data": "sotu", "head_dim": 8})
    with pytest.raises(UserError) as caught:
        make_plan([asked], store, "mine", "smoke")
    assert str(caught.value).startswith("optimizer: ")
    assert said.format(name=name) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not store.root.exists()


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"^optimizer: there is no module 'nowhere_at_all'"):
        trial("nowhere_at_all:Mine")


@pytest.mark.slow
def test_own_model_data_and_optimizer_go_together_under_ray(write, tmp_path, ray_here):
    names = {"model": f"{write(MODEL)}:build", "data": f"{write(DATA)}:batches", "optimizer": f"{write(OWN)}:Mine"}
    trials = tuple(Trial(**{**SMALL, **names, "lr": 0.01, "seed": seed}) for seed in (0, 1))
    experiment = Experiment(name="mine", title="T", question="Q?", presets={"smoke": Preset(trials=trials)})
    store = RunStore(tmp_path / "runs")
    done = run_sweep(experiment, "smoke", store, Console(quiet=True), "ray", 1, How("never", 1), address=ray_here)
    assert not done.errors()
    assert list(store.runs()["optimizer_sha256"].notna()) == [True, True]


def test_the_command_line_takes_an_own_recipe(write, call):
    name = write(OWN)
    done = call("run", "seq", "--preset", "smoke", "--optimizer", f"{name}:Mine", "--dry-run", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["trials"] == found["left"] > 0
    assert found["experiment"] == f"seq-{name}-mine"
    done = call("run", "batch", "--preset", "smoke", "--optimizer", f"{name}:Nobody", "--dry-run")
    assert done.code == 2
    assert "'Nobody' is not known" in done.err


def test_an_experiment_of_an_own_recipe_is_found_again_by_its_runs_optimizer(write):
    name = write(OWN)
    found = built_in(f"batch-{name}-mine", ["adam", f"{name}:Mine"])
    assert found is not None
    assert found.which == ("batch", "--optimizer", f"{name}:Mine")
