"""The published runs on images: presets take the authors' steps, and train at a tiny shape on files of their kind."""

import math

import pytest
import torch
from published_data import write_published
from torch import nn

from experiments import airbench, deit
from scionlab import training
from scionlab.errors import UserError
from scionlab.geometry.orthogonalize import BAND
from scionlab.optim import recipe
from scionlab.optim.schedule import schedule_of
from scionlab.problems.data import DataShape, load, load_sized
from scionlab.training.prepare import build, data_of, resolve


def first_of(experiment, preset):
    """The preset's first trial, resolved for a CPU."""
    return resolve(experiment.SPEC.presets[preset].trials[0].replace(device="cpu", dtype="float32"))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """CIFAR-10 of 200 images and ImageNet of 16, where the presets for GPUs look."""
    write_published(tmp_path)
    monkeypatch.chdir(tmp_path)
    forget()
    yield
    forget()


def forget() -> None:
    """Data are read anew: their names are relative to where a test is."""
    load.cache_clear()
    load_sized.cache_clear()


AIRBENCH = {  # by preset: radii of the first convolution, of others, of norms and of the head; rate and momentum
    "gpu": (8, 8, 8, 128, 0.05, 0.6),
    "gpu-speedrun": (8, 16, 4, 128, 0.04, 0.65),
}


@pytest.mark.parametrize("preset", AIRBENCH)
def test_airbench_has_the_authors_norms_and_radii_on_every_layer(files, preset):
    trial = first_of(airbench, preset)
    first, others, norms, head, rate, momentum = AIRBENCH[preset]
    assert (trial.lr, trial.momentum, trial.options["constrained"]) == (rate, momentum, True)
    expected = {"head.weight": ("sign", head), "groups.0.conv1.weight": ("conv", first)}
    for group in range(3):
        expected |= {f"groups.{group}.norm{n}.bias": ("bias", norms) for n in (1, 2)}
        for name in (f"groups.{group}.conv{n}.weight" for n in (1, 2)):
            expected.setdefault(name, ("conv", others))
    _, claims = build(trial, data_of(trial).shape)
    groups = {claim.names[0]: recipe(trial).group(claim) for claim in claims}
    assert {name: (group["norm"], group["radius"]) for name, group in groups.items()} == expected


def stepped(trial, shape):
    """Of every parameter of the trial's model: by how much its first step moves it beyond the decay, and its gradient.

    Gradients have singular values of 1, those of vectors a length of about 1.
    """
    _, claims = build(trial, shape)
    (optimizer,) = recipe(trial).optimizers(claims, trial.lr, trial.momentum, trial.width)
    before, generator = {}, torch.Generator().manual_seed(0)
    for claim in claims:
        weight = claim.parameter
        before[claim.names[0]] = weight.detach().clone()
        flat = nn.init.orthogonal_(torch.empty(weight.reshape(len(weight), -1).shape), generator=generator)
        weight.grad = flat.reshape(weight.shape)
    optimizer.step()
    return {
        claim.names[0]: ((1 - trial.lr) * before[claim.names[0]] - claim.parameter.detach(), claim.parameter.grad)
        for claim in claims
    }


def is_as_long(moved, expected):
    """Whether the singular values of a step, as one matrix, are these, as far as Newton-Schulz makes them equal."""
    lengths = torch.linalg.svdvals(moved.reshape(len(moved), -1)) / expected
    return BAND[0] <= float(lengths.min()) and float(lengths.max()) <= BAND[1]


def test_airbench_takes_the_authors_step_in_every_layer(files):
    trial = first_of(airbench, "gpu")
    for name, (moved, gradient) in stepped(trial, data_of(trial).shape).items():
        if name == "head.weight":  # 0.05 · 128/256 an entry
            assert torch.allclose(moved, 0.025 * gradient.sign(), atol=1e-6)
        elif name.endswith("bias"):  # a root mean square of 0.05 · 8
            assert float(moved.square().mean().sqrt()) == pytest.approx(0.4, rel=1e-5)
        else:  # 0.05 · 8 · √(c_out/c_in)/9
            c_out, c_in = moved.shape[:2]
            assert is_as_long(moved, 0.4 * math.sqrt(c_out / c_in) / 9), name


def test_airbench_has_200_steps_of_2000_images_whose_rate_falls_to_zero():
    for preset in AIRBENCH:
        trial = first_of(airbench, preset)
        assert (trial.steps, trial.batch_size, trial.exact_tokens, trial.val_tokens) == (200, 2000, 400_000, 10_000)
        factor = schedule_of(trial, trial.steps)
        assert [factor(k) for k in (0, 1, 100, 199)] == pytest.approx([1, 199 / 200, 0.5, 1 / 200])  # 1 - step/steps
        trials = airbench.SPEC.presets[preset].trials
        assert [t.seed for t in trials] == list(range(len(trials)))
    assert [len(airbench.SPEC.presets[preset].trials) for preset in AIRBENCH] == [50, 200]


