import pytest

from analysis.laws.companions import CompleteP, Sizes, complete_p, matrix_lr
from scionlab.errors import UserError


def test_complete_p_at_the_base_and_beyond():
    assert complete_p(1, 1) == CompleteP(*[1.0] * 7)
    assert complete_p(4, 8) == CompleteP(1 / 8, 1 / 4, 1, 1 / 2, 1 / 4, 4, 1 / 32)
    half = complete_p(1, 16, exponent=0.5)
    assert (half.residual, half.hidden_lr, half.gain_lr, half.eps) == (1 / 4, 1 / 4, 1 / 4, 1 / 4)
    # Decay a step, lr·λ, does not depend on the size where a = 1.
    wide = complete_p(4, 8)
    assert wide.hidden_lr * wide.hidden_decay == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((0, 1), "width: 0 is not allowed"), ((1, -1), "depth: -1 is not"), ((1, 1, 2), "exponent: 2 is not allowed")],
)
def test_sizes_out_of_range_are_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        complete_p(*arguments)


def test_matrix_optimizers_are_one_family():
    sizes = Sizes(d_in=2, d_out=8, depth=3, blocks_in=1, blocks_out=1)
    assert matrix_lr("shampoo", sizes) == pytest.approx(matrix_lr("muon", sizes)) == pytest.approx(2)
    assert matrix_lr("shampoo", sizes, power=0) == matrix_lr("sgd", sizes) == 12
    assert matrix_lr("adam", sizes) == 1 / 2
    cut = Sizes(2, 8, 3, blocks_in=4)
    assert matrix_lr("soap", cut) == pytest.approx(1)
    assert matrix_lr("shampoo", cut) == pytest.approx(1)
    assert matrix_lr("normalized", cut) == 1
    with pytest.raises(UserError, match="optimizer: 'muno' is not known \\(did you mean 'muon'"):
        matrix_lr("muno", sizes)
