"""What a model or data of the caller's may get wrong: one sentence before anything runs, or one failed trial."""

import itertools
from pathlib import Path

import pytest
from own_code import DATA, MODEL, SMALL
from rich.console import Console

from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.spec import Experiment, Preset, Trial
from scionlab.sweep import How, run_sweep
from scionlab.sweep.plan import make_plan
from scionlab.training.prepare import data_of

NUMBERS = itertools.count()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module into the current folder; gives its name, which no other test has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def module(source):
        name = f"refused_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return module


@pytest.fixture
def refusal(tmp_path):
    """The sentence with which planning a trial is refused, with nothing written."""

    def sentence(**fields):
        store = RunStore(tmp_path / "runs")
        with pytest.raises(UserError) as caught:
            make_plan([Trial(**{**SMALL, "optimizer": "scion", "lr": 0.02, **fields})], store, "mine", "laptop")
        assert not store.root.exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return sentence


LINEAR = "import torch\nfrom torch import nn\n\n\ndef build(width, depth):\n    return "
CUSTOM = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(256, 8)
        self.lm_head = nn.Linear(8, 256)

    def forward(self, tokens):
        x = self.lm_head(self.embed(tokens))
        return {}


def build(width, depth):
    return Net()
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_package\n", "raised ModuleNotFoundError: No module named 'no_such_package'"),
        ("1 / 0\n", "raised ZeroDivisionError: division by zero"),
        ("built = 3\n", "attribute of {name}: 'build' is not known"),
        ("build = 3\n", "is of type int; it must be a function"),
        ("def build(width):\n    pass\n", "takes (width); it is called as build(width, depth)"),
        ("def build(width, depth):\n    return {'model': 1}\n", "returned a dict with keys model; it must return a"),
        (
            "def build(width, depth):\n    return [][width]\n",
            "raised IndexError: list index out of range ({name}.py",
        ),
        (LINEAR + "nn.ReLU()\n", "returned a ReLU without a trainable parameter"),
        (
            LINEAR + "nn.Sequential(nn.Embedding(256, 8), nn.PReLU())\n",
            "parameter '1.weight' of shape (1,) in PReLU",
        ),
        (
            LINEAR + "nn.Linear(8, 8)\n",
            "forward of '{name}:build' on a Tensor of shape (1, 16) and torch.int64",
        ),
        (LINEAR + "nn.Embedding(256, 8)\n", "put out a Tensor of shape (2, 16, 8) and torch.float32 for"),
        (LINEAR + "nn.Linear(8, 8, device='meta')\n", "raised"),
        (
            CUSTOM.format("{'x': x}"),
            "returned a dict with keys x; it must return a Tensor, or an object",
        ),
        (CUSTOM.format("x[:, :4]"), "put out a Tensor of shape (2, 4, 256)"),
        (CUSTOM.format("x * float('nan')"), "the loss is nan before the first step; it must be finite"),
        (CUSTOM.format("x.detach()"), "raised RuntimeError: element 0 of tensors does not require grad"),
    ],
)
def test_models_that_do_not_work_are_refused_with_what_they_did(write, refusal, source, said):
    name = write(source)
    sentence = refusal(model=f"{name}:build", data="sotu")
    assert sentence.startswith(("model: ", "roles: "))
    assert said.replace("{name}", name) in sentence


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": "no_such_module:build"}, "model: there is no module 'no_such_module'"),
        ({"model": "json:"}, "model: 'json:' is not allowed: it must read MODULE:FUNCTION, as in my_model:build"),
        ({"data": "no_such_module:batches"}, "data: there is no module 'no_such_module'"),
        ({"model": "gptt"}, "model: 'gptt' is not known (did you mean 'gpt'?)"),
        ({"data": "sotoo"}, "choose one of MODULE:FUNCTION"),
        ({"roles": "texts"}, "roles: 'texts' is not known (did you mean 'text'?)"),
        ({"model": "json:loads", "tied": True}, "tied: True is not allowed"),
        ({"rules": (".*=hiden",)}, "rule: '.*=hiden' is not allowed"),
        ({"rules": ("nothing=hidden",)}, "rule 'nothing' for role 'hidden' matches no parameter"),
        ({"rules": (r".*q\.weight=other",)}, "has the role other, but a trial has one method for all"),
        ({"rules": (r".*q\.weight=hidden,norm=bias",)}, "norm"),
    ],
)
def test_names_and_rules_that_do_not_fit_are_refused(refusal, fields, said):
    assert said in refusal(**{"width": 16, **fields})


def data_source(body, after=""):
    return f"""
import os

import torch

EYE = torch.zeros(4, 16).long()


def batches(split, batch_size, seq_len, seed):
    zeros = torch.zeros(batch_size, seq_len).long()
    {body}
{after}
"""


