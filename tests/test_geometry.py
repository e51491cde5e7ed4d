"""One contract for every norm, held against dense float64 oracles; Newton-Schulz and the exact polar factor."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from scionlab.geometry import NORMS
from scionlab.geometry.orthogonalize import BAND, COEFFICIENTS, STEPS, newton_schulz, polar

MATRICES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "tall": lambda rng: rng.normal(size=(9, 4)),
    "wide": lambda rng: rng.normal(size=(4, 9)),
    "square": lambda rng: rng.normal(size=(6, 6)),
    "one-row": lambda rng: rng.normal(size=(1, 7)),
    "one-column": lambda rng: rng.normal(size=(7, 1)),
    "one-entry": lambda rng: rng.normal(size=(1, 1)),
    "rank-2": lambda rng: rng.normal(size=(8, 2)) @ rng.normal(size=(2, 6)),
    "zero-column": lambda rng: rng.normal(size=(5, 4)) * [1, 0, 1, 1],
    "zero-row": lambda rng: rng.normal(size=(4, 5)) * [[1], [1], [0], [1]],
}
VECTORS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "vector": lambda rng: rng.normal(size=7),
    "one-entry": lambda rng: rng.normal(size=1),
    "zero-entries": lambda rng: rng.normal(size=5) * [1, 0, 1, 0, 1],
}


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def largest(x: np.ndarray) -> float:
    return float(np.abs(x).max())


def over_one_hot(measure: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], float]:
    return lambda w: max(measure(w @ e) for e in np.eye(w.shape[1]))


def rms_to_max(w: np.ndarray) -> float:
    # output i is largest for the input of RMS 1 along row i
    inputs = [row * np.sqrt(len(row)) / np.linalg.norm(row) for row in w if row.any()]
    return max((largest(w @ x) for x in inputs), default=0.0)


def rms_to_rms(w: np.ndarray) -> float:
    # the output is largest for the input of RMS 1 along the first right singular vector
    return rms(w @ np.linalg.svd(w)[2][0] * np.sqrt(w.shape[1]))


def nuclear(g: np.ndarray) -> float:
    return float(np.linalg.svd(g, compute_uv=False).sum() * np.sqrt(g.shape[0] / g.shape[1]))


def columns(g: np.ndarray) -> float:
    return sum(float(np.linalg.norm(column)) * np.sqrt(len(column)) for column in g.T)


@dataclass(frozen=True)
class Oracle:
    norm: Callable[[np.ndarray], float]
    dual: Callable[[np.ndarray], float]
    band: tuple[float, float] = (1.0, 1.0)  # of ‖lmo‖ and of −⟨g, lmo(g)⟩/‖g‖_*


ORACLES = {
    "spectral": Oracle(rms_to_rms, nuclear, BAND),
    "spectral-exact": Oracle(rms_to_rms, nuclear),
    "column": Oracle(over_one_hot(rms), columns),
    "column-dense": Oracle(lambda w: w.shape[1] * over_one_hot(rms)(w), lambda g: columns(g) / g.shape[1]),
    "row": Oracle(rms_to_max, lambda g: sum(float(np.linalg.norm(row)) / np.sqrt(len(row)) for row in g)),
    "sign": Oracle(lambda w: w.shape[1] * over_one_hot(largest)(w), lambda g: float(np.abs(g).sum()) / g.shape[1]),
    "sign-onehot": Oracle(over_one_hot(largest), lambda g: float(np.abs(g).sum())),
    "bias": Oracle(rms, lambda g: float(np.linalg.norm(g)) * np.sqrt(len(g))),
    "bias-max": Oracle(largest, lambda g: float(np.abs(g).sum())),
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
CASES = [(name, case) for name, norm in NORMS.items() for case in (MATRICES if norm.ndim == 2 else VECTORS)]
for_every_case = pytest.mark.parametrize(("name", "case"), CASES)
for_every_norm = pytest.mark.parametrize("name", NORMS)
for_every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())


def oracle(name: str) -> Oracle:
    if name not in ORACLES:
        pytest.fail(f"the norm {name!r} of NORMS has no oracle: add its definition to ORACLES in this file")
    return ORACLES[name]


def gradient(name: str, case: str, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    make = (MATRICES if NORMS[name].ndim == 2 else VECTORS)[case]
    return torch.from_numpy(make(np.random.default_rng(7))).to(dtype)


def dense(x: torch.Tensor) -> np.ndarray:
    return x.double().numpy()


def rounding(dtype: torch.dtype) -> float:
    # sums of at most 72 products, or an SVD of a matrix this small, lose less than 100 units in the last place
    return 100 * torch.finfo(dtype).eps


def test_every_norm_has_an_oracle_and_every_oracle_a_norm():
    assert set(ORACLES) == set(NORMS), "add or remove the norm's definition in ORACLES"


@for_every_dtype
@for_every_case
def test_norm_and_dual_follow_their_definitions(name, case, dtype):
    g = gradient(name, case, dtype)
    assert float(NORMS[name].norm(g)) == pytest.approx(oracle(name).norm(dense(g)), rel=rounding(dtype))
    assert float(NORMS[name].dual(g)) == pytest.approx(oracle(name).dual(dense(g)), rel=rounding(dtype))


@for_every_dtype
@for_every_case
def test_lmo_lies_on_the_sphere_of_any_radius(name, case, dtype):
    s = NORMS[name].lmo(gradient(name, case, dtype))
    low, high = oracle(name).band
    for radius in (1.0, 3.0):
        assert low - rounding(dtype) <= oracle(name).norm(dense(radius * s)) / radius <= high + rounding(dtype)
    assert s.dtype == dtype


@for_every_dtype
@for_every_case
def test_lmo_attains_minus_the_dual_norm(name, case, dtype):
    g = gradient(name, case, dtype)
    attained = -float((g.double() * NORMS[name].lmo(g).double()).sum()) / oracle(name).dual(dense(g))
    low, high = oracle(name).band
    assert low - rounding(dtype) <= attained <= high + rounding(dtype)


@for_every_case
def test_no_feasible_point_beats_the_dual_norm(name, case):
    g = gradient(name, case)
    rng = np.random.default_rng(8)
    best = dense(NORMS[name].lmo(g))
    # points all over the ball, and points around the minimizer, where a wrong one would be beaten first
    points = [rng.normal(size=g.shape) for _ in range(100)]
    points += [best + 10 ** rng.uniform(-4, 0) * np.abs(best).max() * rng.normal(size=g.shape) for _ in range(100)]
    lowest = min(float((dense(g) * point).sum()) / oracle(name).norm(point) for point in points)
    dual = float(NORMS[name].dual(g))
    assert lowest >= -dual * (1 + rounding(torch.float64))
    assert lowest <= -0.5 * dual  # the points were good enough to have found a violation


@for_every_dtype
@for_every_case
def test_zero_gradient_gives_exact_zero(name, case, dtype):
    zero = torch.zeros_like(gradient(name, case, dtype))
    s = NORMS[name].lmo(zero)
    assert torch.equal(s, zero)  # NaN would not be equal
    assert float(NORMS[name].norm(zero)) == 0
    assert float(NORMS[name].dual(zero)) == 0


@pytest.mark.parametrize("exponent", [-100, 100], ids=["tiny", "huge"])  # 2^±100 is about 1e±30
@for_every_dtype
@for_every_case
def test_direction_does_not_depend_on_the_gradient_scale(name, case, dtype, exponent):
    g = gradient(name, case, dtype)
    # a power of two scales without rounding, so what differs is the LMO's own arithmetic
    s, scaled = NORMS[name].lmo(g), NORMS[name].lmo(g * 2.0**exponent)
    assert torch.allclose(s, scaled, rtol=0, atol=rounding(dtype) * float(s.abs().max()))


@for_every_case
def test_initialization_lies_on_the_ball_and_follows_its_generator(name, case):
    shape = gradient(name, case).shape
    first, again, other = (NORMS[name].init(shape, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == shape
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    size = oracle(name).norm(dense(first))
    if NORMS[name].ndim == 1:
        assert size <= 1  # biases start inside
    else:
        assert size == pytest.approx(1, rel=rounding(torch.float32))
        assert first.numel() == 1 or not torch.equal(first, other)


@for_every_norm
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_lmo_is_feasible_and_descends_for_any_finite_gradient(name, data):
    ndim = NORMS[name].ndim
    # entries of any magnitude side by side, subnormal ones included
    entries = st.floats(-(2.0**100), 2.0**100, width=32)
    g = torch.from_numpy(data.draw(arrays(np.float32, array_shapes(min_dims=ndim, max_dims=ndim), elements=entries)))
    s = NORMS[name].lmo(g)
    assert torch.isfinite(s).all()
    assert oracle(name).norm(dense(s)) <= oracle(name).band[1] + rounding(torch.float32)
    assert float((g.double() * s.double()).sum()) <= rounding(torch.float32) * float(g.abs().max())


def with_condition(shape: tuple[int, int], condition: float, dtype: torch.dtype) -> torch.Tensor:
    rng = np.random.default_rng(9)
    u, _, vh = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    return torch.from_numpy(u @ np.diag(np.geomspace(1, 1 / condition, min(shape))) @ vh).to(dtype)


@pytest.mark.parametrize("condition", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8), (1, 5), (24, 20)])
@for_every_dtype
def test_newton_schulz_singular_values_lie_in_the_band(shape, condition, dtype):
    # at these ranks condition 100 leaves the smallest value, after Frobenius normalization, above 2e-3
    values = torch.linalg.svdvals(newton_schulz(with_condition(shape, condition, dtype)))
    assert BAND[0] <= float(values.min())
    assert float(values.max()) <= BAND[1]


def test_newton_schulz_scalar_recursion_stays_in_the_band():
    a, b, c = COEFFICIENTS
    s = np.geomspace(2e-3, 1, 200_001)
    for _ in range(STEPS):
        s = a * s + b * s**3 + c * s**5
    assert BAND[0] <= s.min()
    assert s.max() <= BAND[1]


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (6, 6)])
def test_newton_schulz_commutes_with_transposition(shape):
    g = torch.from_numpy(np.random.default_rng(1).normal(size=shape))
    # a square matrix uses the other Gram matrix: equal up to rounding, which five steps amplify at most 500 times
    assert torch.allclose(newton_schulz(g.mT), newton_schulz(g).mT, rtol=0, atol=1e-12)


def test_newton_schulz_treats_a_batch_as_separate_matrices():
    batch = torch.from_numpy(np.random.default_rng(2).normal(size=(3, 2, 7, 5)))
    batch[1, 1] *= 1e6  # one member's scale must not leak into the others
    together = newton_schulz(batch)
    for i, j in np.ndindex(3, 2):
        assert torch.allclose(together[i, j], newton_schulz(batch[i, j]), rtol=0, atol=1e-12)  # as above


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**-20, 2.0**100])
def test_newton_schulz_ignores_the_scale(scale):
    g = with_condition((8, 12), 10, torch.float32)
    assert torch.equal(newton_schulz(scale * g), newton_schulz(g))  # powers of two divide out exactly


@pytest.mark.parametrize("rank", [1, 3, 5])
@for_every_dtype
def test_polar_is_exact_and_leaves_missing_directions_at_zero(rank, dtype):
    rng = np.random.default_rng(3)
    u, _ = np.linalg.qr(rng.normal(size=(8, rank)))
    v, _ = np.linalg.qr(rng.normal(size=(5, rank)))
    g = torch.from_numpy(u @ np.diag(np.linspace(1, 2, rank)) @ v.T).to(dtype)
    expected = torch.from_numpy(u @ v.T).to(dtype)
    assert torch.allclose(polar(g), expected, rtol=0, atol=rounding(dtype))
    assert torch.allclose(polar(g.mT), expected.mT, rtol=0, atol=rounding(dtype))
