"""The probe of noise against planted noise, closed forms and NumPy in float64, and its silence in the training."""

import math

import numpy as np
import pytest
import torch
from trainings import CORPUS, numbers, trial

from scionlab import training
from scionlab.errors import UserError
from scionlab.geometry import NORMS, Layer, NetworkNorm
from scionlab.problems.data import Corpus
from scionlab.training.measure.noise import (
    GROUPS,
    jackknife,
    noise_rows,
    tail_index,
    tail_index_block,
)

SMALL = {"width": 16, "head_dim": 8, "depth": 1, "seq_len": 16}
WINDOWS = 1024
SPECTRAL = NetworkNorm((Layer(NORMS["spectral"]),))


def values_of(rows, group: str) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in rows if row["group"] == group}


def planted(bank: torch.Tensor, batch_size: int = 1) -> dict[str, float]:
    """What is measured of a matrix whose gradient, for window i, is bank[i]."""
    weight = torch.zeros(bank.shape[1:], requires_grad=True)
    windows = torch.arange(len(bank))[:, None].repeat(1, 2)

    def loss(windows: torch.Tensor) -> torch.Tensor:
        return (bank[windows[:, 0]] * weight).sum() / len(windows)

    return values_of(noise_rows(loss, {"weight": weight}, SPECTRAL, windows, batch_size), "weight")


# --- the estimators ---


@pytest.mark.parametrize("index", [1.2, 1.5, 2.0, 3.0])
def test_the_tail_index_of_pareto_lies_in_its_interval_as_often_as_is_said(index: float) -> None:
    rng = np.random.default_rng(1)
    found = [tail_index(rng.pareto(index, 1000) + 1) for _ in range(400)]
    held = np.mean([one.low <= index <= one.high for one in found])
    assert held == pytest.approx(0.95, abs=0.033)  # three standard errors of 400 draws


# The method's sheet: mean and standard deviation over samples of 1000; of the mean of 100, a fifth of it is two errors.
@pytest.mark.parametrize(
    ("draw", "mean", "spread"),
    [
        (lambda rng: rng.standard_t(1.5, 1000), 1.45, 0.24),
        (lambda rng: rng.standard_t(2, 1000), 2.0, 0.30),
        (lambda rng: rng.standard_t(3, 1000), 2.8, 0.5),
        (lambda rng: rng.standard_normal(1000), 6.1, 0.7),
    ],
)
def test_the_tail_index_of_known_laws_is_what_simulations_found(draw, mean: float, spread: float) -> None:
    rng = np.random.default_rng(2)
    found = [tail_index(np.abs(draw(rng))).value for _ in range(100)]
    assert np.mean(found) == pytest.approx(mean, abs=spread / 2)
    assert np.std(found) == pytest.approx(spread, rel=0.4)


def test_the_tail_index_by_its_definition() -> None:
    sizes = np.array([8.0, 4.0, 2.0, *[1.0] * 57])  # k = 3 of 60
    assert tail_index(sizes).value == pytest.approx(3 / math.log(8 * 4 * 2))


@pytest.mark.parametrize("sizes", [np.ones(100), np.zeros(100), np.ones(1)])
def test_sizes_without_a_tail_have_no_index(sizes: np.ndarray) -> None:
    assert math.isnan(tail_index(sizes).value)


@pytest.mark.parametrize(("draw", "index"), [("standard_cauchy", 1.0), ("standard_normal", 2.0)])
def test_the_block_estimator_finds_stable_laws(draw: str, index: float) -> None:
    rng = np.random.default_rng(3)
    found = [tail_index_block(getattr(rng, draw)((1024, 8))) for _ in range(20)]
    # 8 · 32 sums, whose logarithms have a standard deviation of about 1.1: .07/log 32 in 1/p; never above 2.
    assert np.mean(found) == pytest.approx(index, abs=0.06)


def test_the_block_estimator_is_biased_where_no_law_is_stable() -> None:
    rng = np.random.default_rng(4)
    found = [tail_index_block(rng.standard_t(3, (1024, 8))) for _ in range(20)]
    assert np.mean(found) == pytest.approx(1.75, abs=0.1)  # the method's sheet; 3 is the truth


def test_leaving_out_groups_gives_the_textbook_error_of_a_mean() -> None:
    values = np.random.default_rng(5).normal(size=GROUPS)
    found = jackknife(lambda keep: float(values[keep].mean()), GROUPS)
    error = values.std(ddof=1) / math.sqrt(GROUPS)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 2.0395 * error, rel=1e-4)  # Student's t, 31 degrees


# --- planted noise ---


def test_gaussian_noise_is_light_spreads_over_all_directions_and_averages_out() -> None:
    bank = torch.randn(WINDOWS, 24, 24, generator=torch.Generator().manual_seed(0)) + 5
    found = planted(bank)
    assert found["tail_index_low"] > 4
    # ‖N‖_S1/‖N‖_F of a Gaussian square is 8/(3π)·√n up to terms in 1/n (quarter-circle law); ℓ1: √(2/π) of √(mn).
    assert found["nuclear_ratio"] == pytest.approx((8 / (3 * math.pi) * 24**0.5 - 1) / (24**0.5 - 1), abs=0.01)
    assert found["entry_ratio"] == pytest.approx((math.sqrt(2 / math.pi) * 24 - 1) / 23, abs=0.01)
    assert found["batch_slope"] == pytest.approx(-0.5, abs=0.005)
    assert found["batch_slope_low"] < -0.5 < found["batch_slope_high"]


