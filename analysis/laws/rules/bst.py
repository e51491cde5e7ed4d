"""The BST rule, the square-root rule beside it, and no change. With κ(B): `analysis.laws.kappa`."""

from analysis.laws.rules.base import Anchored, Certainty

BST_SOURCE = "Islamov et al., arXiv 2603.21191, Corollary 4.1"


def bst(mu_ratio: float = 1.0, l_ratio: float = 1.0, kappa_ratio: float = 1.0) -> Anchored:
    """The rule B₁S₁ = B₀S₀ (r (μ₁/μ₀)(κ₁/κ₀)/(L₁/L₀))^(2/3), lr₁ = lr₀ (B₁S₁/B₀S₀)/r of `BST_SOURCE`.

    Each ratio is the constant of the large run over that of the base, without unit and 1 by default: `mu_ratio` of μ,
    `l_ratio` of the smoothness L, `kappa_ratio` of κ, where κσ⋆/√(B·S) is the noise of a gradient in the dual norm.
    """
    return Anchored(
        name="bst",
        title="B·S ∝ T^(2/3), lr ∝ B·S/T",
        source=BST_SOURCE,
        certainty=Certainty.READ,
        batch_exponent=2 / 3,
        tokens_exponent=-1,
        lr_batch_exponent=1,
        constants=mu_ratio * kappa_ratio / l_ratio,
    )


def square_root(mu_ratio: float = 1.0, l_ratio: float = 1.0, kappa_ratio: float = 1.0) -> Anchored:
    """The batch of `bst` with the square-root rule for the learning rate: lr ∝ √(B·S) at fixed T.

    `mu_ratio`, `l_ratio` and `kappa_ratio` are those of `bst`.
    """
    return Anchored(
        name="sqrt",
        title="B·S ∝ T^(2/3), lr ∝ √(B·S)",
        source="Krizhevsky, arXiv 1404.5997; Malladi et al., arXiv 2205.10287",
        note="the square-root rule is one at fixed T and says nothing about T itself",
        certainty=Certainty.SEEN,
        batch_exponent=2 / 3,
        tokens_exponent=0,
        lr_batch_exponent=1 / 2,
        constants=mu_ratio * kappa_ratio / l_ratio,
    )


NO_CHANGE = Anchored(
    name="no-change",
    title="same batch, same lr",
    source="Yang et al., arXiv 2203.03466: what μP advises when only T grows",
    certainty=Certainty.READ,
    batch_exponent=0,
    tokens_exponent=0,
    lr_batch_exponent=0,
)
