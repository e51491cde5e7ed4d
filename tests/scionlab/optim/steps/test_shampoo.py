"""Shampoo against its formula by SciPy's matrix functions, its spectral limit, and what it keeps and refuses."""

import io
import math

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power
from torch import nn

from scionlab.errors import UserError
from scionlab.geometry import norm_named
from scionlab.optim.steps.shampoo import Shampoo

LR, ALPHA, BETA2, EPS, DECAY = 0.125, 0.25, 0.75, 1e-3, 0.5
STEPS = 5


def drawn(shape: tuple[int, ...], count: int = STEPS, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(count, *shape)))


def steps(optimizer: Shampoo, grads: list[np.ndarray]):
    """The parameter after every step."""
    (parameter,) = optimizer.param_groups[0]["params"]
    for grad in grads:
        parameter.grad = torch.from_numpy(grad).to(parameter.dtype)
        optimizer.step()
        yield parameter.detach().double().numpy().copy()


def root(factor: np.ndarray) -> np.ndarray:
    """F^(−1/4), with eps of the largest eigenvalue on the diagonal."""
    raised = factor + EPS * np.linalg.norm(factor, 2) * np.eye(len(factor))
    return np.linalg.inv(fractional_matrix_power(raised, 0.25).real)


def by_hand(x: np.ndarray, grads: list[np.ndarray]):
    d, left, right = np.zeros_like(x), 0.0, 0.0
    for k, g in enumerate(grads, 1):
        d = (1 - ALPHA) * d + ALPHA * g
        left = BETA2 * left + (1 - BETA2) * g @ g.T
        right = BETA2 * right + (1 - BETA2) * g.T @ g
        unbiased = 1 - BETA2**k
        step = root(left / unbiased) @ d @ root(right / unbiased)
        x = (1 - LR * DECAY) * x - LR * step
        yield x