def test_airbench_reads_its_images_as_the_authors_do(files):
    data = load(airbench.DATA)
    found = data.options
    assert (found.flip, found.translate, found.smoothing, found.views) == ("alternating", 2, 0.2, 6)
    inputs = data.unpack(data.rows(data.train.pixels, data.train.labels))[0]
    assert torch.allclose(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(inputs.std((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("preset", AIRBENCH)
def test_what_is_for_gpus_trains_at_a_tiny_shape_on_files_of_the_authors_kind(files, preset):
    fields = {"width": 8, "batch_size": 20, "tokens": 20 * 30, "val_tokens": 40}
    trial = resolve(first_of(airbench, preset).replace(**fields))
    outcome = training.train(trial, data_of(trial))
    assert outcome.summary["status"] == "ok"
    assert outcome.summary["val_loss"] < outcome.summary["initial_loss"]
    assert outcome.summary["val_accuracy"] > 0.5  # guessing gives 0.1


DEIT = resolve(deit.SPEC.presets["gpu"].trials[0].replace(device="cpu", dtype="float32"))


def test_deit_takes_the_authors_step_in_every_layer():
    one_block = DEIT.replace(depth=1)
    moves = stepped(one_block, DataShape("image", 1000, (3, 224, 224)))
    assert len(moves) == 4 + 8 + 2
    for name, (moved, gradient) in moves.items():
        step = 6.4e-4 * 25
        if name == "head.weight":  # 6.4e-4 · 500/768 an entry
            assert torch.allclose(moved, 6.4e-4 * 500 / 768 * gradient.sign(), atol=1e-8)
        elif name in ("positions.weight", "class_token.bias"):  # every entry, by a norm of one place
            assert torch.allclose(moved, step * gradient.sign(), atol=1e-7)
        elif name.endswith("bias"):
            assert float(moved.square().mean().sqrt()) == pytest.approx(step, rel=1e-5)
        elif name == "embed.weight":  # of all 16 × 16 taps
            assert is_as_long(moved, step * math.sqrt(768 / 3) / 256), name
        else:  # queries, keys and values are one matrix
            assert is_as_long(moved, step * math.sqrt(moved.shape[0] / moved.shape[1])), name


def test_deit_has_200_epochs_whose_rate_falls_by_a_cosine():
    assert (DEIT.steps, DEIT.batch_size, DEIT.momentum, DEIT.lr) == (62_400, 4096, 0.1, 6.4e-4)
    assert DEIT.lr == pytest.approx(8e-5 * 4096 / 512)
    factor = schedule_of(DEIT, DEIT.steps)
    for epoch in (0, 50, 100, 199):  # timm's
        expected = 1e-7 + (6.4e-4 - 1e-7) * (1 + math.cos(math.pi * epoch / 200)) / 2
        assert 6.4e-4 * factor(312 * epoch) == pytest.approx(expected, rel=1e-9)


def test_deits_preset_for_gpus_trains_at_a_tiny_shape_on_a_folder(files):
    data = deit.DATA.replace("size=224", "size=32")
    fields = {"width": 16, "depth": 1, "head_dim": 8, "batch_size": 12, "tokens": 12 * 60, "val_tokens": 8}
    trial = resolve(DEIT.replace(data=data, **fields))
    outcome = training.train(trial, data_of(trial))
    assert outcome.summary["status"] == "ok"
    assert outcome.summary["vocab_size"] == 2
    assert outcome.summary["val_loss"] < outcome.summary["initial_loss"]


SMOKE = [
    pytest.param(trial, id=f"{experiment.SPEC.name}-{trial.optimizer}")
    for experiment in (airbench, deit)
    for trial in experiment.SPEC.presets["smoke"].trials
    if trial.seed == 0
]


@pytest.mark.parametrize("trial", SMOKE)
def test_the_smoke_preset_runs_from_end_to_end(trial):
    trial = resolve(trial.replace(device="cpu"))
    outcome = training.train(trial, data_of(trial))
    assert outcome.summary["status"] == "ok"
    assert 0 <= outcome.summary["val_accuracy"] <= 1


def test_without_the_files_the_preset_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forget()
    with pytest.raises(UserError, match=r"data: 'cifar10:data/cifar-10,.* cannot be read: data_batch_1: No such file"):
        data_of(airbench.SPEC.presets["gpu"].trials[0])
    with pytest.raises(UserError, match=r"data: 'folder:data/imagenet,.* cannot be read: train: No such file"):
        data_of(deit.SPEC.presets["gpu"].trials[0])
