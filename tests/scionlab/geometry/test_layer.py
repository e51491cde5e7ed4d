"""A stored tensor as the norm reads it: every layout and number of blocks against doing it by hand."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from oracles import ORACLES

from scionlab.errors import UserError
from scionlab.geometry import LAYOUTS, NORMS, Layer, Norm, norm_named
from scionlab.geometry.orthogonalize import BAND

# float64 sums of at most a few hundred products, and SVDs of matrices this small, lose less than that
ROUNDING = 1e-12
# (d_out, d_in, …) of a norm's tensors; 1, 2, 3 and 6 blocks divide d_out, and 3 + 1 + 2 rows are as many
SHAPES = {1: (6,), 2: (6, 4), 3: (6, 4, 3), 4: (6, 5, 3, 2), 5: (6, 2, 2, 1, 3)}
NAMES = [
    *("spectral", "spectral-max-exact", "column", "row", "sign", "euclidean", "schatten-1", "schatten-mean-4"),
    *("bias", "bias-max", "conv", "conv-max-exact", "conv1d", "conv3d", "flat:sign-onehot"),
]
EVERY = [(name, layout, blocks) for name in NAMES for layout in LAYOUTS for blocks in (1, 2, 6, (3, 1, 2))]
for_every_layer = pytest.mark.parametrize(("name", "layout", "blocks"), EVERY)


def by_hand(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """A stored tensor as (d_out, d_in, …), or back, element by element from their definition."""
    if layout == "out_in" or tensor.ndim == 1:
        return tensor.clone()
    turned = torch.empty(tensor.shape[1], tensor.shape[0], *tensor.shape[2:], dtype=tensor.dtype)
    for i, j in np.ndindex(*tensor.shape[:2]):
        turned[j, i] = tensor[i, j]
    return turned


def split(read: torch.Tensor, blocks: int | tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """The blocks of a (d_out, d_in, …)."""
    return read.split(blocks) if isinstance(blocks, tuple) else read.chunk(blocks)


def example(name: str, layout: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A random (d_out, d_in, …), and how it is stored."""
    shape = SHAPES[norm_named(name).ndim]
    read = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return read, by_hand(read, layout)


@for_every_layer
def test_norm_is_the_largest_and_dual_the_sum_of_the_blocks(name, layout, blocks):
    layer = Layer(norm_named(name), 7.0, layout, blocks)  # the radius does not enter
    read, stored = example(name, layout)
    parts = [part.numpy() for part in split(read, blocks)]
    assert float(layer.measure(stored)) == pytest.approx(max(map(ORACLES[name].norm, parts)), rel=ROUNDING)
    assert float(layer.dual(stored)) == pytest.approx(sum(map(ORACLES[name].dual, parts)), rel=ROUNDING)


@for_every_layer
def test_lmo_is_that_of_every_block_stored_as_the_gradient_is(name, layout, blocks):
    layer = Layer(norm_named(name), 7.0, layout, blocks)
    read, stored = example(name, layout)
    expected = by_hand(torch.cat([norm_named(name).lmo(part.contiguous()) for part in split(read, blocks)]), layout)
    found = layer.lmo(stored)
    assert found.shape == stored.shape
    # other strides may sum in another order, which five steps of Newton-Schulz amplify at most 500 times
    assert torch.allclose(found, expected, rtol=0, atol=500 * ROUNDING)
    low, high = ORACLES[name].band
    attained = -float((found * stored).sum() / layer.dual(stored))
    assert low - ROUNDING <= attained <= high + ROUNDING
    assert low - ROUNDING <= float(layer.measure(found)) <= high + ROUNDING


