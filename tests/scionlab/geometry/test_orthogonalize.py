"""Newton-Schulz and the exact polar factor, over shapes, condition numbers, steps, coefficients and precisions."""

import numpy as np
import pytest
import torch

from scionlab.errors import UserError
from scionlab.geometry import COEFFICIENT_SETS, NewtonSchulz
from scionlab.geometry.orthogonalize import (
    BAND,
    COEFFICIENTS,
    GRAM_ASPECT,
    GRAM_DIGITS,
    GRAM_ROWS,
    STEPS,
    apply_quintics,
    newton_schulz,
    polar,
    singular_values,
    with_singular_values,
)

DTYPES = {"float32": torch.float32, "float64": torch.float64}
for_every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES.keys())
SHAPES = [(16, 16), (8, 32), (32, 8), (1, 5), (24, 20), (64, 200), (256, 64)]  # the last two in Gram form
# Smallest singular value after division by the Frobenius norm, and the band that the iteration takes [that, 1] to. The
# scalar recursion on a fine grid has these extremes (0.682 and 1.202, 0.870 and 1.124, …), rounded outwards.
BANDS = {
    ("muon", 5): (2e-3, 0.68, 1.21),
    ("muon", 6): (1e-3, 0.68, 1.21),
    ("muon", 10): (1e-3, 0.68, 1.14),
    ("taylor", 5): (0.1, 0.995, 1.0),
    ("taylor", 10): (2e-3, 0.82, 1.0),
    ("taylor", 20): (1e-3, 1.0, 1.0),
    ("polar-express", 5): (2e-3, 0.87, 1.13),
    ("polar-express", 6): (1e-3, 0.993, 1.002),
    ("polar-express", 8): (1e-3, 1.0, 1.0),
    ("polar-express", 10): (1e-3, 1.0, 1.0),  # past its last published polynomial
}


def scalar(s: np.ndarray, name: str, steps: int) -> np.ndarray:
    """What the iteration does to a singular value of a matrix of Frobenius norm 1, in float64."""
    s = s / COEFFICIENT_SETS[name].margin
    for a, b, c in COEFFICIENT_SETS[name].first(steps):
        s = a * s + b * s**3 + c * s**5
    return s


def amplification(name: str, steps: int) -> float:
    """How much the steps can enlarge a perturbation near 0, where they are steepest."""
    return float(np.prod([a for a, _, _ in COEFFICIENT_SETS[name].first(steps)]))


def rounding(dtype: torch.dtype) -> float:
    # sums of at most 256 products, or an SVD of a matrix this small, lose less than 100 units in the last place
    return 100 * torch.finfo(dtype).eps


