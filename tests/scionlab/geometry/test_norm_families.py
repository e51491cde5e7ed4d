"""What the geometries have to do with each other: the Schatten family, kernels and convolutions, norms by name."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d, pad, unfold

from scionlab.errors import UserError
from scionlab.geometry import NORMS, Conv, Schatten, norm_named

DTYPES = {"float32": torch.float32, "float64": torch.float64}
SHAPES = [(9, 4), (4, 9), (6, 6), (1, 7), (7, 1)]
for_every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())
for_every_shape = pytest.mark.parametrize("shape", SHAPES)


def randn(shape, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rounding(dtype: torch.dtype) -> float:
    # sums of at most 72 products, or an SVD of a matrix this small, lose less than 100 units in the last place
    return 100 * torch.finfo(dtype).eps


def agree(one, other, g: torch.Tensor, factor: float = 1.0) -> None:
    """`one` is `other` with the norm times `factor`."""
    close = {"rel": rounding(g.dtype)}
    assert float(one.norm(g)) == pytest.approx(factor * float(other.norm(g)), **close)
    assert float(one.dual(g)) == pytest.approx(float(other.dual(g)) / factor, **close)
    assert torch.allclose(one.lmo(g), other.lmo(g) / factor, rtol=0, atol=rounding(g.dtype) / factor)


@for_every_dtype
@for_every_shape
def test_schatten_2_is_euclidean(shape, dtype):
    agree(norm_named("schatten-2"), NORMS["euclidean"], randn(shape, dtype=dtype))


@for_every_dtype
@for_every_shape
def test_schatten_infinity_is_spectral(shape, dtype):
    g = randn(shape, dtype=dtype)
    agree(norm_named("schatten-mean-inf"), NORMS["spectral-exact"], g)
    agree(norm_named("schatten-inf"), NORMS["spectral-exact"], g, factor=math.sqrt(shape[0] / shape[1]))


@for_every_shape
@pytest.mark.parametrize("p", [1e2, 1e4, 1e8])
def test_a_large_p_approaches_infinity(shape, p):
    g = randn(shape)
    large, limit = Schatten(p), norm_named("schatten-inf")
    rank = min(shape)
    # σ_max ≤ ‖σ‖_p ≤ n^{1/p} σ_max, and the dual accordingly; r^{1/(p−1)} is within log(1/r)/(p − 1) of 1
    assert 0 <= float(large.norm(g) / limit.norm(g)) - 1 + 1e-14 <= rank ** (1 / p) - 1 + 2e-14
    assert -1e-14 <= 1 - float(large.dual(g) / limit.dual(g)) <= 1 - rank ** (-1 / p) + 1e-14
    values = torch.linalg.svdvals(g)
    distance = torch.linalg.matrix_norm(large.lmo(g) - limit.lmo(g), 2)
    assert float(distance) <= (math.log(float(values[0] / values[-1])) + math.log(rank)) / (p - 1) + rounding(g.dtype)


@for_every_dtype
@for_every_shape
def test_schatten_1_steps_along_the_top_singular_pair(shape, dtype):
    g = randn(shape, dtype=dtype)
    u, s, vh = np.linalg.svd(g.double().numpy())
    nuclear = norm_named("schatten-1")
    assert np.allclose(nuclear.lmo(g).double().numpy(), -np.outer(u[:, 0], vh[0]), rtol=0, atol=10 * rounding(dtype))
    assert float(nuclear.norm(g)) == pytest.approx(s.sum(), rel=rounding(dtype))
    assert float(nuclear.dual(g)) == pytest.approx(s[0], rel=rounding(dtype))


@pytest.mark.parametrize("excess", [1e-2, 1e-4, 1e-8, 2.0**-52])
@for_every_shape
def test_a_p_near_1_approaches_the_top_singular_pair(shape, excess):
    g = randn(shape)
    near, limit = Schatten(1 + excess), norm_named("schatten-1")
    values = torch.linalg.svdvals(g)
    others = float(values[1] / values[0]) ** (1 / excess) if len(values) > 1 else 0.0
    distance = torch.linalg.matrix_norm(near.lmo(g) - limit.lmo(g), 2)
    assert float(distance) <= min(shape) * others + rounding(g.dtype)
    assert float(near.norm(near.lmo(g))) == pytest.approx(1, rel=rounding(g.dtype))


def test_where_the_largest_value_is_shared_schatten_1_takes_one_pair():
    g = torch.eye(5, dtype=torch.float64)[:, :4]
    s = norm_named("schatten-1").lmo(g)
    assert int(torch.linalg.matrix_rank(s)) == 1
    assert float((g * s).sum()) == pytest.approx(-1)


powers = st.one_of(st.just(1.0), st.just(math.inf), st.floats(0, 40).map(lambda e: 1 + 2.0 ** (e - 20)))
seeds = st.integers(0, 10**6)


@settings(deadline=None, max_examples=150)
@given(p=powers, mean=st.booleans(), seed=seeds, shape=st.sampled_from(SHAPES), spread=st.integers(0, 100))
def test_schatten_keeps_the_contract_for_any_p(p, mean, seed, shape, spread):
    rng = np.random.default_rng(seed)
    scales = 2.0 ** rng.integers(-spread, spread + 1, size=shape[1])  # columns, and so singular values, far apart
    g, w = torch.from_numpy(rng.normal(size=shape) * scales), torch.from_numpy(rng.normal(size=shape))
    norm = Schatten(p, mean)
    s = norm.lmo(g)
    assert float(norm.norm(s)) == pytest.approx(1, rel=1e-12)
    assert float((g * s).sum()) == pytest.approx(-float(norm.dual(g)), rel=1e-12)
    assert abs(float((g * w).sum())) <= float(norm.dual(g) * norm.norm(w)) * (1 + 1e-12)


@settings(deadline=None, max_examples=100)
@given(low=powers, high=powers, seed=seeds, shape=st.sampled_from(SHAPES))
def test_the_norm_falls_with_p_and_its_mean_rises(low, high, seed, shape):
    low, high = sorted((low, high))
    w = randn(shape, seed)
    assert float(Schatten(low).norm(w)) >= float(Schatten(high).norm(w)) * (1 - 1e-12)
    assert float(Schatten(low, mean=True).norm(w)) <= float(Schatten(high, mean=True).norm(w)) * (1 + 1e-12)


@pytest.mark.parametrize("name", ["schatten-mean-1", "schatten-mean-2", "schatten-mean-7.5", "schatten-mean-inf"])
@for_every_shape
def test_means_agree_on_a_matrix_of_equal_singular_values(name, shape):
    start = NORMS["spectral"].init(shape, torch.Generator().manual_seed(0))
    assert float(norm_named(name).norm(start)) == pytest.approx(1, rel=rounding(torch.float32))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["schatten-1", "schatten-1.5", "schatten-4", "schatten-inf"])
def test_schatten_shows_what_is_not_finite_in_its_own_member(name, value):
    batch = randn((3, 5, 4))
    batch[1, 2, 3] = value
    norm = norm_named(name)
    for found in (norm.lmo(batch), norm.norm(batch), norm.dual(batch)):
        assert [bool(member.isnan().all()) for member in found] == [False, True, False]
        assert found[[0, 2]].isfinite().all()


@pytest.mark.parametrize("p", [0.99, -1.0, float("nan")])
def test_schatten_refuses_what_is_no_norm(p):
    with pytest.raises(UserError, match=r"p: .* \[1, inf\]"):
        Schatten(p)


def published_start(shape, seed: int = 0) -> torch.Tensor:
    """Every tap semi-orthogonal at the LMO's scale, as the published code leaves it."""
    c_out, c_in, *taps = shape
    generator = torch.Generator().manual_seed(seed)
    matrices = [
        torch.nn.init.orthogonal_(torch.empty(c_out, c_in), generator=generator) for _ in range(math.prod(taps))
    ]
    return torch.stack(matrices, -1).view(*shape) * math.sqrt(c_out / c_in) / math.prod(taps)


