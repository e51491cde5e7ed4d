"""Orthogonalization: the polar factor U Vᵀ of a matrix G = U Σ Vᵀ, and what else is done to singular values.

Two ways to the same object: `polar` is exact (SVD) and slow, `newton_schulz` is a fixed number of
matrix products and lands in a band around it. Tests hold the second against the first.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat

import torch
from torch import Tensor

from scionlab.errors import UserError, unknown

Triple = tuple[float, float, float]

# Coefficients and number of steps as published with Muon (Jordan et al., 2024). They trade convergence
# to 1 for speed away from 0: singular values end in a band, not at a point.
COEFFICIENTS: Triple = (3.4445, -4.7750, 2.0315)
STEPS = 5

# The band of singular values after STEPS steps, for inputs of moderate condition number: the scalar recursion maps
# [2e-3, 1] into [0.68, 1.21], and bfloat16 widens the lower end.
BAND = (0.65, 1.21)


@dataclass(frozen=True)
class Coefficients:
    """The polynomials ax + bx³ + cx⁵ of successive steps; the last one goes on for ever.

    `margin` ≥ 1 divides the input, beyond its Frobenius norm: room for rounding above 1, where a polynomial made for
    [0, 1] may grow.
    """

    triples: tuple[Triple, ...]
    margin: float = 1.0

    def first(self, steps: int) -> list[Triple]:
        """One triple for each of `steps` steps."""
        return list(islice(chain(self.triples, repeat(self.triples[-1])), steps))


# Algorithm 1 of the Polar Express (Amsel et al., arXiv 2505.16932): each polynomial of degree 5 is the one closest to 1
# on the interval [l, u] that the steps before it leave of [1e-3, 1], with l raised to 0.024 u where it is below, and
# then scaled so that the ends of the true interval map to equal distances from 1. The published code divides the
# arguments of all but the last by 1.01, and the input once more, so that rounding in bfloat16 does not leave the
# interval. The steps belong together: stopped before the fifth, singular values lie up to 2.
_POLAR_EXPRESS: tuple[Triple, ...] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)
_MARGIN = 1.01
_TAYLOR: Triple = (15 / 8, -10 / 8, 3 / 8)

# By name: "muon" is the default; "taylor" the classical quintic, from the Taylor series of x·(x²)^(−1/2) around 1,
# which converges to 1 from everywhere in (0, 1], slowly near 0 (Björck & Bowie, 1971; Kovarik, 1970).
COEFFICIENT_SETS: Mapping[str, Coefficients] = {
    "muon": Coefficients((COEFFICIENTS,)),
    "taylor": Coefficients((_TAYLOR,)),
    "polar-express": Coefficients(
        (*((a / _MARGIN, b / _MARGIN**3, c / _MARGIN**5) for a, b, c in _POLAR_EXPRESS), _TAYLOR), _MARGIN
    ),
}

# Gram form takes 4 products of (m, m) a step in place of one and two of (m, n): fewer operations where n > 1.5 m. On a
# CPU it is faster from three times as wide and 64 rows on (docs/performance.md).
GRAM_ASPECT, GRAM_ROWS = 3, 64
# Of a number's digits, those that rounding may take from the smallest singular values before the Gram matrix is found
# anew. A third lets float32 take three of Muon's steps in a row, as exactly as one by one (tests), and bfloat16 none.
GRAM_DIGITS = 1 / 3

# "auto" is bfloat16 on CUDA and the input's own elsewhere.
DTYPES: Mapping[str, torch.dtype | None] = {
    "auto": None,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


@dataclass(frozen=True)
class NewtonSchulz:
    """Options of the iteration: how many steps, which of `COEFFICIENT_SETS`, and the precision of its products.

    Called with a matrix (..., m, n), gives `newton_schulz` of it. Raises UserError for values out of range.
    """

    steps: int = STEPS
    coefficients: str = "muon"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 1:
            raise UserError(
                f"steps: {self.steps!r} is not allowed: Newton-Schulz takes a whole number of steps, from 1 on"
            )
        if self.coefficients not in COEFFICIENT_SETS:
            raise unknown("coefficients", str(self.coefficients), COEFFICIENT_SETS)
        if self.dtype not in DTYPES:
            raise unknown("dtype", str(self.dtype), DTYPES)

    def __call__(self, matrix: Tensor) -> Tensor:
        return newton_schulz(matrix, self.steps, COEFFICIENT_SETS[self.coefficients], DTYPES[self.dtype])


DEFAULT = NewtonSchulz()


def newton_schulz(
    matrix: Tensor,
    steps: int = STEPS,
    coefficients: Coefficients = COEFFICIENT_SETS["muon"],
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Approximate polar factor U S' Vᵀ with S' in a band around 1 (`BAND`), by the quintic Newton-Schulz iteration.

    X ← aX + b(XXᵀ)X + c(XXᵀ)²X from X = G/‖G‖_F. Shape (..., m, n) in and out. The products run in `dtype`; by default
    in bfloat16 on CUDA, elsewhere in the input's own precision. Published code adds 1e-7 to the Frobenius norm, which
    would make the result depend on the gradient's scale; here only an exact zero is special, and stays zero.
    """
    x = matrix.to(dtype or (torch.bfloat16 if matrix.is_cuda else matrix.dtype))
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = unit(x, dim=(-2, -1))
    if coefficients.margin != 1:
        x = x / coefficients.margin
    x = x.reshape(-1, *x.shape[-2:]) if x.ndim > 3 else x  # fused products know one batch dimension
    x = apply_quintics(x, coefficients.first(steps))
    if tall:
        x = x.mT
    return x.to(matrix.dtype).view(matrix.shape)


