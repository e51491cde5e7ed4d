"""The GPT: its counts against the real model, and the properties that its design rests on."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scionlab.problems.models import gpt
from scionlab.problems.models.gpt import GPT, GPTConfig

SIZES = {
    f"{width}x{depth}-{'tied' if tied else 'untied'}": GPTConfig(width=width, depth=depth, vocab_size=64, tied=tied)
    for width, depth, tied in itertools.product((16, 48), (1, 3), (False, True))
}
for_every_size = pytest.mark.parametrize("config", SIZES.values(), ids=SIZES.keys())


def model(seed: int = 0, **sizes) -> GPT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT(GPTConfig(**{"width": 32, "depth": 2, "vocab_size": 64} | sizes))


def tokens(batch: int, seq_len: int, vocab_size: int = 64) -> torch.Tensor:
    return torch.randint(vocab_size, (batch, seq_len), generator=torch.Generator().manual_seed(1))


@for_every_size
def test_parameter_counts_are_those_of_the_model(config):
    built = GPT(config)
    assert gpt.n_params(config) == sum(p.numel() for p in built.parameters())
    assert gpt.n_params_hidden(config) == sum(p.numel() for p in built.blocks.parameters())


@pytest.mark.parametrize("seq_len", [8, 32])
@for_every_size
def test_flops_are_those_that_pytorch_counts(config, seq_len):
    built, inputs = GPT(config), tokens(2, seq_len, config.vocab_size)
    counter = FlopCounterMode(display=False)
    # the math backend shows both attention products; it computes them in full, as the convention counts them
    with counter, sdpa_kernel(SDPBackend.MATH):
        F.cross_entropy(built(inputs).flatten(0, 1), inputs.flatten()).backward()
    assert counter.get_total_flops() == gpt.train_flops_per_token(config, seq_len) * inputs.numel()


@pytest.mark.parametrize("position", [0, 5, 11])
def test_a_later_token_never_changes_an_earlier_logit(position):
    built, inputs = model(), tokens(2, 12)
    changed = inputs.clone()
    changed[:, position] = (changed[:, position] + 1) % 64
    with torch.no_grad():
        before, after = built(inputs), built(changed)
    assert torch.equal(before[:, :position], after[:, :position])
    assert (before[:, position:] != after[:, position:]).any(-1).all()  # itself and all that follow see the change


def test_a_sequence_does_not_see_its_neighbours_in_the_batch():
    built, inputs = model(), tokens(3, 10)
    with torch.no_grad():
        together, alone = built(inputs), built(inputs[1:2])
    assert torch.allclose(together[1:2], alone, rtol=0, atol=1e-5)  # float32 sums grouped by batch size


def test_rotary_scores_depend_on_the_distance_only():
    cos, sin = gpt.rotary_angles(40, 16)
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(2))
    at = [[gpt.rotate(x, cos[i], sin[i]) for i in range(40)] for x in (q, k)]
    scores = torch.tensor([[float(a @ b) for b in at[1]] for a in at[0]])
    for distance in range(-30, 31, 6):
        along = scores.diagonal(distance)
        # products of numbers near 1; an angle of up to 40 rad is rounded to 40 · 6e-8
        assert torch.allclose(along, along[:1].expand_as(along), rtol=0, atol=1e-4)
    assert float(scores[0].std()) > 0.1  # and they do depend on it


def test_rotary_turns_without_stretching_and_leaves_position_zero():
    cos, sin = gpt.rotary_angles(7, 8)
    x = torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(3))
    turned = gpt.rotate(x, cos, sin)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-6)  # eight float32 squares
    assert torch.equal(turned[..., 0, :], x[..., 0, :])
    assert not torch.allclose(turned[..., 1, :], x[..., 1, :], atol=0.1)


@pytest.mark.parametrize(("residual", "scale"), [("1", 1.0), ("1/sqrt(2L)", 1 / math.sqrt(6)), ("1/L", 1 / 3)])
def test_residual_branches_are_scaled(residual, scale):
    built = model(depth=3, residual=residual)
    block, x = built.blocks[1], torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(4))
    angles = gpt.rotary_angles(5, 16)
    with torch.no_grad():
        middle = x + scale * block.attention(F.rms_norm(x, (32,)), *angles)
        expected = middle + scale * block.mlp(F.rms_norm(middle, (32,)))
        assert torch.allclose(block(x, *angles), expected, rtol=0, atol=1e-6)  # the same float32 operations


def test_output_scale_multiplies_the_logits():
    inputs = tokens(2, 6)
    with torch.no_grad():
        assert torch.equal(model(output_scale=0.25)(inputs), 0.25 * model()(inputs))  # a power of two: exact


def test_tied_weights_are_one_tensor():
    tied, untied = model(tied=True), model()
    assert tied.head.weight is tied.embed.weight
    assert untied.head.weight is not untied.embed.weight


def test_more_width_is_more_heads_of_the_same_size(monkeypatch):
    seen = []
    original = F.scaled_dot_product_attention

    def spy(q, k, v, **options):
        seen.append((tuple(q.shape), options))
        return original(q, k, v, **options)

    monkeypatch.setattr(gpt.F, "scaled_dot_product_attention", spy)
    for width in (32, 64, 128):
        model(width=width, depth=1)(tokens(1, 4))
    # no scale among the options: PyTorch's own 1/√head size, the same at every width
    assert seen == [((1, heads, 4, 16), {"is_causal": True}) for heads in (2, 4, 8)]


def test_queries_and_keys_enter_attention_with_unit_root_mean_square(monkeypatch):
    seen = []
    monkeypatch.setattr(gpt.F, "scaled_dot_product_attention", lambda q, k, v, **_: seen.extend((q, k)) or v)
    model()(tokens(2, 6))
    assert len(seen) == 4
    for x in seen:
        # RMS norm adds float32's epsilon under the root; rotation keeps the norm
        assert torch.allclose(x.square().mean(-1), torch.ones(x.shape[:-1]), rtol=0, atol=1e-4)


def test_gelu_keeps_the_variance_of_its_input():
    x = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(5))
    mlp = gpt.MLP(1)
    with torch.no_grad():
        mlp.up.weight.fill_(1)
        mlp.down.weight.fill_(1 / gpt.MLP_RATIO)
        # √2 is exact for ReLU; a standard normal through √2·GELU has mean square 0.85
        assert 0.8 < float(mlp(x).square().mean()) < 0.9