@pytest.mark.parametrize(("shape", "outside"), [((4, 6, 3, 3), 3), ((5, 5, 5, 5), 5), ((4, 6, 1, 1), 1)])
def test_the_published_start_lies_up_to_k_times_outside_the_ball(shape, outside):
    start = published_start(shape)
    assert float(NORMS["conv"].norm(start)) == pytest.approx(outside, rel=1e-5)
    # what is used is that start, brought back: its taps keep their proportions
    used = NORMS["conv"].init(shape, torch.Generator().manual_seed(0))
    assert torch.allclose(outside * used, start, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (3, 8, 3, 3), (6, 6, 3), (4, 2, 2, 2, 2)])
def test_every_tap_starts_semi_orthogonal_at_one_scale(shape):
    start = Conv(ndim=len(shape)).init(shape, torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(start.flatten(2).movedim(-1, 0))
    assert torch.allclose(values, values[0, 0], rtol=1e-5, atol=0)


def response(weight: torch.Tensor, size: int = 8) -> float:
    """RMS→RMS norm of the circular convolution on size × size images: its largest gain over all frequencies."""
    c_out, c_in = weight.shape[:2]
    frequencies = np.fft.fft2(weight.double().numpy(), s=(size, size))
    values = np.linalg.svd(frequencies.transpose(2, 3, 0, 1), compute_uv=False)
    return float(values.max() * math.sqrt(c_in / c_out))


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (3, 8, 3, 3), (6, 6, 5, 3), (5, 4, 1, 1)])
def test_a_kernel_of_norm_one_multiplies_images_by_at_most_one_over_the_root_of_its_taps(shape):
    norm, bound = NORMS["conv-exact"], math.prod(shape[2:]) ** -0.5
    equal = NORMS["spectral-exact"].init(shape[:2])[..., None, None].expand(shape)
    kernels = {"start": norm.init(shape), "step": norm.lmo(randn(shape)), "equal taps": equal / norm.norm(equal)}
    for kernel in kernels.values():
        assert float(norm.norm(kernel)) == pytest.approx(1, rel=1e-5)
        assert response(kernel) <= bound * (1 + 1e-5)
    assert response(kernels["equal taps"]) == pytest.approx(bound, rel=1e-5)
    # what is measured is PyTorch's convolution: no image gains more
    image, step = randn((1, shape[1], 8, 8)), kernels["step"]
    found = conv2d(pad(image, (0, shape[3] - 1, 0, shape[2] - 1), mode="circular"), step)
    assert found.shape[2:] == image.shape[2:]
    assert float(found.square().mean().sqrt() / image.square().mean().sqrt()) <= response(step) * (1 + 1e-12)


