"""Parameter groups of models that nobody here wrote: torch's transformer, and GPT-2 of the package transformers."""

import pytest
import torch
from small_models import Encoder, gpt2, trial
from torch import nn

import scionlab
from scionlab import Rule, Scion, explain, initialize, param_groups
from scionlab.errors import UserError
from scionlab.geometry import NORMS, Layer, norm_named
from scionlab.optim import ScionRecipe, recipe
from scionlab.problems.models.gpt import GPT, GPTConfig
from scionlab.roles.presets import PRESETS
from scionlab.roles.roles import UnclaimedError, assign_roles


class ImageNet(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(8, 10)
        )


# Conv1D of transformers stores (d_in, d_out).
GPT2_RULES = [
    Rule("hidden", r".*\.c_attn\.weight", layout="in_out", blocks=3),
    Rule("hidden", r".*\.(c_proj|c_fc)\.weight", layout="in_out"),
]


def table(rows):
    return {row.names: (row.role, row.norm, row.radius, row.layout, row.blocks) for row in rows}


def test_every_parameter_of_a_torch_transformer_has_a_ball():
    found = table(explain(Encoder(depth=1)))
    layer = "encoder.layers.0."
    assert found == {
        ("embed.weight",): ("input", "column", 1.0, "in_out", 1),
        (layer + "self_attn.in_proj_weight",): ("hidden", "spectral", 3.0, "out_in", 3),
        (layer + "self_attn.in_proj_bias",): ("bias", "bias", 1.0, "out_in", 1),
        (layer + "self_attn.out_proj.weight",): ("hidden", "spectral", 3.0, "out_in", 1),
        (layer + "self_attn.out_proj.bias",): ("bias", "bias", 1.0, "out_in", 1),
        (layer + "linear1.weight",): ("hidden", "spectral", 3.0, "out_in", 1),
        (layer + "linear1.bias",): ("bias", "bias", 1.0, "out_in", 1),
        (layer + "linear2.weight",): ("hidden", "spectral", 3.0, "out_in", 1),
        (layer + "linear2.bias",): ("bias", "bias", 1.0, "out_in", 1),
        (layer + "norm1.weight",): ("gain", "bias-max", 1.0, "out_in", 1),
        (layer + "norm1.bias",): ("bias", "bias", 1.0, "out_in", 1),
        (layer + "norm2.weight",): ("gain", "bias-max", 1.0, "out_in", 1),
        (layer + "norm2.bias",): ("bias", "bias", 1.0, "out_in", 1),
        ("head.weight",): ("output", "sign", 64.0, "out_in", 1),
        ("head.bias",): ("bias", "bias", 1.0, "out_in", 1),
    }


def test_the_table_says_what_decided_and_how_matrices_start():
    rows = {row.names[0]: row for row in explain(Encoder(depth=1), rules=[Rule("bias", "head.bias", radius=2.0)])}
    assert rows["embed.weight"].decided_by == "nn.Embedding"
    assert rows["head.weight"].decided_by == "nn.Linear called head"
    assert rows["head.bias"].decided_by == "rule 'head.bias'"
    starts = {rows[name].role: rows[name].initialization for name in rows}
    assert starts == {
        "input": "normalized Gaussian columns",
        "hidden": "semi-orthogonal",
        "output": "random signs",
        "gain": "as it is",
        "bias": "0",
    }
    assert rows["encoder.layers.0.self_attn.in_proj_weight"].shape == (24, 8)


def test_images_are_measured_by_convolutions():
    rows = {row.names[0]: row for row in explain(ImageNet(), preset="image")}
    assert (rows["0.weight"].role, rows["0.weight"].norm, rows["0.weight"].radius) == ("input", "conv-max", 8.0)
    assert (rows["2.weight"].role, rows["2.weight"].norm, rows["2.weight"].blocks) == ("hidden", "conv", 2)
    assert (rows["4.weight"].norm, rows["4.weight"].radius) == ("sign", 128.0)
    signs = explain(ImageNet(), preset="image", norms={"hidden": "sign"})
    assert next(row for row in signs if row.role == "hidden").norm == "flat:sign"
    assert next(row for row in signs if row.role == "hidden").initialization == "random signs"


def test_the_fused_matrices_of_another_package_are_not_guessed():
    with pytest.raises(
        UnclaimedError, match=r"'transformer\.h\.0\.attn\.c_attn\.weight' .* in Conv1D .*47 more"
    ) as error:
        param_groups(gpt2(), preset="text-tied")
    assert len(error.value.uses) == 48  # four of each of the twelve layers, and four rules for all
    assert error.value.examples == (
        r"transformer\.h\.\d+\.attn\.c_attn\.weight=hidden,layout=in_out,blocks=3",
        r"transformer\.h\.\d+\.attn\.c_proj\.weight=hidden,layout=in_out",
        r"transformer\.h\.\d+\.mlp\.c_fc\.weight=hidden,layout=in_out",
        r"transformer\.h\.\d+\.mlp\.c_proj\.weight=hidden,layout=in_out",
    )


