"""The published runs: presets take the authors' steps, and train at a tiny shape on files of the authors' kind."""

import math

import pytest
import torch
from published_data import write_published
from torch import nn

from experiments import nanogpt, shallow_nanogpt
from scionlab import training
from scionlab.errors import UserError
from scionlab.geometry.orthogonalize import BAND
from scionlab.optim import recipe
from scionlab.optim.schedule import schedule_of
from scionlab.problems.data import load
from scionlab.roles.roles import Claim
from scionlab.training.prepare import data_of, resolve

TINY = {"width": 32, "head_dim": 16, "depth": 1, "seq_len": 16, "val_seq_len": 16, "val_tokens": 64, "device": "cpu"}


def published(experiment, preset, **fields):
    """The preset's trials that have these fields, resolved for a CPU."""
    found = [t for t in experiment.SPEC.presets[preset].trials if all(getattr(t, k) == v for k, v in fields.items())]
    return [resolve(trial.replace(device="cpu", dtype="float32")) for trial in found]


def stepped(trial, role, shape, shared=False):
    """A matrix before and after one step of the trial's optimizers, and its gradient, the only one that there was.

    The gradient's singular values are within a factor of three, as the band of Newton-Schulz is for moderate ones.
    """
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(shape, generator=generator) / math.sqrt(shape[1]))
    before, weight.grad = weight.detach().clone(), nn.init.orthogonal_(torch.empty(shape), generator=generator)
    weight.grad *= 0.5 + torch.rand(shape[0], 1, generator=generator)
    claims = [Claim(("it",), weight, role, "out_in", shared=shared)]
    if role == "hidden":  # Muon's pair must have something for AdamW
        claims.append(Claim(("head",), nn.Parameter(torch.zeros(2, shape[1])), "output", "out_in"))
    for optimizer in recipe(trial).optimizers(claims, trial.lr, trial.momentum, trial.width):
        optimizer.step()
    return before, weight.detach(), weight.grad


@pytest.mark.parametrize("shape", [(768, 768), (3072, 768), (768, 3072)])
def test_scions_hidden_step_is_as_long_as_published(shape):
    (trial,) = published(nanogpt, "gpu", optimizer="scion", lr=nanogpt.SCION_LR, seed=0)
    before, after, _ = stepped(trial, "hidden", shape)
    moved = after - (1 - 3.6e-4) * before
    # γρ = 0.018 in the RMS → RMS norm, as far as Newton-Schulz makes singular values 1
    lengths = torch.linalg.svdvals(moved) / math.sqrt(shape[0] / shape[1]) / 0.018
    assert BAND[0] <= float(lengths.min())
    assert float(lengths.max()) <= BAND[1]


def test_scions_shared_matrix_moves_by_a_width_th_of_its_radius():
    (trial,) = published(nanogpt, "gpu", optimizer="scion", lr=nanogpt.SCION_LR, seed=0)
    before, after, gradient = stepped(trial, "output", (512, 768), shared=True)
    moved = after - (1 - 3.6e-4) * before
    expected = -1.40625e-3 * gradient.sign()  # γ · 3000/768
    assert torch.allclose(moved, expected, rtol=0, atol=5e-8)  # float32 of entries up to 0.2
    assert trial.options["radius_output"] / 768 == pytest.approx(3.9, abs=0.01)


@pytest.mark.parametrize("shape", [(768, 768), (3072, 768), (768, 3072)])
def test_muons_step_has_the_records_root_mean_square(shape):
    (trial,) = published(nanogpt, "gpu", optimizer="muon", seed=0)
    before, after, _ = stepped(trial, "hidden", shape)
    # the record multiplies by √max(d_out, d_in), for entries of mean square 1 where singular values are 1
    root = float((after - before).square().mean().sqrt()) / 0.00036
    assert BAND[0] <= root <= BAND[1]


