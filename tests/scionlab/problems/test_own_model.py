"""Models and data of the caller's own: trained as built-in ones are, identified by their code."""

import itertools
import sys

import pytest
import torch
from own_code import DATA, IMAGES, MODEL, SMALL

from scionlab.errors import UserError
from scionlab.optim import OPTIMIZERS, recipe
from scionlab.own.hashing import code_sha256
from scionlab.problems.data import load
from scionlab.problems.own_model import SCALE, _start_sha256
from scionlab.runs.store import RunStore
from scionlab.spec import Trial
from scionlab.sweep.estimate import estimate_seconds
from scionlab.sweep.plan import make_plan
from scionlab.training import Run, stack_key, train
from scionlab.training.prepare import architecture, build, data_of, identity, resolve

NUMBERS = itertools.count()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module into the current folder; gives its name, which no other test has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def module(source, name=None):
        name = name or f"my_code_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return module


@pytest.fixture
def mine(write):
    """A resolved trial with both a model and data of one's own."""
    names = {"model": f"{write(MODEL)}:build", "data": f"{write(DATA)}:batches"}

    def trial(**fields):
        return resolve(Trial(**{**SMALL, **names, "optimizer": "scion", "lr": 0.02, **fields}))

    return trial


def losses(trial, compiled=False):
    outcome = train(trial, data_of(trial), compiled)
    return [outcome.summary["val_loss"], *(row["train_loss"] for row in outcome.curve)]


GPT = """
from scionlab.problems.models.gpt import GPT, GPTConfig


def build(width, depth):
    return GPT(GPTConfig(width, depth))
"""


@pytest.mark.parametrize("optimizer", ["scion", "adam-mup", "muon"])
def test_a_built_in_model_named_as_ones_own_has_the_same_counts_and_numbers(write, optimizer):
    fields = {**SMALL, "width": 64, "optimizer": optimizer, "lr": 0.02, "data": "sotu"}
    trials = [resolve(Trial(**fields, model=model)) for model in ("gpt", f"{write(GPT)}:build")]
    data = load("sotu")
    built_in, own = (architecture(trial, data.shape) for trial in trials)
    assert own.n_params == built_in.n_params
    assert own.n_params_hidden == built_in.n_params_hidden
    assert own.train_flops_per_token == built_in.train_flops_per_token
    assert losses(trials[0]) == losses(trials[1])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_method_trains_a_model_of_ones_own_and_the_same_trial_gives_the_same_bits(mine, optimizer):
    trial = mine(optimizer=optimizer, lr=2**-7)
    first = losses(trial)
    torch.randn(3)  # what else is drawn does not matter
    assert losses(trial) == first
    assert losses(mine(optimizer=optimizer, lr=2**-7, seed=1)) != first


def test_what_the_callers_code_draws_leaves_the_states_outside_alone(mine):
    trial = mine()
    before = torch.get_rng_state()
    train(trial, data_of(trial))
    assert torch.equal(torch.get_rng_state(), before)


def test_outputs_are_multiplied_by_the_methods_factor_and_names_stay(mine):
    trial = mine(optimizer="adam-mup", width=64)
    model, claims = build(trial, data_of(trial).shape)
    assert {name for claim in claims for name in claim.names} == {name for name, _ in model.named_parameters()}
    assert SCALE not in model.state_dict()
    tokens = torch.zeros(1, 3, dtype=torch.int64)
    with torch.no_grad():
        scaled = model.eval()(tokens)
        model.get_buffer(SCALE).fill_(1.0)
        assert torch.equal(scaled, model(tokens) * 32 / 64)


@pytest.mark.parametrize("data", ["sotu", "digits"])
def test_built_in_data_go_with_a_model_of_ones_own(write, data):
    images = "from torch import nn\n\n\ndef build(width, depth):\n    return nn.Sequential(nn.Flatten(), "
    images += "nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))\n"
    sizes = {"seq_len": 1, "val_seq_len": 1, "val_tokens": 100} if data == "digits" else {}
    model = f"{write(MODEL if data == 'sotu' else images)}:build"
    trial = resolve(Trial(**{**SMALL, **sizes, "model": model, "data": data, "optimizer": "adam", "lr": 0.01}))
    assert trial.roles == ("image" if data == "digits" else "text")
    outcome = train(trial, data_of(trial))
    assert outcome.summary["status"] == "ok"
    assert (outcome.summary["val_accuracy"] is not None) == (data == "digits")


def test_built_in_models_go_with_data_of_ones_own_that_say_how_many_outputs_there_are(write):
    sizes = {"seq_len": 1, "val_seq_len": 1, "val_tokens": 20, "model": "mlp", "optimizer": "adam", "lr": 0.01}
    name = write(IMAGES)
    trial = resolve(Trial(**{**SMALL, **sizes, "data": f"{name}:batches"}))
    outcome = train(trial, data_of(trial))
    assert 0 <= outcome.summary["val_accuracy"] <= 1
    silent = resolve(trial.replace(data=f"{write(IMAGES.replace('batches.n_outputs = 2', ''))}:batches"))
    with pytest.raises(UserError, match="must know how many outputs"):
        architecture(silent, data_of(silent).shape)