SETTINGS = {"lr": LR, "momentum": ALPHA, "beta2": BETA2, "eps": EPS, "weight_decay": DECAY}
SHAPES = [(5, 5), (6, 3), (3, 6), (1, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_matrices_follow_the_formula(shape):
    start, grads = drawn(shape, 1, seed=1)[0], drawn(shape)
    optimizer = Shampoo([nn.Parameter(torch.from_numpy(start.copy()))], **SETTINGS)
    for found, expected in zip(steps(optimizer, grads), by_hand(start, grads), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)  # two ways to the root of a 1e-3 condition


def test_vectors_have_a_diagonal_factor():
    start, grads = drawn((7,), 1, seed=1)[0], drawn((7,))
    optimizer = Shampoo([nn.Parameter(torch.from_numpy(start.copy()))], **SETTINGS)
    x, d, v = start, 0.0, 0.0
    for k, (found, g) in enumerate(zip(steps(optimizer, grads), grads, strict=True), 1):
        d = (1 - ALPHA) * d + ALPHA * g
        v = BETA2 * v + (1 - BETA2) * g**2
        unbiased = v / (1 - BETA2**k)
        x = (1 - LR * DECAY) * x - LR * d / np.sqrt(unbiased + EPS * unbiased.max())
        np.testing.assert_allclose(found, x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (4, 2, 3)])
def test_kernels_are_read_as_flat_matrices(shape):
    start, grads = drawn(shape, 1, seed=1)[0], drawn(shape)
    optimizer = Shampoo([nn.Parameter(torch.from_numpy(start.copy()))], **SETTINGS)
    flat = Shampoo([nn.Parameter(torch.from_numpy(start.reshape(4, -1).copy()))], **SETTINGS)
    of_flat = steps(flat, [grad.reshape(4, -1) for grad in grads])
    for found, expected in zip(steps(optimizer, grads), of_flat, strict=True):
        assert np.array_equal(found.reshape(4, -1), expected)


@pytest.mark.parametrize("shape", [*SHAPES, (4, 1)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_without_memory_the_step_is_that_of_the_spectral_lmo(shape, scale):
    grads = [scale * grad for grad in drawn(shape)]
    optimizer = Shampoo([nn.Parameter(torch.zeros(shape).double())], lr=LR, momentum=1.0, beta2=0.0, eps=0.0)
    x = np.zeros(shape)
    for found, grad in zip(steps(optimizer, grads), grads, strict=True):
        u, _, vt = np.linalg.svd(grad, full_matrices=False)
        x = x - LR * u @ vt
        np.testing.assert_allclose(found, x, rtol=0, atol=1e-8)  # squared singular values keep half of the digits
        lmo = norm_named("schatten-inf").lmo(torch.from_numpy(grad)).numpy()
        np.testing.assert_allclose(-u @ vt, lmo, rtol=0, atol=1e-12)


def test_a_direction_without_gradient_gets_no_step():
    grad = np.outer([1.0, 2.0, 0.0], [3.0, 0.0, 4.0])  # rank one: everything else is rounding
    x = nn.Parameter(torch.zeros(3, 3))
    (found,) = steps(Shampoo([x], lr=1.0, momentum=1.0, beta2=0.0, eps=0.0), [grad])
    np.testing.assert_allclose(found, -grad / np.linalg.norm(grad), atol=1e-5)  # float32 factors
    y = nn.Parameter(torch.ones(3, 3))
    for found in steps(Shampoo([y], lr=1.0), [np.zeros((3, 3))] * 2):
        assert np.array_equal(found, np.ones((3, 3)))
    z = nn.Parameter(torch.ones(3))
    for found in steps(Shampoo([z], lr=1.0), [np.zeros(3)] * 2):
        assert np.array_equal(found, np.ones(3))


@pytest.mark.parametrize("shape", [(3, 2), (3,)])
def test_a_gradient_that_is_not_finite_shows_and_raises_nothing(shape):
    x = nn.Parameter(torch.zeros(shape))
    (found,) = steps(Shampoo([x]), [np.full(shape, np.inf)])
    assert np.isnan(found).all()


def test_what_it_keeps_is_an_average_and_two_factors():
    matrix, vector = nn.Parameter(torch.zeros(6, 4)), nn.Parameter(torch.zeros(5))
    optimizer = Shampoo([matrix, vector])
    for parameter in (matrix, vector):
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    shapes = [
        {name: tuple(value.shape) for name, value in optimizer.state[p].items() if torch.is_tensor(value)}
        for p in (matrix, vector)
    ]
    assert shapes == [
        {"average": (6, 4), "left": (6, 6), "right": (4, 4)},
        {"average": (5,), "squares": (5,)},
    ]


def test_state_survives_saving_bit_for_bit():
    x = nn.Parameter(torch.zeros(5, 3))
    optimizer, grads = Shampoo([x], **SETTINGS), drawn((5, 3))
    list(steps(optimizer, grads[:2]))
    file = io.BytesIO()
    torch.save({"x": x.detach(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = Shampoo([nn.Parameter(saved["x"])])
    resumed.load_state_dict(saved["optimizer"])
    for found, expected in zip(steps(resumed, grads[2:]), steps(optimizer, grads[2:]), strict=True):
        assert np.array_equal(found, expected)


def test_groups_closures_and_missing_gradients():
    x, y, idle = (nn.Parameter(torch.ones(2, 2)) for _ in range(3))
    optimizer = Shampoo([{"params": [x]}, {"params": [y, idle], "lr": 0.0}], lr=0.5, momentum=1.0)

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = (x @ y).sum()
        loss.backward()
        return loss.detach()

    assert float(optimizer.step(closure)) == 8.0
    assert not torch.equal(x, torch.ones(2, 2))
    assert torch.equal(y, torch.ones(2, 2))
    assert torch.equal(idle, torch.ones(2, 2))
    assert idle not in optimizer.state
    assert optimizer.step() is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, r"lr: -1\.0 .* \[0, inf\)"),
        ({"lr": math.nan}, "lr: nan"),
        ({"momentum": 0.0}, r"momentum: 0\.0 .* \(0, 1\]"),
        ({"momentum": 1.5}, r"momentum: 1\.5"),
        ({"beta2": 1.0}, r"beta2: 1\.0 .* \[0, 1\)"),
        ({"eps": -1e-8}, "eps: -1e-08"),
        ({"weight_decay": math.inf}, "weight_decay: inf"),
    ],
)
def test_refuses_values_out_of_range(options, message):
    with pytest.raises(UserError, match=f"Shampoo: {message}"):
        Shampoo([nn.Parameter(torch.eye(2))], **options)