VALID = "return [(zeros, zeros)] * 9 if split[0] == 'v' else "


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def batches(split):\n    pass\n", "takes (split); it is called as batches(split, batch_size, seq_len, seed)"),
        ("def batches():\n    return 3\n", "takes no arguments and returned of type int"),
        (data_source("return None"), "returned None; it must return an iterable of (inputs, targets)"),
        (
            data_source("return zeros"),
            "returned a Tensor of shape (16, 16) and torch.int64; it must",
        ),
        (data_source("return [zeros]"), "gave a batch that is a Tensor of shape"),
        (data_source("return [{'x': zeros}]"), "gave a batch that is a dict with keys x; it must be a pair"),
        (data_source("return [(zeros, zeros, zeros)]"), "a tuple of 3 (Tensor, Tensor, Tensor)"),
        (data_source("return [(zeros, zeros[:1])]"), "with targets of shape (1, 16); their first axis must count"),
        (data_source("return [(zeros[:, 1:], zeros[:, 1:])]"), "gave inputs of shape (16, 15) for seq_len 16"),
        (data_source("return [(zeros[:3], zeros[:3])]"), "gave 3 validation examples, too few for val_tokens 256"),
        (
            data_source("return [(zeros, zeros)] * (10 if split[0] == 'v' else 0)"),
            "gave no training batch of batch_size 4",
        ),
        (
            data_source(VALID + "[(EYE[:3], EYE[:3])]"),
            "a batch of 3 examples",
        ),
        (
            data_source(VALID + "[(EYE.int(), EYE)]"),
            "batches must be alike",
        ),
        (data_source("raise KeyError('text')"), "raised KeyError: 'text' ({name}.py, line 11)"),
        (
            data_source("return [(zeros + int.from_bytes(os.urandom(3), 'big'), zeros)] * 9"),
            "gave another validation set when it was called again",
        ),
        (data_source("return [(zeros, zeros.float())] * 9"), "they must have the same shape"),
        (data_source("return [(zeros, zeros[:, :3])] * 9"), "they must have shape (2, 3, classes)"),
        (
            data_source("return [(zeros, zeros)] * 9", "\n\nloss = 3\n"),
            "is of type int; it must be loss(",
        ),
        (
            data_source("return [(zeros, zeros)] * 9", "\n\ndef loss(outputs, targets):\n    return outputs\n"),
            "returned a Tensor of shape (2, 16, 256) and torch.float32; it must be a 0-d tensor",
        ),
    ],
)
def test_data_that_do_not_work_are_refused_with_what_they_gave(write, refusal, source, said):
    name, model = write(source), write(MODEL)
    assert said.replace("{name}", name) in refusal(model=f"{model}:build", data=f"{name}:batches")


FAILING = MODEL.replace(
    "    def forward(self, tokens):\n",
    "    def forward(self, tokens):\n        self.calls = getattr(self, 'calls', 0) + 1\n"
    "        if self.embed.weight.shape[1] == 16 and self.calls > 3:\n            raise ArithmeticError('the third')\n",
)


@pytest.mark.parametrize("executor", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_code_that_raises_in_one_trial_fails_that_trial_only(write, tmp_path, executor, request):
    names = {"model": f"{write(FAILING)}:build", "data": f"{write(DATA)}:batches"}
    trials = [Trial(**{**SMALL, **names, "optimizer": "adam", "lr": 0.01, "width": width}) for width in (8, 16, 24)]
    about = {"name": "mine", "title": "Mine", "question": "Does it fail alone?"}
    store = RunStore(tmp_path / "runs")
    experiment = Experiment(**about, presets={"laptop": Preset(trials=tuple(trials))})
    address = request.getfixturevalue("ray_here") if executor == "ray" else None
    run_sweep(experiment, "laptop", store, Console(quiet=True), executor, 1, How("always", 3), address=address)
    rows = store.runs().set_index("width")
    assert dict(rows["status"]) == {8: "ok", 16: "error", 24: "ok"}
    assert "ArithmeticError: the third" in rows["error"][16]
    assert list(rows["stack"].dropna()) == [0, 0]
    assert rows["model_sha256"].nunique() == 1
    assert rows["data_sha256"][8] == data_of(trials[0]).sha256


IGNORED = """
import torch


def batches(split, batch_size, seq_len, seed):
    for number in range(100):
        windows = torch.randint(256, (batch_size, seq_len + 1))
        targets = windows[:, 1:].clone()
        if split == "validation" and WHICH:
            targets[:] = -100
        yield windows[:, :-1], targets
"""


@pytest.mark.parametrize("which", ["True", "number >= 2"])
@pytest.mark.parametrize("model", [None, MODEL])
def test_validation_without_a_target_that_counts_is_found_before_anything_is_written(write, refusal, which, model):
    data = write(IGNORED.replace("WHICH", which))
    own = {"model": f"{write(model)}:build"} if model else {"model": "gpt", "head_dim": 8}
    if model is None:
        (path := Path(f"{data}.py")).write_text(path.read_text() + "\n\nbatches.n_outputs = 256\n")
    # a batch of validation has 2048 tokens, as has an item of the data
    said = refusal(data=f"{data}:batches", val_tokens=2**13, **own)
    assert f"validation examples of '{data}:batches' are -100" in said


def test_a_loss_of_ones_own_that_is_no_number_on_validation_data_is_found(write, refusal):
    model, data = write(MODEL), write(DATA + LOSS_WITHOUT_VALIDATION)
    said = refusal(model=f"{model}:build", data=f"{data}:batches")
    assert said == f"data: the validation loss of '{data}:batches' is nan before the first step; it must be finite"


LOSS_WITHOUT_VALIDATION = """

def loss(outputs, targets):
    found = torch.nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())
    return found if torch.is_grad_enabled() else found / 0 - found / 0
"""


def test_targets_that_count_only_here_and_there_are_no_mistake(write, tmp_path):
    data, model = write(IGNORED.replace("WHICH", "number % 2")), write(MODEL)
    fields = {**SMALL, "model": f"{model}:build", "data": f"{data}:batches", "optimizer": "scion", "lr": 0.02}
    # two items make a batch here
    assert make_plan([Trial(**{**fields, "val_tokens": 2**12, "batch_size": 256})], RunStore(tmp_path), "m", "l").todo