SOURCE = """
from dataclasses import replace

from scionlab.problems.data import load


def digits():
    return replace(load("digits"), name="mine")
"""


def test_a_function_without_arguments_gives_a_source_which_is_identified_by_its_code_too(write):
    fields = {
        **SMALL,
        "seq_len": 1,
        "val_seq_len": 1,
        "val_tokens": 100,
        "optimizer": "adam",
        "lr": 0.01,
        "model": "mlp",
    }
    trials = [resolve(Trial(**fields, data=f"{write(source)}:digits")) for source in (SOURCE, SOURCE + "# more")]
    assert data_of(trials[0]).name == "mine"
    assert losses(trials[0]) == losses(trials[1]) == losses(resolve(Trial(**fields, data="digits")))
    assert identity(trials[0], data_of(trials[0])) != identity(trials[1], data_of(trials[1]))


def test_the_time_of_a_plan_is_estimated(mine, tmp_path):
    store = RunStore(tmp_path / "runs")
    plan = make_plan([mine()], store, "mine", "laptop")
    assert 0 < estimate_seconds(plan.cells, store.runs()) < 60


def test_rules_decide_norms_and_radii_and_where_a_matrix_starts(mine):
    ruled = mine(rules=(r"hidden\.0\.weight=hidden,norm=sign,radius=0.5",))
    model, claims = build(ruled, data_of(ruled).shape)
    groups = {claim.names[0]: recipe(ruled).group(claim) for claim in claims}
    assert (groups["hidden.0.weight"]["norm"], groups["hidden.0.weight"]["radius"]) == ("sign", 0.5)
    assert (groups["hidden.1.weight"]["norm"], groups["hidden.1.weight"]["radius"]) == ("spectral", 3.0)
    torch.testing.assert_close(model.hidden[0].weight.abs(), torch.full((8, 8), 0.5 / 8))


def test_roles_choose_the_preset_whose_norms_scion_takes(mine):
    assert mine().options["norm_input"] == "column"
    trial = mine(roles="image-mlp")
    assert (trial.options["norm_input"], trial.options["radius_output"]) == ("spectral-max", 1024.0)


def test_a_run_saved_between_stages_goes_on_as_if_it_had_not_been(mine):
    trial = mine(stages=[{"from_tokens": 2**8, "batch_size": 2, "seq_len": 16, "lr": 0.01}])
    whole = losses(trial)
    first = Run(trial, data_of(trial))
    first.run_stage()
    second = Run(trial, data_of(trial))
    second.load_state_dict(first.state_dict())
    second.run_stage()
    outcome = second.outcome()
    assert [outcome.summary["val_loss"], *(row["train_loss"] for row in outcome.curve)] == whole


def test_looking_at_layers_and_probing_leave_the_training_as_it_is(write, mine):
    plain = mine()
    watched = mine(watch=2)
    assert losses(plain) == losses(watched)
    trial = resolve(Trial(**{**SMALL, "optimizer": "scion", "lr": 0.02, "data": "sotu", "model": plain.model}))
    probed = trial.replace(probe=1)
    outcome = train(probed, data_of(probed))
    assert losses(trial)[0] == outcome.summary["val_loss"]
    assert any(row.get("smoothness", 0) > 0 for row in outcome.curve)
    with pytest.raises(UserError, match="has no windows to probe"):
        make_plan([mine(probe=1)], RunStore("runs"), "mine", "laptop")


def test_models_of_ones_own_are_not_stacked(mine):
    assert stack_key(mine()) is None


def test_another_code_is_another_trial(mine, write, monkeypatch):
    trial = mine()
    ids = {identity(trial, data_of(trial))}
    for name in ("model", "data"):
        source = MODEL if name == "model" else DATA
        path = getattr(trial, name).partition(":")
        changed = trial.replace(**{name: f"{write(source + '# more')}:{path[2]}"})
        ids.add(identity(changed, data_of(changed)))
    assert len(ids) == 3


def test_the_hash_of_code_follows_its_imports(write):
    helper, package = write("x = 1\n"), write("import numpy\n")
    name = write(f"import json\nfrom {helper} import x\n\n\ndef later():\n    import {package}\n")
    first = code_sha256(name)

    def again():
        code_sha256.cache_clear()
        sys.modules.pop(helper, None)
        return code_sha256(name)

    assert again() == first
    write("x = 1  # more\n", helper)
    assert again() != first
    write("x = 1\n", helper)
    assert again() == first
    write("import scipy\n", package)
    assert again() != first
    write("import numpy\nimport torch, scionlab, json\n", package)
    assert again() != first  # the file itself has changed


