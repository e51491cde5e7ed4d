"""The quadratic and its noise: constants, moments and gradients against their closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scionlab.errors import UserError
from scionlab.problems.data import DataShape, load
from scionlab.problems.data.noise import direction, target
from scionlab.problems.models import MODELS
from scionlab.spec import Trial

NOISY = ["noise:gaussian-0.5", "noise:skewed-0.5", "noise:gaussian-3", "noise:skewed-3", "noise:t1.5-0.5"]


def problem(data: str = "noise:none", width: int = 16):
    source = load(data)
    trial = Trial(optimizer="scion", lr=0.1, model="quadratic", width=width, data=data, head_dim=2)
    return source, MODELS["quadratic"](trial, source.shape, 1.0)


def evaluate(data: str, weight: np.ndarray, batch: torch.Tensor) -> tuple[float, np.ndarray]:
    """Loss and gradient at a matrix, as training computes them."""
    source, architecture = problem(data, len(weight))
    model = architecture.build()
    (parameter,) = model.parameters()
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(weight))
    inputs, targets = source.unpack(batch)
    loss = source.loss(model(inputs), targets)
    loss.backward()
    return loss.item(), parameter.grad.double().numpy()


def gradient(weight: np.ndarray) -> np.ndarray:
    return (weight - target(len(weight)).double().numpy()) / len(weight)


def samples(data: str, count: int, width: int = 8, seed: int = 0) -> np.ndarray:
    source = load(data)
    names = source.training(count, 1, seed).next_batch().tolist()
    return np.stack([source.draw(name, width) for name in names])


@pytest.mark.parametrize("width", [1, 2, 16, 33])
def test_the_minimum_lies_inside_the_unit_spectral_ball(width):
    values = np.linalg.svd(target(width).double().numpy(), compute_uv=False)
    np.testing.assert_allclose(values, 0.5 * np.arange(width, 0, -1) / width, rtol=1e-4)  # rounded to float32
    assert torch.equal(target(width), target.__wrapped__(width))


@pytest.mark.parametrize("width", [4, 16])
def test_value_and_gradient_without_noise_are_the_closed_form(width):
    weight = np.random.default_rng(1).standard_normal((width, width)) / np.sqrt(width)
    source = load("noise:none")
    for batch in (source.held_out(1, 1), source.training(3, 1, seed=0).next_batch()):
        value, grad = evaluate("noise:none", weight, batch)
        gap = weight - target(width).double().numpy()
        assert value == pytest.approx((gap**2).sum() / (2 * width), rel=1e-5)  # float32
        np.testing.assert_allclose(grad, gradient(weight), rtol=1e-4, atol=1e-7)
    assert evaluate("noise:none", target(width).double().numpy(), batch)[0] == 0
    start = sum((k / width / 2) ** 2 for k in range(1, width + 1)) / (2 * width)
    assert evaluate("noise:none", np.zeros((width, width)), batch)[0] == pytest.approx(start, rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), width=st.integers(1, 12))
def test_the_gradient_is_one_smooth_in_the_spectral_norm(seed, width):
    x, y = np.random.default_rng(seed).standard_normal((2, width, width)) * [[[1.0]], [[3.0]]]
    change = np.linalg.norm(gradient(x) - gradient(y), "nuc")
    assert change <= np.linalg.norm(x - y, 2) * (1 + 1e-12)


def test_the_smoothness_constant_is_attained():
    x = np.eye(6)
    assert np.linalg.norm(gradient(x) - gradient(-x), "nuc") == pytest.approx(np.linalg.norm(2 * x, 2))


@pytest.mark.parametrize("data", NOISY)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_noisy_gradient_is_the_true_one_plus_the_mean_of_its_samples(data, batch_size):
    weight = np.random.default_rng(2).standard_normal((8, 8))
    source = load(data)
    batch = source.training(batch_size, 1, seed=3).next_batch()
    value, grad = evaluate(data, weight, batch)
    expected = gradient(weight) + samples(data, batch_size, seed=3).mean(axis=0)
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-6)  # float32
    assert value == evaluate("noise:none", weight, batch)[0]  # the noise moves the gradient, not the curve


@pytest.mark.parametrize("data", ["noise:gaussian-0.5", "noise:gaussian-3"])
def test_gaussian_noise_has_mean_zero_and_the_stated_size(data):
    sigma, drawn = load(data).sigma, samples(data, 3_000)
    entries = drawn.ravel() * 8 / sigma  # of variance 1
    n = len(entries)  # 192,000
    assert abs(entries.mean()) < 5 / np.sqrt(n)
    assert abs((entries**2).mean() - 1) < 5 * np.sqrt(2 / n)
    squares = (drawn**2).sum(axis=(1, 2))  # ‖Ξ‖_F², each a sum of 64 entries
    assert squares.mean() == pytest.approx(sigma**2, rel=5 * np.sqrt(2 / n))
    neighbours = entries.reshape(3_000, 64)
    assert abs((neighbours[:, 1:] * neighbours[:, :-1]).mean()) < 5 / np.sqrt(3_000 * 63)
    assert abs((neighbours[1:] * neighbours[:-1]).mean()) < 5 / np.sqrt(2_999 * 64)


def test_skewed_noise_has_two_values_and_a_median_that_is_not_its_mean():
    drawn = samples("noise:skewed-2", 3_000)
    along = (drawn * direction(8)).sum(axis=(1, 2))  # ⟨Ξ, M⟩, as ‖M‖_F = 1
    np.testing.assert_allclose(drawn, along[:, None, None] * direction(8), atol=1e-12)
    np.testing.assert_allclose(np.unique(along.round(9)), [-2 / 3, 3 * 2])
    share = (along > 0).mean()
    assert abs(share - 0.1) < 5 * np.sqrt(0.09 / len(along))  # and so mean 0 and mean square 4
    np.testing.assert_allclose(np.linalg.svd(direction(8), compute_uv=False), 1 / np.sqrt(8))


def test_an_average_of_lmos_is_at_rest_away_from_the_minimum():
    # at ∇f = cM a sample's LMO is −M√d times the sign of c + ξ: on average 0 only where c passes σ/3
    samples_of = {3 * 2.0: 0.1, -2.0 / 3: 0.9}
    drift = {c: sum(share * np.sign(c + xi) for xi, share in samples_of.items()) for c in (0.0, 0.6, 0.7)}
    assert drift[0.0] < 0
    assert drift[0.6] < 0 < drift[0.7]
    assert np.linalg.norm(direction(16) * 2.0 / 3, "nuc") == pytest.approx(np.sqrt(16) * 2.0 / 3)


def test_gaussian_noise_is_gaussian():
    stats = pytest.importorskip("scipy.stats")
    entries = samples("noise:gaussian-2", 200).ravel() * 8 / 2
    assert stats.kstest(entries, "norm").pvalue > 1e-3


@pytest.mark.parametrize("degrees", [1.3, 1.6, 3])
def test_student_noise_has_the_stated_tail_and_scale(degrees):
    stats = pytest.importorskip("scipy.stats")
    entries = samples(f"noise:t{degrees}-2", 200).ravel() * 8 / 2
    assert stats.kstest(entries, "t", args=(degrees,)).pvalue > 1e-3


@pytest.mark.parametrize("data", ["noise:gaussian-0.5", "noise:gaussian-3", "noise:t1.5-1"])
def test_samples_are_named_by_seed_stage_and_number(data):
    source = load(data)

    def drawn(seed: int, stage: int, batch_size: int, batches: int) -> list[list[int]]:
        stream = source.training(batch_size, 1, seed, stage)
        return torch.cat([stream.next_batch() for _ in range(batches)]).tolist()

    assert drawn(1, 0, 6, 2) == drawn(1, 0, 3, 4)  # the batch size does not matter
    names = [*drawn(1, 0, 12, 1), *drawn(2, 0, 12, 1), *drawn(1, 1, 12, 1), *drawn(0, 0, 12, 1)]
    matrices = {source.draw(name, 12).tobytes() for name in names}
    assert len(matrices) == len(names) == 48
    assert {source.draw(name, 12).tobytes() for name in names} == matrices


def test_the_place_in_the_stream_can_be_saved_and_the_batch_size_changed():
    stream = load("noise:gaussian-1").training(3, 1, seed=5, stage=2)
    stream.next_batch()
    stream.batch_size = 4
    stream.next_batch()
    again = load("noise:gaussian-1").training(4, 1, seed=5)
    again.load_state_dict(stream.state_dict())
    batch = stream.next_batch()
    assert torch.equal(again.next_batch(), batch)
    assert batch.tolist() == [[5, 2, number] for number in (8, 9, 10, 11)]
    assert stream.epochs == 0


def test_validation_is_one_sample_without_noise():
    source = load("noise:gaussian-3")
    batch = source.held_out(1, 1)
    weight = np.random.default_rng(4).standard_normal((8, 8))
    value, grad = evaluate("noise:gaussian-3", weight, batch)
    assert len(batch) == 1
    np.testing.assert_allclose(grad, gradient(weight), rtol=1e-4, atol=1e-7)  # float32
    assert value == pytest.approx(((weight - target(8).double().numpy()) ** 2).sum() / 16, rel=1e-5)


def test_noise_is_known_by_its_distribution():
    assert load("noise:gaussian-1").shape == DataShape("noise")
    assert load("noise:gaussian-1").split_sha256 == load("noise:gaussian-1.0").split_sha256
    kinds = ["noise:none", "noise:gaussian-1", "noise:gaussian-2", "noise:skewed-1", "noise:skewed-2"]
    kinds += ["noise:t2-1", "noise:t1.5-1", "noise:t2-2"]
    assert len({load(kind).sha256 for kind in kinds}) == len(kinds)


@pytest.mark.parametrize(
    "kind",
    [
        *("", "gaussian", "gaussian-", "gaussian-x", "gaussian--1", "gaussian-inf", "gaussian-nan", "none-1", "salt-1"),
        *("t", "t2", "t2-", "t-1", "t1-1", "tx-1", "tinf-1", "tnan-1", "t2--1"),
    ],
)
def test_noise_that_is_not_known_is_refused(kind):
    with pytest.raises(UserError, match=f"data: 'noise:{kind}' is not known; choose noise:none, noise:gaussian-S"):
        load(f"noise:{kind}")


def test_noise_has_neither_windows_nor_an_end():
    source = load("noise:gaussian-1")
    with pytest.raises(UserError, match="seq_len: 64 is not allowed: a sample of noise is one token; set 1"):
        source.training(4, 64, seed=0)
    with pytest.raises(UserError, match=r"train_limit: 5 is not allowed: .* without end"):
        source.training(4, 1, seed=0, limit=5)
    with pytest.raises(UserError, match="val_seq_len: 64 is not allowed"):
        source.held_out(1, 64)
    with pytest.raises(UserError, match=r"val_tokens: 32768 is not allowed: .* set 1"):
        source.held_out(32_768, 1)
    with pytest.raises(UserError, match="has no windows to probe, only texts have"):
        source.probe(32, 1)
    assert source.training(4, 1, seed=0).n_windows > 10**15


@pytest.mark.parametrize("width", [2, 16])
def test_the_model_is_one_hidden_matrix(width):
    _, architecture = problem(width=width)
    model = architecture.build()
    assert [tuple(p.shape) for p in model.parameters()] == [(width, width)]
    assert architecture.n_params == architecture.n_params_hidden == width**2
    assert model(torch.zeros(5, 3)) is next(model.parameters())


def test_gradient_descent_reaches_the_minimum():
    source, architecture = problem("noise:none")
    model = architecture.build()
    optimizer = torch.optim.SGD(model.parameters(), lr=8.0)  # 1/a is 16: the error halves every step
    losses = []
    for _ in range(20):
        inputs, targets = source.unpack(source.held_out(1, 1))
        optimizer.zero_grad()
        loss = source.loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(np.divide(losses[1:], losses[:-1])[:8], 0.25, rtol=1e-3)
    assert losses[-1] < 1e-9