@pytest.mark.parametrize("as_text", [False, True])
def test_with_rules_every_parameter_of_gpt2_has_a_ball(as_text):
    model = gpt2()
    with pytest.raises(UnclaimedError) as error:
        explain(model)
    rows = explain(model, "text-tied", error.value.examples if as_text else GPT2_RULES)
    assert {id(row.parameter) for row in rows} == {id(parameter) for parameter in model.parameters()}
    found = table(rows)
    assert found["transformer.wte.weight", "lm_head.weight"] == ("output", "sign", 3000.0, "out_in", 1)
    assert found[("transformer.wpe.weight",)] == ("input", "sign-onehot", 1.0, "in_out", 1)
    assert found[("transformer.h.3.attn.c_attn.weight",)] == ("hidden", "spectral", 50.0, "in_out", 3)
    assert found[("transformer.h.3.mlp.c_fc.weight",)] == ("hidden", "spectral", 50.0, "in_out", 1)
    assert found[("transformer.ln_f.weight",)][:2] == ("gain", "bias-max")


def test_gpt2_trains():
    model = gpt2()
    groups = param_groups(model, "text-tied", GPT2_RULES, radii={"hidden": 3.0, "output": 64.0})
    initialize(groups, seed=0)
    optimizer = Scion(groups, lr=2**-5)
    tokens = torch.randint(19, (8, 16), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(12):
        loss = model(input_ids=tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    for _, norm, radius in optimizer.norms():  # the band of Newton-Schulz is at most 1.21
        assert norm <= 1.21 * radius


@pytest.mark.parametrize(
    ("model", "preset"),
    [(Encoder(), "text"), (Encoder(), "text-tied"), (ImageNet(), "image"), (nn.LSTM(3, 4), "text")],
    ids=["transformer", "transformer-tied", "images", "lstm"],
)
def test_groups_hold_every_parameter_once_and_start_on_their_spheres(model, preset):
    gains = [row.parameter for row in explain(model, preset) if row.role == "gain"]
    with torch.no_grad():
        for number, gain in enumerate(gains):
            gain.fill_(0.1 + number)  # so that overwriting them would show
    groups = param_groups(model, preset)
    initialize(groups, seed=3)
    optimizer = Scion(groups)
    assert sorted(map(id, model.parameters())) == sorted(id(p) for g in optimizer.param_groups for p in g["params"])
    names = dict(model.named_parameters())
    for group in optimizer.param_groups:
        layer = Layer(norm_named(group["norm"]), group["radius"], group["layout"], group["blocks"])
        for name, parameter in zip(group["names"], group["params"], strict=True):
            assert parameter is names[name]
            if group["role"] == "bias":
                assert not parameter.any()
            elif group["role"] != "gain":
                # float32 rounding of an orthogonalization
                assert float(layer.measure(parameter.detach())) == pytest.approx(group["radius"], rel=1e-5)
    assert [gain[0].item() for gain in gains] == [pytest.approx(0.1 + i) for i in range(len(gains))]


def test_parameters_of_one_setting_share_a_group():
    groups = param_groups(Encoder(depth=2))
    assert [(group["role"], group["blocks"], len(group["params"])) for group in groups] == [
        ("input", 1, 1), ("hidden", 3, 2), ("bias", 1, 13), ("hidden", 1, 6), ("gain", 1, 4), ("output", 1, 1),
    ]  # fmt: skip
    assert groups[0]["names"] == ["embed.weight"]


def test_radii_and_norms_by_role_and_by_rule():
    rule = Rule("hidden", r".*linear1\.weight", norm="spectral-exact", radius=7.0)
    rows = explain(Encoder(depth=1), rules=[rule], radii={"hidden": 2.0, "bias": 0.5}, norms={"output": "row"})
    found = {row.names[0].removeprefix("encoder.layers.0."): (row.norm, row.radius) for row in rows}
    assert found["linear1.weight"] == ("spectral-exact", 7.0)
    assert found["linear2.weight"] == ("spectral", 2.0)
    assert found["linear2.bias"] == ("bias", 0.5)
    assert found["head.weight"] == ("row", 64.0)


def test_our_own_gpt_gets_the_groups_of_its_recipe():
    for tied in (False, True):
        model = GPT(GPTConfig(width=32, depth=2, tied=tied))
        recipe = ScionRecipe(output_init=0.5)
        expected = [recipe.group(claim) for claim in assign_roles(model)]
        groups = {id(p): group for group in param_groups(model) for p in group["params"]}
        for group in expected:
            mine = groups[id(group["params"][0])]
            assert {key: mine[key] for key in ("norm", "radius", "layout", "blocks")} == {
                key: group[key] for key in ("norm", "radius", "layout", "blocks")
            }


def test_a_parameter_may_be_left_to_another_optimizer():
    model = Encoder()
    rows = explain(model, rules=["embed.*=other"])
    assert (rows[0].role, rows[0].norm, rows[0].radius) == ("other", None, None)
    groups = param_groups(model, rules=["embed.*=other"])
    assert model.embed.weight not in {p for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters())) - 1


def test_initialization_follows_its_seed_or_generator():
    def start(seed):
        model = Encoder()
        initialize(param_groups(model), seed)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(start(5), start(5))
    assert torch.equal(start(5), start(torch.Generator().manual_seed(5)))
    assert not torch.equal(start(5), start(6))


@pytest.mark.parametrize("output_init", [0.0, 0.25])
def test_the_output_starts_inside_its_ball_if_asked_unless_it_is_shared(output_init):
    model, tied = Encoder(), GPT(GPTConfig(width=32, depth=1, tied=True))
    for each in (model, tied):
        initialize(param_groups(each), output_init=output_init)
    measure = Layer(NORMS["sign"]).measure
    assert float(measure(model.head.weight.detach())) == pytest.approx(64 * output_init)
    assert float(measure(tied.head.weight.detach())) == pytest.approx(64)


def test_optimizer_groups_can_be_initialized_too():
    groups = Scion(param_groups(Encoder())).param_groups
    initialize(groups)
    with pytest.raises(UserError, match="initialize: role of a group: 'None' is not known"):
        initialize(Scion([nn.Parameter(torch.ones(2, 2))]).param_groups)
    with pytest.raises(UserError, match=r"output_init: 2 is not allowed: it must lie in \[0, 1\]"):
        initialize(groups, output_init=2)


@pytest.mark.parametrize(
    ("module", "rules"),
    [
        (nn.Embedding(9, 4, padding_idx=2), []),
        (nn.Embedding(9, 4, padding_idx=2), ["weight=output"]),
        (nn.EmbeddingBag(9, 4, padding_idx=2), []),
    ],
)
def test_the_row_for_padding_starts_and_stays_at_zero(module, rules):
    (row,) = explain(module, rules=rules)
    assert row.initialization.endswith(", row 2 at 0")
    groups = param_groups(module, rules=rules)
    initialize(groups)
    optimizer = Scion(groups, lr=0.25)
    for step in range(2):
        assert not module.weight[2].any()
        assert module.weight.any(1).sum() == 8
        indices = torch.tensor([[0, 2, 5 + step]])
        module(indices).square().sum().backward()
        optimizer.step()
    for method in ("scion", "adam"):
        nn.init.ones_(module.weight)
        claims = assign_roles(module, rules)
        recipe(trial(method)).initialize(claims, torch.Generator())
        assert not module.weight[2].any()
        assert module.weight[:2].all()


def test_embeddings_have_a_floor_and_trials_only_where_they_ask_for_it():
    floors = {group["role"]: group.get("norm_options", {}).get("floor") for group in param_groups(Encoder())}
    assert floors == {"input": 1e-8, "hidden": None, "bias": None, "gain": None, "output": None}
    assert all("norm_options" not in group for group in param_groups(Encoder(), norms={"input": "spectral"}))
    for options, expected in (({}, {}), ({"floor": 1e-4}, {"floor": 1e-4})):
        method = recipe(trial("scion", **options))
        options_by_role = {claim.role: method.group(claim)["norm_options"] for claim in assign_roles(Encoder())}
        assert options_by_role == {key: {} for key in ("hidden", "bias", "gain", "output")} | {"input": expected}


class Experts(nn.Module):
    """A mixture's experts and their biases, as one tensor each; the head is as wide as the model."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Parameter(torch.zeros(4, 64, 32)), nn.Parameter(torch.zeros(4, 64, 32))
        self.bias = nn.Parameter(torch.zeros(4, 64))
        self.head = nn.Linear(32, 10, bias=False)


EXPERT_RULES = ["up=hidden,layout=out_in,batch=1", "down=hidden,layout=in_out,batch=1,blocks=2", "bias=bias,batch=1"]


@pytest.mark.parametrize("foreach", [None, False])
def test_every_expert_starts_on_and_moves_to_its_own_ball(foreach):
    model = Experts()
    groups = param_groups(model, rules=EXPERT_RULES)
    rows = table(explain(model, rules=EXPERT_RULES))
    assert rows[("up",)][:2] == rows[("down",)][:2] == ("hidden", "spectral")
    initialize(groups)
    size = 3 * 2**0.5  # ρ √(d_out/d_in)
    assert torch.allclose(torch.linalg.svdvals(model.up.detach()), torch.tensor(size))
    assert torch.allclose(
        torch.linalg.svdvals(model.down.detach().mT.unflatten(1, (2, 16))), torch.tensor(0.75**0.5 * 3 / 3**0.5)
    )
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    Scion(groups, lr=1.0, foreach=foreach).step()
    values = torch.linalg.svdvals(model.up.detach()) / size
    assert 0.65 < float(values.min()) <= float(values.max()) < 1.21
    assert model.bias.detach().square().mean(1).sqrt().tolist() == pytest.approx([1] * 4)


def test_blocks_may_have_different_sizes():
    model = nn.ModuleDict({"qkv": nn.Linear(64, 96, bias=False), "head": nn.Linear(64, 10, bias=False)})
    groups = param_groups(model, rules=[r"qkv\.weight=hidden,blocks=64+16+16"])
    initialize(groups)
    for part in model["qkv"].weight.detach().split((64, 16, 16)):
        assert torch.allclose(torch.linalg.svdvals(part), torch.tensor(3 * (part.shape[0] / 64) ** 0.5), rtol=1e-5)
    with pytest.raises(UserError, match=r"blocks: 64\+16\+8 is not allowed: their sum is not the output axis, 96"):
        param_groups(model, rules=[r"qkv\.weight=hidden,blocks=64+16+8"])


@pytest.mark.parametrize("preset", PRESETS)
def test_a_state_dict_carries_the_groups(preset, tmp_path):
    optimizer = Scion(param_groups(Encoder(), preset))
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    again = Scion(param_groups(Encoder(), preset))
    again.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    assert [group["names"] for group in again.param_groups] == [group["names"] for group in optimizer.param_groups]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "txt"}, r"preset: 'txt' is not known \(did you mean 'text'\?\)"),
        ({"radii": {"hiden": 1.0}}, r"radii: role: 'hiden' is not known \(did you mean 'hidden'\?\)"),
        ({"norms": {"head": "sign"}}, "norms: role: 'head' is not known"),
        ({"radii": {"hidden": -1.0}}, r"'.*in_proj_weight' \(hidden\): radius: -1.0 is not allowed"),
        ({"radii": {"hidden": "3"}}, r"\(hidden\): radius: '3' is not allowed: it must be a number"),
        ({"norms": {"output": "sing"}}, r"'head.weight' \(output\): norm: 'sing' is not known .*'sign'"),
        ({"norms": {"output": "bias"}}, r"'head.weight' \(output\): norm 'bias' measures tensors of 1 dim"),
        ({"rules": ["haed.weight=output"]}, "rule 'haed.weight' .* matches no parameter"),
        ({"rules": [Rule("hidden", ".*in_proj_weight", blocks=5)]}, "blocks: 5 is not allowed: it does not divide"),
        ({"rules": [Rule("hidden", ".*in_proj_weight", blocks=0)]}, "blocks: 0 is not allowed"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        param_groups(Encoder(), **options)


def test_what_is_not_a_model_is_refused():
    with pytest.raises(UserError, match=r"model: generator is not allowed: it must be a torch\.nn\.Module"):
        param_groups(Encoder().parameters())


def test_gains_of_several_dimensions_need_a_rule():
    model = nn.Sequential(nn.LayerNorm((2, 3)), nn.Flatten(), nn.Linear(6, 2))
    with pytest.raises(UnclaimedError, match=r"'0\.weight' of shape \(2, 3\) in LayerNorm") as error:
        param_groups(model)
    assert error.value.examples == (r"0\.weight=other", r"0\.bias=other")
    largest = param_groups(model, rules=[r"0\.(weight|bias)=gain,layout=out_in,norm=sign-onehot"])
    assert largest[0]["norm"] == "sign-onehot"
    with pytest.raises(UserError, match=r"'0\.weight' \(gain\): norm 'bias-max' measures .* not shape \(2, 3\)"):
        param_groups(model, rules=[r"0\.(weight|bias)=gain,layout=out_in"])


def test_the_package_exports_what_it_names():
    for name in scionlab.__all__:
        assert getattr(scionlab, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Scoin'"):
        scionlab.Scoin  # noqa: B018