UNUSED = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.used = nn.Linear(width, width)
        self.spare = nn.Linear(width, width)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.head = nn.Linear(width, 256)

    def forward(self, tokens):
        x = self.embed(tokens)
        x = x + self.used(x).relu()
        CHOICE
        return self.head(x)


def build(width, depth):
    return Net(width)
"""
# Never, and in some batches only: the experts of the route that most first tokens choose.
ROUTES = {
    "never": "pass",
    "by_batch": "x = x + self.experts[int(tokens[0, 0] % 2)](x)",
    "first": "x = x + self.experts[0](x)",
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("optimizer", ["scion", "scion-light", "adam"])
@pytest.mark.parametrize("route", ROUTES)
def test_compiled_runs_leave_parameters_without_a_gradient_alone_as_eager_ones_do(write, optimizer, route):
    model = f"{write(UNUSED.replace('CHOICE', ROUTES[route]))}:build"
    fields = {**SMALL, "model": model, "data": "sotu", "optimizer": optimizer, "lr": 0.05}
    asked = resolve(Trial(**fields))
    weights = []
    for compiled in (False, True):
        run = Run(asked, data_of(asked), compiled)
        start = {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}
        run.run_stage()
        weights.append(dict(run.model.named_parameters()))
        assert torch.equal(weights[-1]["spare.weight"], start["spare.weight"])
        assert route != "first" or torch.equal(weights[-1]["experts.1.weight"], start["experts.1.weight"])
        assert not torch.equal(weights[-1]["used.weight"], start["used.weight"])
    assert route == "by_batch" or run.oracle.compiler.compiled, run.oracle.compiler.note
    for name, weight in weights[0].items():
        assert torch.allclose(weights[1][name], weight, rtol=1e-3, atol=1e-4), name


def test_built_in_models_use_all_their_parameters():
    for model, data in (("gpt", "sotu"), ("mlp", "digits"), ("cnn", "digits"), ("quadratic", "noise:none")):
        sizes = {} if data == "sotu" else {"seq_len": 1, "val_seq_len": 1, "val_tokens": 1}
        asked = resolve(
            Trial(**{**SMALL, **sizes, "head_dim": 8, "model": model, "data": data, "optimizer": "adam", "lr": 0.1})
        )
        run = Run(asked, data_of(asked))
        assert run.oracle.at(run.feed.next_batch()).gradients.keys() == run.oracle.weights.keys()


OWN_START = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, 256)

    def forward(self, tokens):
        return self.head(self.hidden(self.embed(tokens)).relu())


def build(width, depth):
    made = Net(width)
    nn.init.constant_(made.hidden.bias, 0.25)
    made.load_state_dict(torch.load("start.pt", weights_only=True))
    return made
"""


@pytest.mark.parametrize("optimizer", ["scion", "adam", "muon"])
def test_a_start_of_ones_own_is_kept_and_identified_by_its_weights(write, optimizer):
    name = write(OWN_START)
    shapes = {"embed.weight": (256, 8), "hidden.weight": (8, 8), "hidden.bias": (8,), "head.weight": (256, 8)}
    start = {key: torch.randn(shape) / 8 for key, shape in shapes.items()} | {"head.bias": torch.full((256,), 0.5)}
    torch.save(start, "start.pt")
    fields = {**SMALL, "model": f"{name}:build", "data": "sotu", "optimizer": optimizer, "lr": 0.01}
    kept, replaced = (resolve(Trial(**fields, initialization=by)) for by in ("model", "method"))
    data = data_of(kept)
    model, _ = build(kept, data.shape)
    assert all(torch.equal(weight, start[key]) for key, weight in model.named_parameters())
    model, _ = build(replaced, data.shape)
    assert not torch.equal(model.hidden.weight, start["hidden.weight"])
    ids = [identity(trial, data) for trial in (kept, replaced)]
    assert ids[0] != ids[1]
    torch.save(start | {"head.bias": torch.zeros(256)}, "start.pt")
    _start_sha256.cache_clear()  # as another process has it
    assert identity(kept, data) != ids[0]
    assert identity(replaced, data) == ids[1]
    assert train(kept, data).summary["status"] == "ok"


def test_a_built_in_model_may_keep_pytorchs_start(write):
    asked = resolve(Trial(**{**SMALL, "head_dim": 8, "data": "sotu", "optimizer": "scion", "lr": 0.01}))
    kept = asked.replace(initialization="model")
    models = [build(trial, data_of(trial).shape)[0] for trial in (asked, kept, kept, kept.replace(seed=1))]
    heads = [model.head.weight for model in models]
    assert not heads[0].any()  # Scion's start
    assert torch.equal(heads[1], heads[2])
    assert heads[1].any()
    assert not torch.equal(heads[1], heads[3])
