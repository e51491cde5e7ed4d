"""A floor under the norm of columns, rows and entries: parts below it get a step in proportion, others the same."""

import pytest
import torch
from torch import nn

from scionlab import Scion
from scionlab.errors import UserError
from scionlab.geometry import Layer, norm_named

FLOOR = 2**-10
NAMES = ("column", "column-dense", "row", "sign", "sign-onehot", "flat:column")


def example(name: str) -> torch.Tensor:
    shape = (6, 5, 2, 2) if name.startswith("flat") else (6, 5)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_above_the_floor_nothing_changes_bit_for_bit(name):
    grad = example(name).clamp(min=0.1)
    assert torch.equal(norm_named(name, floor=FLOOR).lmo(grad), norm_named(name).lmo(grad))
    assert not norm_named(name, floor=FLOOR).lmo(torch.zeros_like(grad)).any()
    assert norm_named(name, floor=0.0) is norm_named(name)


@pytest.mark.parametrize(("name", "part"), [("column", (slice(None), 2)), ("row", 2), ("sign", (2, 2))])
@pytest.mark.parametrize("share", [0.25, 2**-20])
def test_below_it_the_step_is_in_proportion(name, part, share):
    grad = example(name).sign() * 4.0
    full = norm_named(name).lmo(grad)
    grad[part] *= FLOOR * share
    found = norm_named(name, floor=FLOOR).lmo(grad)
    assert torch.allclose(found[part], full[part] * share, rtol=1e-6, atol=0)
    found[part] = full[part]
    assert torch.equal(found, full)


def test_every_member_of_a_stack_has_a_largest_part_of_its_own():
    stack = torch.stack([example("column"), 1e-6 * example("column")])
    norm = norm_named("column", floor=1e-4)
    assert torch.equal(norm.lmo(stack)[1], norm.lmo(stack[1]))
    assert torch.equal(Layer(norm, batch=1).lmo(stack), norm.lmo(stack))


@pytest.mark.parametrize("norm", ["column", "sign-onehot"])
def test_a_row_whose_token_stops_appearing_comes_to_rest(norm):
    """One gradient for row 0, then only row 1 has any; without a floor row 0 moves at full length for ever."""
    lengths = {}
    for floor in (0.0, 1e-8):
        weight = nn.Parameter(torch.zeros(2, 4))
        options = {"norm_options": {"floor": floor}} if floor else {}
        optimizer = Scion([weight], lr=2**-8, norm=norm, layout="in_out", constrained=False, **options)
        for step in range(2000):
            weight.grad = torch.tensor([[1e-4 * (step == 0)] * 4, [1e-4] * 4])
            optimizer.step()
        lengths[floor] = float(weight.detach()[0].square().mean().sqrt())
    assert lengths[0.0] == pytest.approx(2000 * 2**-8, rel=1e-3)
    assert lengths[1e-8] < 200 * 2**-8  # 0.9^175 is 1e-8


@pytest.mark.parametrize(
    ("name", "floor", "message"),
    [
        ("column", 1.0, r"floor: 1\.0 is not allowed: it must lie in \[0, 1\)"),
        ("column", -0.1, r"floor: -0\.1 is not allowed"),
        ("spectral", 1e-8, "floor: not allowed for norm 'spectral', which does not measure columns, rows or entries"),
        ("bias", 1e-8, "floor: not allowed for norm 'bias'"),
    ],
)
def test_refuses_a_floor_that_is_none(name, floor, message):
    with pytest.raises(UserError, match=message):
        norm_named(name, floor=floor)
