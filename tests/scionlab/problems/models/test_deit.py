"""DeiT against the published network written down again, its counts, its start, and the roles of its parameters."""

import math
from itertools import combinations

import numpy as np
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
from scionlab.training.passes import Passes
from scionlab.training.prepare import build, data_of, identity, resolve

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


SMALL = {
    "optimizer": "scion",
    "lr": 0.1,
    "model": "deit",
    "width": 32,
    "seq_len": 1,
    "val_seq_len": 1,
    "val_tokens": 64,
}


def test_images_that_are_no_whole_patches_are_refused():
    small = resolve(Trial(data="digits", device="cpu", **SMALL))
    expected = "model: 'deit' reads images in squares of 16 × 16 pixels, but those .* have 8 × 8; .*"
    with pytest.raises(UserError, match=expected):
        build(small, data_of(small).shape)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_dim": 10}, "head_dim: 10 does not divide width 32"),
        ({"model": "gpt", "drop_path": 0.1}, "drop_path: 0.1 is not allowed with model 'gpt': only deit leaves out .*"),
    ],
)
def test_a_trial_that_no_model_fits_is_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Trial(**SMALL | fields)


class TimmDropPath(nn.Module):
    """timm's, on draws that are given."""

    def __init__(self, p: float, kept: torch.Tensor) -> None:
        super().__init__()
        self.p, self.kept = p, kept

    def forward(self, x):
        return x * self.kept.view(-1, 1, 1) / (1 - self.p)


DROPS = {"drop_path": 0.4, "depth": 3}


def drawn(model: deit.DeiT, n_images: int, seed: int = 0) -> torch.Tensor:
    return model.drawn(n_images, np.random.default_rng(seed))["factors"]


def test_drop_path_is_timms():
    model, plain = built(**DROPS), built(depth=3)
    plain.load_state_dict(model.state_dict())
    factors = drawn(model, len(IMAGES), seed=3)
    assert 0 < int((factors == 0).sum()) < factors[:, 1:].numel()  # some are left out, some not
    for n, p in enumerate((0.0, 0.2, 0.4)):
        for name, number in (("out", 0), ("down", 1)):
            module = plain.blocks[n].get_submodule(name)
            drop = TimmDropPath(p, (factors[:, n, number] > 0).float())
            module.register_forward_hook(lambda module, inputs, output, drop=drop: drop(output))
    found = torch.func.functional_call(model, {"factors": factors}, (IMAGES,))
    assert torch.allclose(found, plain(IMAGES), rtol=1e-5, atol=1e-7)  # a division, for a product with the inverse


def test_what_is_left_out_rises_over_the_blocks_and_the_mean_of_a_branch_stays():
    factors, count = drawn(built(**DROPS), 4096), 2 * 4096
    for n, p in enumerate((0.0, 0.2, 0.4)):
        off = 5 * math.sqrt(p * (1 - p) / count)  # five standard errors of a share
        assert float((factors[:, n] == 0).double().mean()) == pytest.approx(p, abs=off)
        assert float(factors[:, n].double().mean()) == pytest.approx(1, abs=off / (1 - p) + 1e-6)
    both = ((factors[:, 2] == 0).double() - 0.4).prod(dim=1).mean()  # a block's two are drawn apart
    assert float(both) == pytest.approx(0, abs=5 * 0.24 / math.sqrt(4096))


def test_without_draws_or_in_use_or_at_rate_0_nothing_is_left_out():
    model, plain = built(**DROPS), built(depth=3)
    with torch.no_grad():
        assert torch.equal(model(IMAGES), plain(IMAGES))
        zeros = {"factors": torch.zeros(3, 3, 2)}
        assert not torch.equal(torch.func.functional_call(model, zeros, (IMAGES,)), plain(IMAGES))
        assert torch.equal(torch.func.functional_call(model.eval(), zeros, (IMAGES,)), plain(IMAGES))
    assert "factors" not in dict(plain.named_buffers())


def dropping(**fields) -> Trial:
    sizes = {"width": 16, "depth": 3, "head_dim": 8, "batch_size": 16, "tokens": 16 * 6, "val_tokens": 64}
    once = {"seq_len": 1, "val_seq_len": 1, "data": "digits,enlarge=2", "device": "cpu"}
    return resolve(Trial(optimizer="adam", lr=2**-8, model="deit", **{**sizes, **once, "drop_path": 0.5} | fields))


def losses(trial: Trial, **how) -> list[float]:
    return [row["train_loss"] for row in training.train(trial, data_of(trial), **how).curve]


def test_a_trial_with_drop_path_is_the_same_every_time_and_another_with_another_seed_or_rate():
    whole = training.train(dropping(), data_of(dropping()))
    again = training.train(dropping(), data_of(dropping()))
    assert whole.curve == again.curve
    assert whole.summary["val_loss"] == again.summary["val_loss"]
    assert losses(dropping(drop_path=0.25)) != losses(dropping()) != losses(dropping(drop_path=0.0))
    first = [next(iter(build_draws(dropping(seed=seed), step).values())) for seed in (0, 1) for step in (0, 1)]
    assert all(not torch.equal(one, other) for one, other in combinations(first, 2))


def build_draws(trial: Trial, step: int) -> dict[str, torch.Tensor]:
    source = data_of(trial)
    return Passes(build(trial, source.shape)[0], source, trial).drawing(step)(trial.batch_size)


def test_a_trial_with_drop_path_is_read_in_parts_and_stopped_on_its_way():
    trial = dropping()
    whole = training.train(trial, data_of(trial))
    parts = training.train(trial, data_of(trial), micro_batch=5)
    assert (parts.summary["micro_batch"], parts.summary["micro_batch_note"]) == (5, None)
    # six steps whose sums are grouped differently in float32, as of compiled graphs
    assert losses(trial) == pytest.approx(losses(trial, micro_batch=5), rel=2e-5)
    run = training.Run(trial, data_of(trial))
    run.run_steps(3)
    on = training.Run(trial, data_of(trial))
    on.load_state_dict(run.state_dict())
    on.run_stage()
    assert on.outcome().curve == whole.curve


def test_drop_path_leaves_the_identity_of_a_trial_without_it():
    assert "drop_path" not in dropping(drop_path=0.0).model_dump()
    source = data_of(dropping())
    assert identity(dropping(drop_path=0.0), source) != identity(dropping(), source)
    assert training.stack_key(dropping()) is None
