"""Gradients by traced graphs: the numbers of eager mode, one graph for all trials of a shape, and what else to do.

That the code which is made of such a graph gives these numbers, too, is tested beside `doctor --full`, which compiles
the same graph (tests/scionlab/doctor/test_full.py).
"""

import functools
import shutil

import pytest
import torch
from trainings import CORPUS, numbers, trial

from scionlab import training
from scionlab.problems.data import load
from scionlab.spec import Trial
from scionlab.training import graphs

SMALL = {"width": 16, "depth": 1, "head_dim": 8, "batch_size": 4, "seq_len": 16, "val_tokens": 64, "val_seq_len": 16}
# what says how a trial was trained, and how long that took
HOW = ("compiled", "compile_s", "compile_note")
# Six steps whose sums are grouped differently in float32 (2^-24 each) and multiplied by at most a few hundred on their
# way through a network and its steps.
ROUNDING = 2e-5


@pytest.fixture(autouse=True)
def no_graphs(monkeypatch):
    monkeypatch.setattr(graphs, "_GRAPHS", {})


@pytest.fixture
def traced(monkeypatch):
    """Graphs are traced, but not turned into code, which takes long."""
    calls = []
    real = torch.compile

    def compile_(function, **options):
        calls.append(options)
        return real(function, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", compile_)
    return calls


def train(*args, compiled: bool = True, **fields) -> training.Outcome:
    return training.train(trial(*args, **{**SMALL, **fields}), CORPUS, compiled)


def same(found: training.Outcome, expected: training.Outcome, tolerance: float = ROUNDING) -> None:
    assert found.summary["val_loss"] == pytest.approx(expected.summary["val_loss"], rel=tolerance)
    assert [row["train_loss"] for row in found.curve] == pytest.approx(
        [row["train_loss"] for row in expected.curve], rel=tolerance
    )
    assert [row["lr"] for row in found.curve] == [row["lr"] for row in expected.curve]


# averages in gradients; two optimizers; logits scaled by a buffer
@pytest.mark.parametrize("optimizer", ["scion", "scion-light", "muon", "adam-mup", "shampoo"])
def test_every_method_takes_its_gradients_from_the_graph(optimizer, traced):
    found = train(optimizer, width=64, tied=optimizer == "scion")
    assert found.summary["compile_note"] is None
    assert len(traced) == 1
    # bfloat16 of Muon's steps: 2^-8, of which the loss sees a part
    same(
        found,
        train(optimizer, width=64, tied=optimizer == "scion", compiled=False),
        1e-3 if optimizer == "muon" else ROUNDING,
    )


def test_trials_of_one_shape_share_a_graph_whatever_their_method_seed_and_scale_of_logits(traced):
    for optimizer, seed in (("adam", 0), ("scion", 1), ("adam-mup", 0)):
        same(train(optimizer, seed=seed, width=64), train(optimizer, seed=seed, width=64, compiled=False))
    assert len(traced) == 1
    train("adam", width=32)
    train("adam", width=64, batch_size=2)
    assert len(traced) == 3


def test_stages_of_different_shapes_have_graphs_of_their_own(traced):
    stages = [{"from_tokens": 128, "batch_size": 2, "seq_len": 32, "lr": 2**-7}]
    found, expected = (train(tokens=384, stages=stages, compiled=compiled) for compiled in (True, False))
    same(found, expected)
    assert len(traced) == 2


IMAGES = {"depth": 1, "batch_size": 8, "tokens": 48, "seq_len": 1, "val_tokens": 64, "val_seq_len": 1}
MIXED = "mixup=0.8,cutmix=1.0,smoothing=0.1"


# pixels as they are; smoothed labels, statistics of batches; mixed labels, and branches left out
@pytest.mark.parametrize(
    ("model", "width", "data"),
    [
        ("mlp", 8, "digits"),
        ("cnn", 8, "digits"),
        ("cifarnet", 32, "digits,enlarge=4,smoothing=0.2"),
        ("deit", 16, f"digits,enlarge=2,{MIXED}"),
    ],
)
def test_images_are_compiled_too(model, width, data, traced):
    sizes = {**IMAGES, **({"depth": 2, "drop_path": 0.5} if model == "deit" else {})}
    asked = Trial(optimizer="adam", lr=2**-7, model=model, width=width, data=data, device="cpu", head_dim=8, **sizes)
    asked = training.resolve(asked)
    found = training.train(asked, load(data), True)
    assert found.summary["compile_note"] is None
    assert len(traced) == 1
    same(found, training.train(asked, load(data)))


def test_stacks_of_images_are_compiled_too(traced):
    fields = {"optimizer": "adam", "model": "cnn", "width": 8, "data": "digits", "device": "cpu"}
    asked = [training.resolve(Trial(lr=lr, **fields, **IMAGES)) for lr in (2**-7, 2**-8)]
    corpus = load("digits")
    for found, expected in zip(
        *(training.train_stack(asked, corpus, compiled) for compiled in (True, False)), strict=True
    ):
        assert found.summary["compile_note"] is None
        same(found, expected)
    assert len(traced) == 1


def test_noise_is_drawn_outside_of_what_can_be_compiled():
    fields = {"model": "quadratic", "data": "noise:gaussian-0.1", "width": 8, "batch_size": 2, "tokens": 8}
    one = {"seq_len": 1, "val_tokens": 1, "val_seq_len": 1, "device": "cpu"}
    asked = training.resolve(Trial(optimizer="scion", lr=0.1, **fields, **one))
    outcome = training.train(asked, load(asked.data), True)
    assert not outcome.summary["compiled"]


def without_times(outcome: training.Outcome) -> object:
    summary, curve = numbers(outcome)
    return {key: value for key, value in summary.items() if key not in HOW}, curve


def test_without_a_compiler_eager_mode_takes_over_and_says_so(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = train()
    assert not found.summary["compiled"]
    assert "no C++ compiler" in found.summary["compile_note"]
    assert without_times(found) == without_times(train(compiled=False))


def test_what_cannot_be_compiled_is_tried_once_and_then_trained_in_eager_mode(monkeypatch):
    tried = []

    def compile_(function, **options):
        tried.append(function)
        return functools.partial(fails)

    def fails(*arguments):
        raise RuntimeError("no such instruction\nand more")

    monkeypatch.setattr(torch, "compile", compile_)
    for _ in range(2):
        found = train()
        assert found.summary["compile_note"] == "RuntimeError: no such instruction"
        assert without_times(found) == without_times(train(compiled=False))
    assert len(tried) == 1


def test_a_mistake_in_the_model_is_raised_by_eager_mode(monkeypatch, traced):
    def broken(self, tokens):
        raise ZeroDivisionError("in the model")

    monkeypatch.setattr("scionlab.problems.models.gpt.GPT.forward", broken)
    with pytest.raises(ZeroDivisionError, match="in the model"):
        train()


def test_denormal_numbers_are_zero_in_a_graph_and_nowhere_else(traced):
    def flushed() -> bool:
        return not bool(torch.tensor(1e-40) * 1.0 > 0)

    seen = []
    compiler = graphs.Compiler(compiled=True)
    graphs._GRAPHS["key"] = lambda: seen.append(flushed())
    compiler.call("key", lambda: None)
    assert seen == [True]
    assert not flushed()