def apply_quintics(x: Tensor, triples: Sequence[Triple]) -> Tensor:
    """X ← aX + b(XXᵀ)X + c(XXᵀ)²X for every (a, b, c), X one matrix (m, n) or a batch (k, m, n), best with m ≤ n.

    Where n ≥ 3m, steps in a row are one factor (`_by_gram`): the same sums in another order, in fewer products.
    """
    rows, columns = x.shape[-2:]
    if rows < GRAM_ROWS or columns < GRAM_ASPECT * rows:
        return _directly(x, triples)
    for run in _runs(triples, torch.finfo(x.dtype).eps):
        x = _by_gram(x, run) if len(run) > 1 else _directly(x, run)
    return x


def _products(x: Tensor) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """A product, and one with a sum, of matrices or of batches of them."""
    return (torch.mm, torch.addmm) if x.ndim == 2 else (torch.bmm, torch.baddbmm)


def _directly(x: Tensor, triples: Iterable[Triple]) -> Tensor:
    product, add_product = _products(x)
    for a, b, c in triples:
        gram = product(x, x.mT)
        polynomial = add_product(gram, gram, gram, beta=b, alpha=c)  # bA + cA² with A = XXᵀ
        x = add_product(x, polynomial, x, beta=a)
    return x


def _by_gram(x: Tensor, triples: Sequence[Triple]) -> Tensor:
    """With P = aI + bA + cA² a step is X ← PX, A ← PAP; all P and A commute, so X meets their product once."""
    product, add_product = _products(x)

    def polynomial(gram: Tensor, triple: Triple) -> Tensor:
        a, b, c = triple
        of_gram = add_product(gram, gram, gram, beta=b, alpha=c)
        of_gram.diagonal(dim1=-2, dim2=-1).add_(a)
        return of_gram

    gram = product(x, x.mT)
    factor = step = polynomial(gram, triples[0])
    for triple in triples[1:]:
        gram = product(product(step, gram), step)
        step = polynomial(gram, triple)
        factor = product(step, factor)
    return product(factor, x)


def _runs(triples: Iterable[Triple], epsilon: float) -> list[list[Triple]]:
    """Steps in a row that share a Gram matrix, as many as keep `GRAM_DIGITS`; `epsilon` is the dtype's.

    Near a singular value of 0, A ← PAP multiplies what rounding added to A by a².
    """
    runs: list[list[Triple]] = []
    growth = math.inf  # the first step begins a run
    for triple in triples:
        if growth > epsilon**-GRAM_DIGITS:
            runs.append([])
            growth = 1.0
        runs[-1].append(triple)
        growth *= triple[0] ** 2
    return runs


def polar(matrix: Tensor) -> Tensor:
    """Exact polar factor U Vᵀ of the reduced SVD (..., m, n); directions with a zero singular value stay zero."""
    return with_singular_values(matrix, torch.ones_like)


def with_singular_values(matrix: Tensor, weights: Callable[[Tensor], Tensor]) -> Tensor:
    """U diag(weights(σ)) Vᵀ of the reduced SVD U diag(σ) Vᵀ (..., m, n); where σ is zero, the weight is not used.

    `weights` takes σ (..., min(m, n)), largest first, to the same shape. The cut-off for "zero" is numpy's: σ_max ·
    max(m, n) · machine epsilon. NaN for a matrix with an entry that is not finite.
    """
    clean, finite = _for_lapack(matrix)
    u, s, vh = torch.linalg.svd(clean, full_matrices=False)
    cutoff = s[..., :1] * max(matrix.shape[-2:]) * torch.finfo(s.dtype).eps
    product = (u * torch.where(s > cutoff, weights(s), 0).unsqueeze(-2)) @ vh
    return torch.where(finite[..., None, None], product, torch.nan).to(matrix.dtype)


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values (..., min(m, n)) of matrices (..., m, n); NaN for a matrix with an entry that is not finite."""
    clean, finite = _for_lapack(matrix)
    values = torch.linalg.svdvals(clean.mT if clean.shape[-2] < clean.shape[-1] else clean)  # tall takes half the time
    return torch.where(finite[..., None], values, torch.nan).to(matrix.dtype)


def _for_lapack(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices with those that are not finite replaced by zero, in a precision that LAPACK knows; which are finite.

    LAPACK would raise for the whole batch; a run that diverges should say so by its numbers.
    """
    finite = matrix.isfinite().all(-1).all(-1)
    clean = torch.where(finite[..., None, None], matrix, 0)
    return (clean.float() if clean.dtype in (torch.bfloat16, torch.float16) else clean), finite


def shares(sizes: Tensor, floor: float) -> Tensor:
    """min{1, size/(floor · largest)} of every part of a matrix (…, m, n): 1 but for parts below the floor.

    A part of an average that gets no gradient any more decays, and would keep an LMO's full length for ever: in float32
    it ends at a subnormal number, which does not decay. With a floor its share fades with it.
    """
    largest = sizes.amax((-2, -1), keepdim=True)
    return (sizes / (floor * largest).clamp(min=torch.finfo(sizes.dtype).tiny)).clamp(max=1)


def unit(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """`x` divided by its Euclidean norm over `dim`; where that norm is zero, zero.

    The largest entry is divided out first, so that squares neither underflow nor overflow; a zero or a subnormal one is
    replaced by the smallest normal number. NaN where an entry is not finite.
    """
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.abs().amax(dim=dim, keepdim=True).clamp(min=tiny)
    return x / torch.linalg.vector_norm(x, dim=dim, keepdim=True).clamp(min=tiny)
