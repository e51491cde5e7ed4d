"""One contract for every norm, held against dense float64 oracles; what the norms have to do with each other."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from oracles import ORACLES, Oracle

from scionlab.geometry import NORMS, norm_named

# one name of every kind that has a parameter, and the ends of its range
PARAMETRIC = [
    *("schatten-1", "schatten-1.5", "schatten-2", "schatten-3", "schatten-8", "schatten-inf"),
    *("schatten-mean-2", "schatten-mean-4", "schatten-mean-inf"),
    *("flat:sign-onehot", "flat:euclidean", "flat:spectral", "flat:schatten-4"),
]
NAMES = [*NORMS, *PARAMETRIC]

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


def kernel(rng: np.random.Generator, c_out: int, c_in: int, size: int, ndim: int) -> np.ndarray:
    return rng.normal(size=(c_out, c_in, *(size,) * (ndim - 2)))


def kernels(ndim: int) -> dict[str, Callable[[np.random.Generator], np.ndarray]]:
    return {
        "narrowing": lambda rng: kernel(rng, 3, 5, 3, ndim),
        "widening": lambda rng: kernel(rng, 8, 3, 3, ndim),
        "more-channels-than-entries": lambda rng: kernel(rng, 12, 1, 2, ndim),
        "one-tap-narrowing": lambda rng: kernel(rng, 4, 6, 1, ndim),
        "one-tap-widening": lambda rng: kernel(rng, 6, 4, 1, ndim),
        "one-entry": lambda rng: kernel(rng, 1, 1, 1, ndim),
        "rank-2": lambda rng: np.tensordot(rng.normal(size=(5, 2)), kernel(rng, 2, 4, 3, ndim), 1),
        "zero-output": lambda rng: kernel(rng, 3, 2, 3, ndim) * np.array([1, 0, 1]).reshape(-1, *(1,) * (ndim - 1)),
        "zero-tap": lambda rng: kernel(rng, 3, 2, 3, ndim) * np.array([1, 0, 1]),
    }


SHAPES = {1: VECTORS, 2: MATRICES, 4: kernels(4)}
# signals and volumes differ from images in the number of their taps alone
SHAPES |= {n: {case: kernels(n)[case] for case in ("narrowing", "widening", "one-tap-widening")} for n in (3, 5)}


DTYPES = {"float32": torch.float32, "float64": torch.float64}
CASES = [(name, case) for name in NAMES for case in SHAPES[norm_named(name).ndim]]
for_every_case = pytest.mark.parametrize(("name", "case"), CASES)
for_every_norm = pytest.mark.parametrize("name", NAMES)
for_every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())


def oracle(name: str) -> Oracle:
    if name not in ORACLES:
        pytest.fail(f"the norm {name!r} of NORMS has no oracle: add its definition to tests/support/oracles.py")
    return ORACLES[name]


def gradient(name: str, case: str, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    make = SHAPES[norm_named(name).ndim][case]
    return torch.from_numpy(make(np.random.default_rng(7))).to(dtype)


def dense(x: torch.Tensor) -> np.ndarray:
    return x.double().numpy()


def rounding(dtype: torch.dtype) -> float:
    # sums of at most 648 products, or an SVD of a matrix this small, lose less than 100 units in the last place
    return 100 * torch.finfo(dtype).eps


def test_every_norm_has_an_oracle_and_every_oracle_a_norm():
    assert set(ORACLES) == set(NAMES), "add or remove the norm's definition in ORACLES"


@for_every_dtype
@for_every_case
def test_norm_and_dual_follow_their_definitions(name, case, dtype):
    g = gradient(name, case, dtype)
    assert float(norm_named(name).norm(g)) == pytest.approx(oracle(name).norm(dense(g)), rel=rounding(dtype))
    assert float(norm_named(name).dual(g)) == pytest.approx(oracle(name).dual(dense(g)), rel=rounding(dtype))


@for_every_dtype
@for_every_case
def test_lmo_lies_on_the_sphere_of_any_radius_and_attains_minus_the_dual_norm(name, case, dtype):
    g = gradient(name, case, dtype)
    s = norm_named(name).lmo(g)
    assert s.dtype == dtype
    low, high = oracle(name).band
    for radius in (1.0, 3.0):
        assert low - rounding(dtype) <= oracle(name).norm(dense(radius * s)) / radius <= high + rounding(dtype)
    attained = -float((g.double() * s.double()).sum()) / oracle(name).dual(dense(g))
    assert low - rounding(dtype) <= attained <= high + rounding(dtype)


@for_every_case
def test_no_feasible_point_beats_the_dual_norm(name, case):
    g = gradient(name, case)
    rng = np.random.default_rng(8)
    best = dense(norm_named(name).lmo(g))
    # points all over the ball, and points around the minimizer, where a wrong one would be beaten first
    points = [rng.normal(size=g.shape) for _ in range(100)]
    points += [best + 10 ** rng.uniform(-4, 0) * np.abs(best).max() * rng.normal(size=g.shape) for _ in range(100)]
    lowest = min(float((dense(g) * point).sum()) / oracle(name).norm(point) for point in points)
    dual = float(norm_named(name).dual(g))
    assert lowest >= -dual * (1 + rounding(torch.float64))
    assert lowest <= -0.5 * dual  # the points were good enough to have found a violation


@for_every_case
def test_zero_gradient_gives_exact_zero(name, case):
    norm = norm_named(name)
    for dtype in DTYPES.values():
        zero = torch.zeros_like(gradient(name, case, dtype))
        assert torch.equal(norm.lmo(zero), zero)  # NaN would not be equal
        assert (float(norm.norm(zero)), float(norm.dual(zero))) == (0, 0)


@for_every_dtype
@for_every_case
def test_direction_does_not_depend_on_the_gradient_scale(name, case, dtype):
    g = gradient(name, case, dtype)
    s = norm_named(name).lmo(g)
    for exponent in (-100, 100):  # 2^±100 is about 1e±30
        # a power of two scales without rounding, so what differs is the LMO's own arithmetic
        scaled = norm_named(name).lmo(g * 2.0**exponent)
        assert torch.allclose(s, scaled, rtol=0, atol=rounding(dtype) * float(s.abs().max()))


@for_every_case
def test_initialization_lies_on_the_ball_and_follows_its_generator(name, case):
    shape = gradient(name, case).shape
    first, again, other = (norm_named(name).init(shape, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == shape
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    size = oracle(name).norm(dense(first))
    if norm_named(name).ndim == 1:
        assert size <= 1  # biases start inside
    else:
        assert size == pytest.approx(1, rel=rounding(torch.float32))
        assert first.numel() == 1 or not torch.equal(first, other)


@for_every_norm
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_lmo_is_feasible_and_descends_for_any_finite_gradient(name, data):
    ndim = norm_named(name).ndim
    # entries of any magnitude side by side, subnormal ones included
    entries = st.floats(-(2.0**100), 2.0**100, width=32)
    g = torch.from_numpy(
        data.draw(
            arrays(
                np.float32, array_shapes(min_dims=ndim, max_dims=ndim, max_side=6 if ndim < 3 else 3), elements=entries
            )
        )
    )
    s = norm_named(name).lmo(g)
    assert torch.isfinite(s).all()
    assert oracle(name).norm(dense(s)) <= oracle(name).band[1] + rounding(torch.float32)
    assert float((g.double() * s.double()).sum()) <= rounding(torch.float32) * float(g.abs().max())