def test_muons_adamw_and_adamw_itself_have_the_rates_and_betas_published():
    (trial,) = published(nanogpt, "gpu", optimizer="muon", seed=0)
    weight = nn.Parameter(torch.zeros(4, 768))
    claim = Claim(("it",), weight, "output", "out_in", shared=True)
    (beside,) = recipe(trial).optimizers([claim], trial.lr, trial.momentum, trial.width)
    (group,) = beside.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.0036, (0.9, 0.95), 0.0)
    (trial,) = published(nanogpt, "gpu", optimizer="adam", seed=0)
    (alone,) = recipe(trial).optimizers([claim], trial.lr, trial.momentum, trial.width)
    (group,) = alone.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.0015, (0.9, 0.95), 0.125)
    assert trial.warmup * trial.steps == pytest.approx(250)


def test_the_rate_is_constant_until_the_last_1450_of_5100_steps():
    for trial in published(nanogpt, "gpu", optimizer="scion", seed=0):
        assert (trial.steps, trial.batch_size, trial.exact_tokens) == (5100, 512, 5100 * 2**19)
        factor = schedule_of(trial, trial.steps)
        assert factor(0) == factor(3650) == 1
        # as the authors' (number of steps - step) / 1450
        assert [factor(k) for k in (3651, 4375, 5099)] == pytest.approx([1449 / 1450, 0.5, 1 / 1450])


def test_the_larger_networks_have_the_published_sizes_and_rates():
    settings = {
        preset: {(t.width, t.depth, t.width // t.head_dim, t.batch_size, t.lr, t.momentum) for t in published_scion}
        for preset in ("gpu-775m", "gpu-1b")
        for published_scion in [published(nanogpt, preset, optimizer="scion")]
    }
    assert settings == {
        "gpu-775m": {(1280, 36, 20, 1024, 1.8e-4, 0.1)},
        "gpu-1b": {(2048, 18, 16, 1024, 1.8e-4, 0.1)},
    }


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """The files where the presets for GPUs look."""
    write_published(tmp_path)
    monkeypatch.chdir(tmp_path)
    load.cache_clear()
    yield
    load.cache_clear()


def tiny_runs():
    """One trial of every method of every preset for GPUs."""
    for experiment in (nanogpt, shallow_nanogpt):
        for preset in filter(lambda name: name.startswith("gpu"), experiment.SPEC.presets):
            trials = experiment.SPEC.presets[preset].trials
            for optimizer in dict.fromkeys(trial.optimizer for trial in trials):
                rates = sorted({trial.lr for trial in trials if trial.optimizer == optimizer})
                middle = rates[len(rates) // 2]
                trial = next(t for t in trials if (t.optimizer, t.lr) == (optimizer, middle))
                yield pytest.param(trial, id=f"{experiment.SPEC.name}-{preset}-{optimizer}")


@pytest.mark.parametrize("trial", list(tiny_runs()))
def test_what_is_for_gpus_trains_at_a_tiny_shape_on_shards_of_the_authors_kind(shards, trial):
    vocabulary = 50304 if "fineweb" in trial.data else 65
    options = {**trial.options} | ({"base_width": 32} if trial.optimizer == "adam-mup" else {})
    fields = {"options": options, "batch_size": 4, "tokens": 12 * 4 * 16, "dtype": "float32"}
    trial = resolve(trial.replace(**TINY | fields))
    outcome = training.train(trial, data_of(trial))
    assert outcome.summary["status"] == "ok"
    assert outcome.summary["vocab_size"] == vocabulary
    assert outcome.summary["val_loss"] < outcome.summary["initial_loss"]


def test_without_the_files_the_preset_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load.cache_clear()
    for experiment in (nanogpt, shallow_nanogpt):
        with pytest.raises(UserError, match=r"data: 'tokens:data/\w+/\*\.bin.* names no file"):
            data_of(experiment.SPEC.presets["gpu"].trials[0])
