"""The estimate of memory: what autograd saves and what optimizers keep, held to what they do."""

import pytest
import torch
from torch import nn

from scionlab.optim import OPTIMIZERS, recipe
from scionlab.problems.data import load
from scionlab.problems.models import MODELS, chunks
from scionlab.spec import Stage, Trial
from scionlab.training import memory
from scionlab.training.activations import BY_MODEL, FULL, UNTOLD, count, saved_of
from scionlab.training.memory import estimate, fitting
from scionlab.training.passes import Passes
from scionlab.training.prepare import build, resolve

SIZES = {"batch_size": 4, "seq_len": 32, "val_seq_len": 32, "val_tokens": 64, "device": "cpu"}
IMAGES = {"batch_size": 4, "seq_len": 1, "val_seq_len": 1, "val_tokens": 64, "device": "cpu", "data": "digits"}


def trial_of(**fields):
    return resolve(Trial(**{"optimizer": "adam", "lr": 0.1, "width": 32, "depth": 2, **SIZES, **fields}))


def measured(trial, *sizes):
    """Bytes that passes over so many examples save."""
    source = load(trial.data)
    passes = Passes(build(trial, source.shape)[0], source, trial)
    batch = source.training(max(sizes), trial.seq_len, 0).next_batch()
    return [count(passes, batch[:size].clone())[0] for size in sizes]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "fields",
    [
        {"model": "gpt"},
        {"model": "gpt", "tied": True, "depth": 3, "head_dim": 8},
        {"model": "gpt", "width": 48, "seq_len": 16},
        {"model": "nanogpt", "depth": 2},
        {"model": "mlp", **IMAGES},
        {"model": "mlp", **IMAGES, "depth": 3, "width": 20},
        {"model": "cnn", **IMAGES},
        {"model": "cnn", **IMAGES, "depth": 1, "width": 24},
    ],
)
def test_the_formulas_are_what_autograd_saves(fields, dtype):
    trial = trial_of(**fields, dtype=dtype)
    two, three = measured(trial, 2, 3)
    told = saved_of(trial, trial.plan[0], load(trial.data), 2)
    # A text's batch of N·(S + 1) bytes is saved whole, of which the formula counts the S targets and inputs.
    beyond = 8 if trial.model in ("gpt", "nanogpt") else 0
    assert three - two == pytest.approx(told.saved, abs=UNTOLD + beyond)
    assert 2 * told.saved + told.fixed == pytest.approx(two, rel=0.02, abs=1000)


def test_images_that_are_halved_count_as_large_as_they_are():
    """By a source of made-up images: CIFAR's are not here."""
    shape = load("digits").shape.__class__("image", 10, (3, 32, 32))
    source = type("Made", (), {"shape": shape, "is_cross_entropy": False})()
    for dtype in ("float32", "bfloat16"):
        trial = trial_of(model="cnn", **IMAGES, dtype=dtype)
        passes = Passes(build(trial, shape)[0], source, trial)
        source.in_training = source
        source.unpack = lambda batch: (batch, torch.zeros(len(batch), dtype=torch.int64))
        source.loss = lambda outputs, targets: nn.functional.cross_entropy(outputs.float(), targets)
        two, three = (count(passes, torch.zeros(n, 3, 32, 32))[0] for n in (2, 3))
        told = saved_of(trial, trial.plan[0], source, 2)
        assert three - two == pytest.approx(told.saved, abs=UNTOLD)


def test_in_chunks_logits_do_not_grow_with_the_batch(monkeypatch):
    trial = trial_of()
    source = load(trial.data)
    whole = saved_of(trial, trial.plan[0], source, 4)
    monkeypatch.setattr(chunks, "LARGE_VOCABULARY", 256)
    monkeypatch.setattr(chunks, "WHOLE", 2 * 32 * 256)
    monkeypatch.setattr(chunks, "CHUNK", 1024)
    assert saved_of(trial, trial.plan[0], source, 2) == whole
    told = saved_of(trial, trial.plan[0], source, 4)
    assert whole.saved - told.saved == 32 * 256 * FULL
    three, four = measured(trial, 3, 4)
    assert four - three == pytest.approx(told.saved, abs=UNTOLD + 8)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_state_is_what_a_step_leaves(optimizer):
    trial = trial_of(optimizer=optimizer)
    source = load(trial.data)
    model, claims = build(trial, source.shape)
    method = recipe(trial).method(claims, trial.lr, trial.momentum, trial.width)
    loss = Passes(model, source, trial).loss(source.held_out(64, 32))
    loss.backward()
    for one in method.optimizers:
        one.step()
    held = [value for one in method.optimizers for value in memory._tensors(one.state)]
    assert estimate(trial, trial.plan[0], source).state == sum(memory._size(value) for value in held)