def decomposed(shape: tuple[int, int], condition: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, σ and Vᵀ of a random matrix, in float64: singular values from 1 down to 1/condition."""
    u, _, vh = np.linalg.svd(np.random.default_rng(9).normal(size=shape), full_matrices=False)
    return u, np.geomspace(1, 1 / condition, min(shape)), vh


def with_condition(shape: tuple[int, int], condition: float, dtype: torch.dtype) -> torch.Tensor:
    u, s, vh = decomposed(shape, condition)
    return torch.from_numpy(u * s @ vh).to(dtype)


@pytest.mark.parametrize("condition", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("shape", SHAPES)
@for_every_dtype
def test_singular_values_lie_in_the_default_band(shape, condition, dtype):
    # at these ranks condition 100 leaves the smallest value, after Frobenius normalization, above 2e-3
    values = torch.linalg.svdvals(newton_schulz(with_condition(shape, condition, dtype)))
    assert BAND[0] <= float(values.min())
    assert float(values.max()) <= BAND[1]


@pytest.mark.parametrize(("name", "steps"), BANDS)
def test_the_scalar_recursion_stays_in_its_band(name, steps):
    smallest, low, high = BANDS[name, steps]
    s = scalar(np.geomspace(smallest, 1, 100_001), name, steps)
    assert low - 1e-9 <= s.min()  # of bands that close at 1 the recursion is a few 1e-11 away
    assert s.max() <= high + 1e-9


@pytest.mark.parametrize("condition", [1.0, 30.0, 500.0])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "steps"), BANDS)
@for_every_dtype
def test_the_iteration_is_the_scalar_recursion_on_singular_values(name, steps, shape, condition, dtype):
    u, s, vh = decomposed(shape, condition)
    found = newton_schulz(torch.from_numpy(u * s @ vh).to(dtype), steps, COEFFICIENT_SETS[name]).double().numpy()
    normalized = s / np.linalg.norm(s)
    # an error grows as long as its singular value does, from 1e-3 or more to about 1
    error = rounding(dtype) * min(amplification(name, steps), 1e3)
    assert np.linalg.norm(found - u * scalar(normalized, name, steps) @ vh, 2) <= error
    smallest, low, high = BANDS[name, steps]
    if normalized.min() >= smallest:  # the distance to the exact factor is then the band's
        exact = polar(torch.from_numpy(u * s @ vh)).numpy()
        assert np.linalg.norm(found - exact, 2) <= max(1 - low, high - 1) + error + 1e-9


def one_by_one(x: torch.Tensor, triples: list[tuple[float, float, float]]) -> torch.Tensor:
    """Steps that share no Gram matrix."""
    for triple in triples:
        x = apply_quintics(x, [triple])
    return x


@for_every_dtype
@pytest.mark.parametrize("steps", [5, 9])
@pytest.mark.parametrize("condition", [1e1, 1e3, 1e5, 1e8])
@pytest.mark.parametrize("name", COEFFICIENT_SETS)
def test_steps_in_gram_form_are_as_exact_as_one_by_one(name, condition, steps, dtype):
    triples = COEFFICIENT_SETS[name].first(steps)
    u, s, vh = decomposed((GRAM_ROWS, GRAM_ASPECT * GRAM_ROWS), condition)
    s = s / np.linalg.norm(s)
    x = torch.from_numpy(np.stack([u * s @ vh, u * s @ vh[:, ::-1]]) / COEFFICIENT_SETS[name].margin)
    exact = torch.from_numpy(np.stack([u * scalar(s, name, steps) @ each for each in (vh, vh[:, ::-1])]))

    def error(found: torch.Tensor) -> float:
        return float(torch.linalg.matrix_norm(found.double() - exact, 2).max())

    # A run's Gram matrix may be off by so much, of which |b + 2cσ²| ≤ 5 makes an error of X. A run has two steps or
    # more, and later ones leave errors within the band about as they are.
    lost = 5 * torch.finfo(dtype).eps ** (1 - GRAM_DIGITS) * (steps // 2)
    assert error(apply_quintics(x.to(dtype), triples)) <= 2 * error(one_by_one(x.to(dtype), triples)) + lost


def test_half_precision_takes_no_two_steps_by_one_gram_matrix():
    x = with_condition((GRAM_ROWS, GRAM_ASPECT * GRAM_ROWS), 10, torch.float32)
    x, triples = (x / torch.linalg.matrix_norm(x)).bfloat16(), COEFFICIENT_SETS["muon"].first(STEPS)
    assert torch.equal(apply_quintics(x, triples), one_by_one(x, triples))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", COEFFICIENT_SETS)
def test_bfloat16_widens_the_band_by_its_rounding(name, shape):
    steps = {"muon": 5, "taylor": 20, "polar-express": 8}[name]
    found = NewtonSchulz(steps, name, "bfloat16")(with_condition(shape, 10.0, torch.float32))
    assert found.dtype == torch.float32
    values = torch.linalg.svdvals(found)
    _, low, high = BANDS[name, steps]
    # each of the last steps rounds its Gram matrix and its product, and slopes of up to 2 pass on the step before it
    slack = 8 * torch.finfo(torch.bfloat16).eps
    assert low - slack <= float(values.min())
    assert float(values.max()) <= high + slack


def best_quintic(low: float, high: float) -> np.ndarray:
    """a, b, c of the odd polynomial of degree 5 closest to 1 on [low, high], by Remez exchange."""
    points = np.array([low, (3 * low + high) / 4, (low + 3 * high) / 4, high])
    for _ in range(50):
        equations = np.stack([points, points**3, points**5, [1, -1, 1, -1]], axis=1)
        a, b, c, _ = np.linalg.solve(equations, np.ones(4))
        points[1:3] = np.sort(np.sqrt(np.roots([5 * c, 3 * b, a]).real))
    return np.array([a, b, c])


def test_polar_express_is_the_optimal_composition_it_is_published_as():
    margin = COEFFICIENT_SETS["polar-express"].margin
    low, high = 1e-3, 1.0
    for published in COEFFICIENT_SETS["polar-express"].first(7):
        best = best_quintic(max(low, 0.02407327424182761 * high), high)  # the constant of the authors' code
        ends = [float(best @ [x, x**3, x**5]) for x in (low, high)]
        best *= 2 / sum(ends)
        # the last interval is 6e-4 wide: its equations are ill-conditioned, and 1e-10 is what remains
        assert np.allclose(published * np.array([margin, margin**3, margin**5]), best, rtol=1e-9, atol=0)
        low = float(best @ [low, low**3, low**5])
        high = 2 - low


def test_taylor_is_the_series_of_the_inverse_root():
    a, b, c = COEFFICIENT_SETS["taylor"].triples[0]
    e = np.geomspace(1e-3, 1e-1, 20)  # x² = 1 − e, and (1 − e)^(−1/2) = 1 + e/2 + 3e²/8 + 5e³/16 + …
    remainder = (1 - e) ** -0.5 - (a + b * (1 - e) + c * (1 - e) ** 2)
    assert np.all((remainder / e**3 > 5 / 16) & (remainder / e**3 < 0.4))


def test_the_default_is_muons():
    assert COEFFICIENT_SETS["muon"].first(STEPS) == [COEFFICIENTS] * STEPS
    g = with_condition((8, 12), 10, torch.float32)
    assert torch.equal(NewtonSchulz()(g), newton_schulz(g))
    assert torch.equal(NewtonSchulz(STEPS, "muon", "float32")(g), newton_schulz(g))
    assert not torch.equal(NewtonSchulz(dtype="float64")(g), newton_schulz(g))


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
@pytest.mark.parametrize("name", COEFFICIENT_SETS)
def test_newton_schulz_ignores_the_scale(name, scale):
    g = with_condition((8, 12), 10, torch.float32)
    iterate = NewtonSchulz(coefficients=name)
    assert torch.equal(iterate(scale * g), iterate(g))  # powers of two divide out exactly


REFUSED = {
    "no steps": ({"steps": 0}, "steps: 0 is not allowed"),
    "half a step": ({"steps": 2.5}, r"steps: 2\.5 is not allowed"),
    "unknown set": ({"coefficients": "moun"}, "coefficients: 'moun' .* 'muon'"),
    "unknown precision": ({"dtype": "float16"}, "dtype: 'float16' is not known"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_options_that_do_not_exist(options, message):
    with pytest.raises(UserError, match=message):
        NewtonSchulz(**options)


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


def test_weights_replace_the_singular_values_and_zero_ones_stay():
    u, s, vh = decomposed((6, 4), 8.0)
    s[3] = 0
    found = with_singular_values(torch.from_numpy(u * s @ vh), lambda values: 2 + values.square()).numpy()
    assert np.allclose(found, u * [2 + s[0] ** 2, 2 + s[1] ** 2, 2 + s[2] ** 2, 0] @ vh, rtol=0, atol=1e-13)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_matrix_that_is_not_finite_gives_nan_and_leaves_the_rest_of_its_batch_alone(value):
    batch = torch.from_numpy(np.random.default_rng(2).normal(size=(3, 5, 4)))
    batch[1, 2, 3] = value
    for of_matrix in (polar, singular_values):
        found = of_matrix(batch)
        assert found[1].isnan().all()
        assert torch.equal(found[[0, 2]], of_matrix(batch[[0, 2]]))
    assert newton_schulz(batch)[1].isnan().any()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_decomposed_in_single_and_returned_as_it_came(half):
    g = with_condition((6, 4), 3.0, torch.float32).to(half)
    for of_matrix in (polar, singular_values):
        found = of_matrix(g)
        assert found.dtype == half
        assert torch.equal(found, of_matrix(g.float()).to(half))