def test_noise_of_rank_one_has_no_nuclear_ratio_and_does_not_average_out_in_the_nuclear_norm() -> None:
    rng = np.random.default_rng(6)
    bank = np.zeros((WINDOWS, 32, 32), np.float32)
    atoms, signs = rng.integers(32, size=WINDOWS), rng.choice([-1.0, 1.0], WINDOWS)
    bank[np.arange(WINDOWS), atoms, atoms] = signs
    found = planted(torch.from_numpy(bank))
    assert found["nuclear_ratio"] == pytest.approx(0, abs=0.03)  # the mean of all is no atom
    # Sheet: local slopes -.03 from 1 to 4 and -.12 from 4 to 16, -.31 from 16 to 64.
    assert -0.2 < found["batch_slope"] < -0.05


def test_heavy_sizes_are_found_heavy_and_average_out_slowly() -> None:
    rng = np.random.default_rng(7)
    bank = rng.normal(size=(WINDOWS, 8, 8)) * (rng.pareto(1.4, WINDOWS) + 1)[:, None, None]
    found = planted(torch.from_numpy(bank.astype(np.float32)))
    assert found["tail_index_low"] < 1.4 < found["tail_index_high"]
    assert found["tail_index"] < 2
    assert found["batch_slope"] > -0.5  # -(1 - 1/1.4) = -.29 in the limit


def test_ratios_and_slope_are_those_of_numpy_at_the_batch_that_is_trained_with() -> None:
    bank = torch.randn(WINDOWS, 6, 4, generator=torch.Generator().manual_seed(1))
    groups = bank.double().numpy().reshape(GROUPS, -1, 6, 4) - bank.double().numpy().mean(0)

    def mean_of_powers(values) -> float:
        return float(np.mean(np.array(values) ** 1.5) ** (1 / 1.5))

    batches = groups[:, :8].mean(1)
    nuclear = mean_of_powers([np.linalg.svd(b, compute_uv=False).sum() for b in batches])
    ratio = nuclear / mean_of_powers([np.linalg.norm(b) for b in batches])
    duals = [  # of the RMS→RMS norm: √(d_out/d_in) times the nuclear one
        np.mean([np.linalg.svd(g[:b].mean(0), compute_uv=False).sum() for g in groups]) / math.sqrt(1 - b / WINDOWS)
        for b in (1, 2, 4, 8, 16, 32)
    ]
    found = planted(bank, batch_size=7)
    assert found["nuclear_ratio"] == pytest.approx((ratio - 1) / (2 - 1), rel=1e-5)
    assert found["batch_slope"] == pytest.approx(
        np.polyfit(np.log([1, 2, 4, 8, 16, 32]), np.log(duals), 1)[0], rel=1e-4
    )


def test_without_noise_there_is_nothing_to_say() -> None:
    assert planted(torch.ones(WINDOWS, 4, 4)) == {}


def test_gradients_that_are_not_finite_have_no_rows() -> None:
    bank = torch.randn(WINDOWS, 4, 4)
    bank[3] = math.inf
    assert planted(bank) == {}


# --- in a trial ---


@pytest.fixture
def few(monkeypatch):
    """Fewer windows, for speed."""
    monkeypatch.setattr(training.run, "NOISE_WINDOWS", 128)


def noise_of(outcome: training.Outcome):
    return [row for row in outcome.scores if row["split"] == "noise"]


@pytest.mark.usefixtures("few")
def test_a_trial_has_rows_of_every_layer_and_of_the_network_before_its_steps() -> None:
    outcome = training.train(trial("scion", steps=4, noise_probe=2, **SMALL), CORPUS)
    rows = noise_of(outcome)
    assert {row["step"] for row in rows} == {2, 4}
    groups = {row["group"] for row in rows}
    assert {"network", "embed.weight", "head.weight"} < groups
    network = values_of([row for row in rows if row["step"] == 2], "network")
    assert "nuclear_ratio" not in network
    assert -1 < network["batch_slope_low"] < network["batch_slope"] < network["batch_slope_high"] < 0
    assert 0 < values_of(rows, "head.weight")["nuclear_ratio"] < 1


@pytest.mark.usefixtures("few")
def test_measuring_leaves_the_training_as_it_was() -> None:
    plain = trial("scion", steps=4, **SMALL)
    measured = training.train(plain.replace(noise_probe=2), CORPUS)
    assert numbers(measured) == numbers(training.train(plain, CORPUS))


def test_a_text_too_short_is_told_before_anything_runs() -> None:
    short = Corpus("short", "0" * 64, bytes(range(256)) * 40, CORPUS.validation)
    with pytest.raises(UserError, match="a probe of 1024 windows; give more text, or set probe and noise_probe to 0"):
        training.train(trial("scion", steps=4, noise_probe=1, **SMALL), short)
