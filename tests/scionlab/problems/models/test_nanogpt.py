"""The NanoGPT: its counts against the real model, the start it is trained from, and what differs from `GPT`."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scionlab.errors import UserError
from scionlab.problems.data import DataShape
from scionlab.problems.models import MODELS, gpt
from scionlab.problems.models.gpt import GPTConfig
from scionlab.problems.models.nanogpt import NanoGPT
from scionlab.spec import Trial
from scionlab.training.prepare import build, resolve

TEXT = DataShape("text", 64)


def trial(**fields):
    return Trial(**{"optimizer": "scion", "lr": 0.01, "model": "nanogpt", "width": 32, "depth": 3} | fields)


def model(seed=0, **sizes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NanoGPT(GPTConfig(**{"width": 32, "depth": 2, "vocab_size": 64} | sizes))


def tokens(batch, seq_len):
    return torch.randint(64, (batch, seq_len), generator=torch.Generator().manual_seed(1))


def randomized(built):
    """All matrices Gaussian, as the start's zeros would hide what comes before them."""
    generator = torch.Generator().manual_seed(2)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]), generator=generator)
    return built


@pytest.mark.parametrize("seq_len", [8, 32])
@pytest.mark.parametrize("depth", [1, 3])
def test_counts_are_those_of_the_module(depth, seq_len):
    counts = MODELS["nanogpt"](trial(depth=depth, seq_len=seq_len), TEXT, 1.0)
    built, inputs = counts.build(), tokens(2, seq_len)
    assert counts.n_params == sum(p.numel() for p in built.parameters())
    assert counts.n_params_hidden == sum(p.numel() for p in built.blocks.parameters())
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        F.cross_entropy(built(inputs).flatten(0, 1), inputs.flatten()).backward()
    assert counter.get_total_flops() == counts.train_flops_per_token * inputs.numel()


@pytest.mark.parametrize(
    ("width", "depth", "head_dim", "millions"), [(768, 12, 128, 124), (1280, 36, 64, 772), (2048, 18, 128, 1009)]
)
def test_the_published_sizes_are_those_that_their_names_say(width, depth, head_dim, millions):
    sizes = {"width": width, "depth": depth, "head_dim": head_dim}
    counts = MODELS["nanogpt"](trial(**sizes), DataShape("text", 50304), 1.0)
    assert round(counts.n_params / 1e6) == millions


def test_embedding_and_head_are_one_matrix_whatever_the_trial_says():
    for tied in (False, True):
        built = MODELS["nanogpt"](trial(tied=tied), TEXT, 1.0).build()
        assert built.head.weight is built.embed.weight
    assert resolve(trial(tied=True, residual="1/L")) == resolve(trial())


def test_it_starts_from_pytorchs_linear_layers_with_projections_of_zero():
    built = model(width=128, vocab_size=256)
    for block in built.blocks:
        assert not block.attention.out.weight.any()
        assert not block.mlp.down.weight.any()
    for layer in (built.head, built.blocks[0].attention.q, built.blocks[1].mlp.up):
        weight, bound = layer.weight.detach(), 1 / math.sqrt(layer.in_features)
        assert float(weight.abs().max()) <= bound
        # uniform: 16,384 entries and more, whose mean square has a relative error of 0.9/√16384
        assert float(weight.square().mean()) == pytest.approx(bound**2 / 3, rel=0.03)


def test_a_trial_keeps_that_start_where_it_asks_for_it():
    kept, _ = build(resolve(trial(initialization="model")), TEXT)
    filled, _ = build(resolve(trial()), TEXT)
    assert not kept.blocks[0].mlp.down.weight.any()
    assert filled.blocks[0].mlp.down.weight.any()


def test_residual_branches_are_not_scaled_and_the_nonlinearity_is_squared():
    built = randomized(model(depth=3))
    block, x = built.blocks[1], torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(4))
    angles = gpt.rotary_angles(5, 16)
    with torch.no_grad():
        middle = x + block.attention(F.rms_norm(x, (32,)), *angles)
        hidden = F.rms_norm(middle, (32,)) @ block.mlp.up.weight.T
        expected = middle + (2 * hidden.clamp(min=0) ** 2) @ block.mlp.down.weight.T  # (√2 relu)² is 2 relu²
        assert torch.allclose(block(x, *angles), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("position", [0, 5, 11])
def test_a_later_token_never_changes_an_earlier_logit(position):
    built, inputs = randomized(model()), tokens(2, 12)
    changed = inputs.clone()
    changed[:, position] = (changed[:, position] + 1) % 64
    with torch.no_grad():
        before, after = built(inputs), built(changed)
    assert torch.equal(before[:, :position], after[:, :position])
    assert (before[:, position:] != after[:, position:]).any(-1).all()


def test_its_matrices_have_the_norms_and_radii_published_for_it():
    from scionlab.optim import geometry

    _, claims = build(resolve(trial()), TEXT)
    balls = geometry(trial())
    found = {(claim.role, claim.shared, *balls.geometry(claim.role)) for claim in claims}
    assert found == {("output", True, "sign", 3000.0), ("hidden", False, "spectral", 50.0)}


def test_a_head_size_must_divide_its_width():
    with pytest.raises(UserError, match="head_dim: 24 does not divide width 32"):
        trial(head_dim=24)
