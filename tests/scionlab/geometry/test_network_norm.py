"""The norm of a whole network against dense float64 oracles, and the norm that a recipe's balls make."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import ORACLES

from scionlab.errors import UserError
from scionlab.geometry import NORMS, Layer, NetworkNorm
from scionlab.geometry.orthogonalize import BAND
from scionlab.optim import OPTIMIZERS, LmoRecipe, geometry, recipe
from scionlab.optim.recipes.conditional import network_norm
from scionlab.problems.models.gpt import GPT, GPTConfig
from scionlab.roles.roles import assign_roles
from scionlab.spec import Trial

# float64 sums of at most a few hundred products, and SVDs of matrices this small, lose less than that
ROUNDING = 1e-12

# name, radius, layout, stored shape: every norm, both layouts, radii that matter, vectors among matrices and kernels
PARTS = [
    ("column", 0.5, "in_out", (11, 6)),
    ("spectral-exact", 3.0, "out_in", (8, 6)),
    ("spectral-exact", 0.25, "in_out", (6, 9)),
    ("column-dense", 2.0, "out_in", (5, 4)),
    ("bias", 1.0, "out_in", (8,)),
    ("row", 7.0, "out_in", (4, 5)),
    ("sign", 64.0, "out_in", (11, 6)),
    ("sign-onehot", 1.5, "in_out", (3, 7)),
    ("bias-max", 0.1, "in_out", (5,)),
    ("spectral-max-exact", 2.0, "in_out", (7, 3)),
    ("euclidean", 0.5, "in_out", (4, 6)),
    ("euclidean-vector", 4.0, "out_in", (6,)),
    ("conv-exact", 0.5, "in_out", (3, 5, 3, 2)),
    ("conv-max-exact", 3.0, "out_in", (4, 6, 2, 2)),
    ("spectral", 1.0, "out_in", (4, 4)),
    ("spectral-max", 0.5, "in_out", (4, 4)),
    ("conv", 2.0, "out_in", (5, 3, 3, 3)),
    ("conv-max", 1.0, "out_in", (3, 4, 3, 3)),
    ("conv1d", 8.0, "in_out", (4, 3, 2)),
    ("conv3d", 1.0, "out_in", (3, 2, 2, 1, 3)),
]
EXACT = [part for part in PARTS if ORACLES[part[0]].band == (1, 1)]  # whose LMO is exact
BATCHED = {1: (5,), 2: (5, 4), 3: (5, 4, 2), 4: (5, 4, 2, 2), 5: (5, 4, 2, 1, 2)}


def network(parts=EXACT) -> NetworkNorm:
    return NetworkNorm(tuple(Layer(NORMS[name], radius, layout) for name, radius, layout, _ in parts))


def randn(parts=EXACT, seed: int = 0, batch: tuple[int, ...] = ()) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*batch, *shape, generator=generator, dtype=torch.float64) for *_, shape in parts]


def dense(tensor: torch.Tensor, layout: str) -> np.ndarray:
    stored = tensor.numpy()
    return stored.swapaxes(0, 1) if layout == "in_out" and stored.ndim > 1 else stored


def oracle_norm(tensors, parts=EXACT) -> float:
    pairs = zip(parts, tensors, strict=True)
    return max(ORACLES[name].norm(dense(x, layout)) / radius for (name, radius, layout, _), x in pairs)


def oracle_dual(tensors, parts=EXACT) -> float:
    pairs = zip(parts, tensors, strict=True)
    return sum(radius * ORACLES[name].dual(dense(g, layout)) for (name, radius, layout, _), g in pairs)


def inner(one, other) -> float:
    return float(sum((a * b).sum() for a, b in zip(one, other, strict=True)))


def test_all_norms_are_among_the_parts():
    assert {name for name, *_ in PARTS} == set(NORMS), "add a part with the new norm"


@pytest.mark.parametrize("seed", range(5))
def test_norm_is_the_largest_and_dual_the_sum_of_the_layers(seed):
    x = randn(PARTS, seed)
    assert float(network(PARTS).norm(x)) == pytest.approx(oracle_norm(x, PARTS), rel=ROUNDING)
    assert float(network(PARTS).dual(x)) == pytest.approx(oracle_dual(x, PARTS), rel=ROUNDING)


@pytest.mark.parametrize("part", PARTS, ids=[name for name, *_ in PARTS])
def test_a_network_of_one_layer_is_that_layer(part):
    x = randn([part])
    for found, oracle in ((network([part]).norm(x), oracle_norm), (network([part]).dual(x), oracle_dual)):
        assert float(found) == pytest.approx(oracle(x, [part]), rel=ROUNDING)


@pytest.mark.parametrize("seed", range(5))
def test_lmo_lies_on_the_sphere_in_every_layer_and_attains_minus_the_dual(seed):
    g = randn(seed=seed)
    s = network().lmo(g)
    assert [x.shape for x in s] == [x.shape for x in g]
    assert inner(g, s) == pytest.approx(-oracle_dual(g), rel=ROUNDING)
    assert oracle_norm(s) == pytest.approx(1, rel=ROUNDING)
    for part, x in zip(EXACT, s, strict=True):  # every layer uses up its ball
        assert oracle_norm([x], [part]) == pytest.approx(1, rel=ROUNDING)


def test_a_zero_layer_stays_at_zero_and_the_others_make_the_norm():
    g = randn()
    g[1].zero_()
    s = network().lmo(g)
    assert not s[1].any()
    assert float(network().norm(s)) == pytest.approx(1, rel=ROUNDING)
    nothing = [torch.zeros_like(x) for x in g]
    assert not any(x.any() for x in network().lmo(nothing))
    assert (float(network().norm(nothing)), float(network().dual(nothing))) == (0, 0)


scales = st.lists(st.floats(-8, 8), min_size=len(PARTS), max_size=len(PARTS))


def scaled(seed: int, exponents) -> list[torch.Tensor]:
    return [2.0**e * x for e, x in zip(exponents, randn(PARTS, seed), strict=True)]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), scales, scales)
def test_hoelder_holds_whatever_the_layers_weigh(seed, first, second):
    g, x = scaled(seed, first), scaled(seed + 1, second)
    norm = network(PARTS)
    assert abs(inner(g, x)) <= float(norm.dual(g) * norm.norm(x)) * (1 + ROUNDING)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), scales, scales, st.floats(-100, 100))
def test_norm_and_dual_are_norms(seed, first, second, factor):
    x, y = scaled(seed, first), scaled(seed + 1, second)
    norm = network(PARTS)
    for measure in (norm.norm, norm.dual):
        together = float(measure([a + b for a, b in zip(x, y, strict=True)]))
        assert together <= float(measure(x) + measure(y)) * (1 + ROUNDING)
        assert float(measure([factor * a for a in x])) == pytest.approx(abs(factor) * float(measure(x)), rel=ROUNDING)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), scales, st.sampled_from(range(len(EXACT))), st.floats(0.1, 10))
def test_a_larger_radius_shrinks_the_norm_and_widens_the_dual(seed, exponents, index, factor):
    x = scaled(seed, exponents)[: len(EXACT)]
    name, radius, layout, shape = EXACT[index]
    larger = [*EXACT[:index], (name, radius * (1 + factor), layout, shape), *EXACT[index + 1 :]]
    assert network(larger).norm(x) <= network().norm(x)
    assert network(larger).dual(x) > network().dual(x)


@pytest.mark.parametrize("batch", [(3,), (2, 3)])
@pytest.mark.parametrize("name", NORMS)
def test_every_norm_measures_the_members_of_a_batch_each_on_its_own(name, batch):
    x = randn([(name, 1.0, "out_in", BATCHED[NORMS[name].ndim])], batch=batch)[0]
    for measure in (NORMS[name].norm, NORMS[name].dual):
        found = measure(x)
        assert found.shape == batch
        for index in np.ndindex(*batch):
            assert float(found[index]) == pytest.approx(float(measure(x[index])), rel=ROUNDING)


def test_a_network_measures_the_members_of_a_batch_each_on_its_own():
    x, norm = randn(PARTS, batch=(4,)), network(PARTS)
    s = norm.lmo(x)
    for member in range(4):
        alone = [part[member] for part in x]
        assert float(norm.norm(x)[member]) == pytest.approx(float(norm.norm(alone)), rel=ROUNDING)
        assert float(norm.dual(x)[member]) == pytest.approx(float(norm.dual(alone)), rel=ROUNDING)
        for part, expected in zip(s, norm.lmo(alone), strict=True):
            # Newton-Schulz amplifies float64 rounding at most 500 times
            assert torch.allclose(part[member], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", NORMS)
def test_what_is_not_finite_shows_in_its_own_number_and_raises_nothing(name, value):
    x = randn([(name, 1.0, "out_in", BATCHED[NORMS[name].ndim])], batch=(3,))[0]
    x[1, 0] = value
    for measure in (NORMS[name].norm, NORMS[name].dual):
        assert measure(x).isfinite().tolist() == [True, False, True]


REFUSED = {
    "zero radius": (lambda: Layer(NORMS["row"], 0.0), r"radius: 0\.0 is not allowed"),
    "infinite radius": (lambda: Layer(NORMS["row"], float("inf")), "radius: inf"),
    "NaN radius": (lambda: Layer(NORMS["row"], float("nan")), "radius: nan"),
    "unknown layout": (lambda: Layer(NORMS["row"], layout="inout"), "layout: 'inout' .* 'in_out'"),
    "no layers": (lambda: NetworkNorm(()), "layers: .* at least one"),
    "too few tensors": (
        lambda: network().dual(randn()[1:]),
        rf"tensors: {len(EXACT) - 1} are not allowed: the norm has {len(EXACT)} layers",
    ),
}


@pytest.mark.parametrize(("ask", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_what_has_no_norm(ask, message):
    with pytest.raises(UserError, match=message):
        ask()


def claims(tied: bool = False):
    return assign_roles(GPT(GPTConfig(width=32, depth=1, tied=tied)))


def trial(name: str, **options) -> Trial:
    return Trial(optimizer=name, lr=2**-6, width=32, options=options)


def chosen(name: str, **options):
    return recipe(trial(name, **options))


@pytest.mark.parametrize("tied", [False, True])
def test_the_norm_of_a_scion_recipe_is_made_of_its_groups(tied):
    method = chosen("scion", radius_hidden=5.0, norm_hidden="row", radius_output=10.0)
    found = network_norm(claims(tied), method).layers
    (optimizer,) = method.optimizers(claims(tied), 0.1, 0.1, 32)
    assert [(layer.norm, layer.radius, layer.layout) for layer in found] == [
        (NORMS[group["norm"]], group["radius"], group["layout"]) for group in optimizer.param_groups
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_methods_are_measured_in_their_own_balls_or_else_in_scions_default_ones(name):
    measured = chosen(name if isinstance(chosen(name), LmoRecipe) else "scion")
    assert network_norm(claims(), geometry(trial(name))) == network_norm(claims(), measured)


def test_some_methods_have_balls_and_others_do_not():
    assert {name for name in OPTIMIZERS if not isinstance(chosen(name), LmoRecipe)} >= {"adam", "muon"}
    assert isinstance(chosen("uscion"), LmoRecipe)


def test_a_step_of_unconstrained_scion_has_the_norm_of_its_rate():
    found, method = claims(), chosen("uscion")
    method.initialize(found, torch.Generator().manual_seed(0))
    (optimizer,) = method.optimizers(found, 0.25, 0.1, 32)
    generator = torch.Generator().manual_seed(1)
    before = [claim.parameter.detach().clone() for claim in found]
    for claim in found:
        claim.parameter.grad = torch.randn(claim.parameter.shape, generator=generator)
    optimizer.step()
    moved = [claim.parameter.detach() - start for claim, start in zip(found, before, strict=True)]
    # the exact layers move by the rate up to float32 rounding of weights about as large as the step; Newton-Schulz's
    # by up to its band
    size = float(network_norm(found, method).norm(moved))
    assert 1 - 1e-5 <= size / 0.25 <= BAND[1] + 1e-5