def test_weights_gradients_and_averages_are_counted():
    trial = trial_of(optimizer="scion")
    source = load(trial.data)
    model = build(trial, source.shape)[0]
    n_params = sum(p.numel() for p in model.parameters())
    found = estimate(trial, trial.plan[0], source)
    assert found.gradients == found.state == 4 * n_params
    assert found.weights == 4 * n_params + 4  # the factor on the logits
    averaged = estimate(trial.replace(ema=0.9), trial.plan[0], source)
    assert averaged.weights == 2 * found.weights


def test_parts_take_another_gradient_and_less_of_everything_that_grows():
    trial = trial_of()
    found = estimate(trial, trial.plan[0], load(trial.data))
    each = found.saved.saved + memory.UNDER_WAY * found.saved.largest
    assert found.peak(64, 32) - found.peak(64, 16) == 16 * each
    assert found.peak(64) - found.peak(64, 32) == 32 * each - found.gradients
    assert found.peak(64) == found.peak(64, 64) == found.peak(64, 100)


def test_the_largest_parts_that_fit_are_taken_and_equal_ones_are_preferred():
    trial = trial_of(batch_size=24)
    source = load(trial.data)
    found = estimate(trial, trial.plan[0], source)
    assert fitting(trial, source, found.peak(24)) == 0
    assert fitting(trial, source, found.peak(24) - 1) == 12
    assert fitting(trial, source, found.peak(24, 8)) == 8
    assert fitting(trial, source, found.peak(24, 7)) == 6
    assert fitting(trial, source, found.peak(24, 1)) == 1
    assert fitting(trial, source, 0) == 1


def test_of_stages_the_largest_decides():
    stage = {"lr": 0.1, "batch_size": 8}
    trial = trial_of(tokens=4096, stages=(Stage(from_tokens=2048, seq_len=64, **stage),))
    source = load(trial.data)
    last = trial.plan[-1]
    limit = estimate(trial, last, source).peak(8, 2)
    assert fitting(trial, source, limit) == 2


class Own(nn.Module):
    """Keeps what only its backward pass needs: inputs and ReLU's outputs."""

    def __init__(self, width):
        super().__init__()
        self.body, self.head = nn.Linear(64, width), nn.Linear(width, 10)

    def forward(self, images):
        return self.head(self.body(images.flatten(1)).relu())


def own(width, depth):
    """As a model of the caller's."""
    return Own(width)


def test_a_model_of_the_callers_is_measured():
    fields = {**IMAGES, "model": f"{__name__}:own", "rules": ("body.*=input", "head.*=output")}
    trial = trial_of(**fields)
    source = load(trial.data)
    found = saved_of(trial, trial.plan[0], source, 4)
    # Inputs, hidden values, log-probabilities and the target.
    assert found.saved == pytest.approx(4 * (64 + 32 + 10) + 8, abs=UNTOLD)
    assert found.largest == pytest.approx(4 * 64, abs=UNTOLD)  # and half of what two examples share
    assert found.fixed < 100
    assert estimate(trial, trial.plan[0], source).state == 8 * (64 * 32 + 32 + 32 * 10 + 10) + 4 * 4  # Adam's counts


# Built-in models that are measured, as the caller's are.
MEASURED = {"cifarnet": "digits,enlarge=4", "deit": "digits,enlarge=8,mixup=0.8"}


def test_every_other_built_in_model_has_its_formula():
    assert BY_MODEL.keys() == MODELS.keys() - MEASURED.keys()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", MEASURED)
def test_what_is_measured_of_few_examples_holds_for_more(model, dtype):
    trial = trial_of(**IMAGES | {"model": model, "data": MEASURED[model], "dtype": dtype})
    found = saved_of(trial, trial.plan[0], load(trial.data), 8)
    four, eight = measured(trial, 4, 8)
    assert eight - four == pytest.approx(4 * found.saved, abs=4 * UNTOLD)
    assert 8 * found.saved + found.fixed == pytest.approx(eight, rel=0.02, abs=1000)