@for_every_layer
def test_every_block_starts_on_its_own_unit_ball(name, layout, blocks):
    layer = Layer(norm_named(name), 7.0, layout, blocks)
    stored = example(name, layout)[1]
    first, again, other = (layer.init(stored.shape, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == stored.shape
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    if stored.ndim == 1:
        assert not first.any()
        return
    assert not torch.equal(first, other)
    for part in split(by_hand(first, layout), blocks):
        size = ORACLES[name].norm(part.double().numpy())
        assert size == pytest.approx(1, rel=100 * torch.finfo(torch.float32).eps)


@pytest.mark.parametrize("name", NAMES)
def test_one_block_in_the_norms_own_layout_is_the_norm_itself_bit_for_bit(name):
    norm, (read, _) = norm_named(name), example(name, "out_in")
    layer = Layer(norm)
    assert torch.equal(layer.measure(read), norm.norm(read))
    assert torch.equal(layer.dual(read), norm.dual(read))
    assert torch.equal(layer.lmo(read), norm.lmo(read))
    one, same = (make(read.shape, torch.Generator().manual_seed(3)) for make in (layer.init, norm.init))
    assert torch.equal(one, same)


@for_every_layer
def test_dimensions_before_the_tensors_own_are_a_batch(name, layout, blocks):
    batch = (2, 3)
    layer = Layer(norm_named(name), 1.0, layout, blocks)
    shape = example(name, layout)[1].shape
    stored = torch.randn(*batch, *shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    norms, duals, directions = layer.measure(stored), layer.dual(stored), layer.lmo(stored)
    assert (norms.shape, duals.shape, directions.shape) == (batch, batch, stored.shape)
    for index in np.ndindex(*batch):
        assert float(norms[index]) == pytest.approx(float(layer.measure(stored[index])), rel=ROUNDING)
        assert float(duals[index]) == pytest.approx(float(layer.dual(stored[index])), rel=ROUNDING)
        assert torch.allclose(directions[index], layer.lmo(stored[index]), rtol=0, atol=500 * ROUNDING)


@dataclass(frozen=True)
class Recorder(Norm):
    """Shows what it was given, and gives it back."""

    ndim: int = 2

    def norm(self, weight: torch.Tensor) -> torch.Tensor:
        return weight

    def lmo(self, grad: torch.Tensor) -> torch.Tensor:
        return grad

    dual = norm

    def init(self, shape, generator=None) -> torch.Tensor:
        return torch.zeros(*shape)


@pytest.mark.parametrize("ndim", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("blocks", [1, 3])
def test_reading_and_writing_back_copies_nothing(ndim, layout, blocks):
    layer = Layer(Recorder(ndim), 1.0, layout, blocks)
    stored = by_hand(torch.randn(SHAPES[ndim]), layout)
    assert layer.lmo(stored).data_ptr() == stored.data_ptr()
    assert torch.equal(layer.lmo(stored), stored)
    assert layer.lmo(stored).stride() == stored.stride()


def test_a_fused_matrix_is_measured_as_the_matrices_that_it_holds():
    q, k, v = (torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    norm = NORMS["spectral"]
    fused = Layer(norm, blocks=3)
    together = fused.lmo(torch.cat([q, k, v]))
    assert torch.allclose(together, torch.cat([norm.lmo(x) for x in (q, k, v)]), rtol=0, atol=1e-4)
    # read as one matrix it has another norm: three orthogonal blocks are not orthogonal together
    assert float(fused.measure(together)) <= BAND[1]
    whole = Layer(norm)
    assert abs(float(whole.measure(together)) / float(fused.measure(together)) - 1) > 0.05


@for_every_layer
def test_leading_axes_of_the_batch_count_matrices_of_their_own(name, layout, blocks):
    """Experts (expert, d_out, d_in): the norm is the largest, the dual norm the sum, the LMO that of each."""
    alone, stack = (Layer(norm_named(name), 7.0, layout, blocks, batch) for batch in (0, 2))
    shape = example(name, layout)[1].shape
    stored = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    experts = stored.flatten(0, 1)
    stack.check(name, stored.shape)
    assert float(stack.measure(stored)) == pytest.approx(max(float(alone.measure(x)) for x in experts), rel=ROUNDING)
    assert float(stack.dual(stored)) == pytest.approx(sum(float(alone.dual(x)) for x in experts), rel=ROUNDING)
    expected = torch.stack([alone.lmo(x) for x in experts]).view(stored.shape)
    assert torch.allclose(stack.lmo(stored), expected, rtol=0, atol=500 * ROUNDING)
    networks = torch.stack([stored, 2 * stored])  # a stack of networks, each with such experts
    assert torch.allclose(stack.measure(networks), stack.measure(stored) * torch.tensor([1.0, 2.0]).double())
    start = stack.init(stored.shape, torch.Generator().manual_seed(1))
    assert start.shape == stored.shape
    if stored.ndim > 3:
        assert not torch.equal(start[0, 0], start[1, 2])
        assert [float(alone.measure(x)) for x in start.flatten(0, 1)] == pytest.approx([1] * 6, rel=1e-5)


def test_the_step_of_every_expert_is_its_own():
    experts = torch.randn(4, 64, 32, generator=torch.Generator().manual_seed(0))
    for layout, ratio in (("out_in", 2), ("in_out", 0.5)):
        values = torch.linalg.svdvals(Layer(NORMS["spectral"], layout=layout, batch=1).lmo(experts)) / ratio**0.5
        assert BAND[0] < float(values.min()) <= float(values.max()) < BAND[1]


REFUSED = {
    "no blocks": (lambda: Layer(NORMS["row"], blocks=0), "blocks: 0 is not allowed"),
    "half a block": (lambda: Layer(NORMS["row"], blocks=1.5), r"blocks: 1\.5 is not allowed"),
    "no list of blocks": (lambda: Layer(NORMS["row"], blocks=()), r"blocks: \(\) is not allowed"),
    "a block without rows": (lambda: Layer(NORMS["row"], blocks=(3, 0)), r"blocks: \(3, 0\) is not allowed"),
    "less than no batch": (lambda: Layer(NORMS["row"], batch=-1), "batch: -1 is not allowed"),
    "blocks that are not all rows": (
        lambda: Layer(NORMS["row"], blocks=(4, 3)).check("row", (8, 6)),
        r"blocks: 4\+3 is not allowed: their sum is not the output axis, 8, of shape \(8, 6\)",
    ),
    "a matrix as a batch of matrices": (
        lambda: Layer(NORMS["row"], batch=1).check("row", (8, 6)),
        r"norm 'row' measures tensors of 2 dimensions after 1 of the batch, not shape \(8, 6\)",
    ),
    "a vector in a norm of matrices": (
        lambda: Layer(NORMS["row"]).check("row", (3,)),
        r"norm 'row' measures tensors of 2 dimensions, not shape \(3,\)",
    ),
    "a matrix in a norm of kernels": (
        lambda: Layer(NORMS["conv"]).check("conv", (3, 4)),
        r"norm 'conv' measures tensors of 4 dimensions, not shape \(3, 4\)",
    ),
    "nothing": (lambda: Layer(NORMS["row"]).check("row", (3, 0)), r"nothing to measure in shape \(3, 0\)"),
    "rows that blocks do not divide": (
        lambda: Layer(NORMS["row"], blocks=3).check("row", (8, 6)),
        r"blocks: 3 is not allowed: it does not divide the output axis of shape \(8, 6\)",
    ),
    "columns that blocks do not divide": (
        lambda: Layer(NORMS["row"], layout="in_out", blocks=3).check("row", (6, 8)),
        r"blocks: 3 .* \(6, 8\)",
    ),
}


@pytest.mark.parametrize(("ask", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_what_it_cannot_measure(ask, message):
    with pytest.raises(UserError, match=message):
        ask()


def test_check_accepts_what_can_be_measured():
    for name, layout, blocks in EVERY:
        Layer(norm_named(name), 1.0, layout, blocks).check(name, example(name, layout)[1].shape)
