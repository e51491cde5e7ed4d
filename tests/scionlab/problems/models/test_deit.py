"""DeiT against the published network written down again, its counts, its start, and the roles of its parameters."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scionlab import training
from scionlab.errors import UserError
from scionlab.problems.data import DataShape
from scionlab.problems.models import MODELS, deit
from scionlab.spec import Trial
from scionlab.training.prepare import build, data_of, resolve

CONFIG = deit.DeiTConfig(width=48, depth=2, head_dim=12, input_shape=(3, 64, 32), n_outputs=10)
SHAPE = DataShape("image", 10, CONFIG.input_shape)
IMAGES = torch.randn(3, *CONFIG.input_shape, generator=torch.Generator().manual_seed(0))


class Published(nn.Module):
    """timm's VisionTransformer with layer norm and GELU replaced as by main_scion.py, by its parameters' names."""

    def __init__(self, width: int, depth: int, heads: int, patches: int) -> None:
        super().__init__()
        self.heads = heads
        self.proj = nn.Conv2d(3, width, kernel_size=16, stride=16)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, patches + 1, width))
        shapes = {"qkv": (width, 3 * width), "proj": (width, width)}
        shapes |= {"fc1": (width, 4 * width), "fc2": (4 * width, width)}
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(*sizes) for name, sizes in shapes.items()}) for _ in range(depth)
        )
        self.head = nn.Linear(width, 10)

    def attention(self, layer, x):
        B, N, C = x.shape
        qkv = layer["qkv"](x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = ((q @ k.transpose(-2, -1)) * (C // self.heads) ** -0.5).softmax(dim=-1)
        return layer["proj"]((weights @ v).transpose(1, 2).reshape(B, N, C))

    def forward(self, x):
        def norm(x):
            return F.rms_norm(x, (x.size(-1),))

        x = self.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self.pos_embed
        for layer in self.layers:
            x = x + self.attention(layer, norm(x))
            x = x + layer["fc2"](2**0.5 * F.gelu(layer["fc1"](norm(x))))
        return self.head(norm(x)[:, 0])


def built(scale: float = 1.0, **fields) -> deit.DeiT:
    torch.manual_seed(1)
    sizes = {"width": CONFIG.width, "depth": CONFIG.depth, "head_dim": CONFIG.head_dim}
    trial = Trial(optimizer="scion", lr=0.1, model="deit", **sizes | fields)
    return MODELS["deit"](trial, SHAPE, scale).build()


def test_it_is_the_published_network():
    ours, theirs = built(), Published(48, 2, 4, 8)
    pairs = {"proj": ours.embed, "head": ours.head}
    for n, block in enumerate(ours.blocks):
        own = {"qkv": block.qkv, "proj": block.out, "fc1": block.up, "fc2": block.down}
        pairs |= {f"layers.{n}.{name}": module for name, module in own.items()}
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
        for name, module in pairs.items():
            theirs.get_submodule(name).load_state_dict(module.state_dict())
        theirs.cls_token.copy_(ours.class_token.bias)
        theirs.pos_embed.copy_(ours.positions.weight)
        found, expected = ours(IMAGES), theirs(IMAGES)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)  # float32 sums in another order
    assert float(expected.std()) > 0.1


def test_it_starts_where_the_authors_start():
    model = built(width=96)
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if name.startswith("embed"):
            assert float(values.abs().max()) == pytest.approx((3 * 16**2) ** -0.5, rel=0.1)
        elif name.endswith("bias") and not name.startswith("class_token"):
            assert not values.any()
        else:  # a standard deviation of n values is off by 1/√2n of itself, here within five of these
            assert float(values.std()) == pytest.approx(0.02, rel=5 / math.sqrt(2 * values.numel()))


def test_counts_are_those_of_the_module_and_of_pytorch():
    trial = Trial(optimizer="scion", lr=0.1, model="deit", width=48, depth=2, head_dim=12)
    counts, model = MODELS["deit"](trial, SHAPE, 1.0), built()
    assert counts.n_params == sum(p.numel() for p in model.parameters())
    assert counts.n_params_hidden == sum(p.numel() for p in model.blocks.parameters())
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(IMAGES)
    assert counts.train_flops_per_token * 3 == 3 * counter.get_total_flops()


def test_deit_b_has_the_published_86_million_parameters():
    config = deit.DeiTConfig(width=768, depth=12, head_dim=64, input_shape=(3, 224, 224), n_outputs=1000)
    with torch.device("meta"):
        model = deit.DeiT(config)
    gains_and_biases_of_layer_norms = 25 * 2 * 768  # which the published 86.6 million count, and this network has not
    assert deit.n_params(config) == sum(p.numel() for p in model.parameters())
    assert deit.n_params(config) + gains_and_biases_of_layer_norms == 86_567_656


def test_output_scale_multiplies_the_logits():
    with torch.no_grad():
        assert torch.equal(built(0.25)(IMAGES), 0.25 * built()(IMAGES))


def test_every_parameter_has_a_part_without_rules():
    trial = resolve(
        Trial(optimizer="scion", lr=2**-6, model="deit", data="digits,enlarge=8", width=32, depth=1, seq_len=1).replace(
            val_seq_len=1, val_tokens=64, batch_size=32, tokens=32 * 12, device="cpu"
        )
    )
    _, claims = build(trial, data_of(trial).shape)
    roles = {claim.names[0]: claim.role for claim in claims}
    assert {name: role for name, role in roles.items() if not name.endswith("bias")} == {
        "embed.weight": "input",
        "positions.weight": "input",
        **{f"blocks.0.{name}.weight": "hidden" for name in ("qkv", "out", "up", "down")},
        "head.weight": "output",
    }
    assert {role for name, role in roles.items() if name.endswith("bias")} == {"bias"}
    summary = training.train(trial, data_of(trial)).summary
    assert summary["status"] == "ok"
    assert summary["val_loss"] < summary["initial_loss"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_dim": 10}, "head_dim: 10 does not divide width 32"),
        ({"data": "digits"}, "model: 'deit' reads images in squares of 16 × 16 pixels, but those .* have 8 × 8; .*"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, message):
    given = {"optimizer": "scion", "lr": 0.1, "model": "deit", "data": "digits,enlarge=8", "width": 32}
    wrong = Trial(**given | {"seq_len": 1, "val_seq_len": 1, "val_tokens": 64} | fields)
    with pytest.raises(UserError, match=message):
        build(resolve(wrong.replace(device="cpu")), data_of(wrong).shape)