def test_kernels_are_read_as_the_matrix_that_multiplies_patches():
    kernel, image = randn((3, 4, 3, 3)), randn((1, 4, 6, 6), seed=1)
    expected = conv2d(image, kernel)
    assert torch.allclose((kernel.flatten(1) @ unfold(image, 3)).view_as(expected), expected)
    for name in ("sign-onehot", "euclidean", "spectral-exact", "schatten-4", "row"):
        found = norm_named(f"flat:{name}").lmo(kernel)
        assert torch.equal(found, norm_named(name).lmo(kernel.flatten(1)).view_as(kernel))


@pytest.mark.parametrize("suffix", ["", "-exact"])
@pytest.mark.parametrize("shape", [(8, 3), (3, 8)])
def test_a_kernel_of_one_tap_is_a_matrix(shape, suffix):
    g = randn(shape)
    for conv, matrix in (("conv" + suffix, "spectral" + suffix), ("conv-max" + suffix, "spectral-max" + suffix)):
        kernel = g[..., None, None]
        assert torch.equal(NORMS[conv].lmo(kernel), NORMS[matrix].lmo(g)[..., None, None])
        assert torch.equal(NORMS[conv].norm(kernel), NORMS[matrix].norm(g))
        assert torch.equal(NORMS[conv].dual(kernel), NORMS[matrix].dual(g))


@pytest.mark.parametrize("name", [*NORMS, "schatten-1", "schatten-2.5", "schatten-mean-inf", "flat:schatten-3"])
def test_a_name_always_gives_the_same_object(name):
    assert norm_named(name) is norm_named(name)
    assert norm_named(name) is NORMS.get(name, norm_named(name))


ITERATING = ["spectral", "spectral-max", "conv", "conv-max", "flat:spectral"]


@pytest.mark.parametrize("name", ITERATING)
def test_options_reach_the_iteration(name):
    g = randn((6, 4) if norm_named(name).ndim == 2 else (6, 4, 3, 3), dtype=torch.float32)
    exact = norm_named(f"{name}-exact").lmo(g)
    tight = norm_named(name, steps=20, coefficients="taylor", dtype="float64")
    assert tight is norm_named(name, steps=20, coefficients="taylor", dtype="float64")
    # 20 steps converge, and float64 leaves the rounding of the result
    assert torch.allclose(tight.lmo(g), exact, rtol=0, atol=1e-6)
    default = norm_named(name).lmo(g)
    assert torch.equal(norm_named(name, steps=5, coefficients="muon", dtype="auto").lmo(g), default)
    for option in ({"steps": 4}, {"coefficients": "polar-express"}, {"dtype": "bfloat16"}):
        assert not torch.equal(norm_named(name, **option).lmo(g), default)


REFUSED = {
    "unknown": ({"name": "spectrl"}, "norm: 'spectrl' .* 'spectral'.* flat:NAME, .* schatten-P, schatten-mean-P"),
    "no name": ({"name": None}, "norm: 'None' is not known"),
    "p below 1": ({"name": "schatten-0.5"}, r"norm: 'schatten-0\.5' is not allowed: P .* from 1 on, or inf"),
    "p is a word": ({"name": "schatten-two"}, "norm: 'schatten-two' is not allowed"),
    "p of the mean": ({"name": "schatten-mean--1"}, "norm: 'schatten-mean--1' is not allowed"),
    "flat of an unknown norm": ({"name": "flat:colum"}, "norm: 'colum' .* 'column'"),
    "flat of a vector norm": ({"name": "flat:bias"}, "flat: .* 1 dimensions is not allowed"),
    "flat of a flat norm": ({"name": "flat:flat:row"}, "flat: .* 4 dimensions is not allowed"),
    "steps of a norm without": ({"name": "sign", "steps": 3}, "steps, .* not allowed for norm 'sign'"),
    "steps of an exact norm": ({"name": "conv-exact", "steps": 3}, "not allowed for norm 'conv-exact'"),
    "steps of a flat exact norm": ({"name": "flat:schatten-3", "dtype": "auto"}, "not allowed for norm 'flat:schatten"),
    "no steps": ({"name": "spectral", "steps": 0}, "steps: 0 is not allowed"),
}


@pytest.mark.parametrize(("ask", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_names_and_options_without_a_norm(ask, message):
    with pytest.raises(UserError, match=message):
        norm_named(**ask)
