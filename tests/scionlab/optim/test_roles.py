"""The roles of parameters: by the caller's rules, else by module type and order."""

import pytest
import torch
from small_models import Small, gpt_claims
from torch import nn

from scionlab.errors import UserError
from scionlab.geometry import NORMS, norm_named
from scionlab.models.gpt import GPT, GPTConfig
from scionlab.optim.presets import PRESETS, norm_for, role_preset
from scionlab.optim.roles import UnclaimedError, assign_roles
from scionlab.optim.rules import ROLES, Rule

SMALL = {
    "embed.weight": "input",
    "hidden.weight": "hidden",
    "hidden.bias": "bias",
    "norm.weight": "gain",
    "norm.bias": "bias",
    "head.weight": "output",
    "head.bias": "bias",
}
MATRICES = ("attention.q", "attention.k", "attention.v", "attention.out", "mlp.up", "mlp.down")


def parts(model: nn.Module, *rules: Rule, **options):
    """(role, layout, blocks) of every name."""
    claims = assign_roles(model, rules, **options)
    return {name: (claim.role, claim.layout, claim.blocks) for claim in claims for name in claim.names}


def roles(model: nn.Module, *rules: Rule, **options):
    return {name: role for name, (role, _, _) in parts(model, *rules, **options).items()}


def test_roles_of_every_gpt_parameter():
    found = {claim.names: (claim.role, claim.layout, claim.blocks) for claim in gpt_claims()}
    hidden = {(f"blocks.{b}.{name}.weight",): ("hidden", "out_in", 1) for b in (0, 1) for name in MATRICES}
    assert found == {
        ("embed.weight",): ("input", "in_out", 1),
        **hidden,
        ("head.weight",): ("output", "out_in", 1),
    }


def test_a_tied_matrix_is_one_claim_and_plays_the_output():
    claims = gpt_claims(tied=True)
    (shared,) = (claim for claim in claims if claim.role != "hidden")
    assert shared.names == ("embed.weight", "head.weight")
    assert (shared.role, shared.layout) == ("output", "out_in")
    assert shared.reason == "nn.Linear called head"
    assert len(claims) == 13


def test_roles_of_gains_and_biases():
    assert roles(Small()) == SMALL


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")], ids=["module.", "_orig_mod."]
)
def test_what_wrappers_put_into_names_changes_nothing(wrap):
    model = Small()
    assert list(roles(wrap(model)).values()) == list(SMALL.values())
    rule = Rule("input", name=r"hidden\.weight")
    assert list(roles(wrap(model), rule).values()) == list(roles(model, rule).values())


def test_a_compiled_part_keeps_its_role():
    model = Small()
    model.head = torch.compile(model.head, backend="eager")
    assert list(roles(model).values()) == list(SMALL.values())


def test_frozen_parameters_have_no_role():
    model = Small()
    model.embed.weight.requires_grad_(False)
    assert "input" not in roles(model).values()


def test_without_a_head_by_name_the_last_linear_layer_is_the_output():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.LayerNorm(6), nn.Conv1d(6, 6, 1))
    found = {claim.names[0]: (claim.role, claim.reason) for claim in assign_roles(model) if claim.role != "bias"}
    assert found == {
        "0.weight": ("hidden", "nn.Linear"),
        "2.weight": ("output", "last nn.Linear"),
        "3.weight": ("gain", "nn.LayerNorm"),
        "4.weight": ("hidden", "nn.Conv1d"),
    }
    model[2].weight.requires_grad_(False)  # the part belongs to the layer; nobody inherits it
    assert roles(model)["0.weight"] == "hidden"


def test_a_head_by_name_is_the_output_wherever_it_stands():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lm_head = nn.Linear(4, 9)
            self.body = nn.Linear(4, 4)

    assert roles(Model())["lm_head.weight"] == "output"
    assert roles(Model())["body.weight"] == "hidden"


@pytest.mark.parametrize(("preset", "first"), [("text", "hidden"), ("text-tied", "hidden"), ("image", "input")])
@pytest.mark.parametrize("layer", [nn.Conv2d(3, 8, 3), nn.Linear(3, 8), nn.Conv1d(3, 8, 3), nn.Conv3d(3, 8, 3)])
def test_the_first_layer_of_an_image_model_is_its_input(preset, first, layer):
    model = nn.Sequential(layer, nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 8), nn.Linear(8, 2))
    found = roles(model, preset=preset)
    weights = [found[f"{i}.weight"] for i in (0, 1, 2, 4, 5)]
    assert weights == [first, "gain", "hidden", "hidden", "output"]


def test_one_layer_is_an_output():
    assert roles(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), preset="image")["1.weight"] == "output"


def test_fused_matrices_are_blocks():
    attention = nn.MultiheadAttention(8, 2)
    found = parts(nn.ModuleList([nn.Linear(8, 8), attention]))
    assert found["1.in_proj_weight"] == ("hidden", "out_in", 3)
    assert found["1.out_proj.weight"] == ("hidden", "out_in", 1)
    assert found["0.weight"][0] == "output"  # the last one that is not a part of attention
    unequal = parts(nn.MultiheadAttention(8, 2, kdim=4, vdim=6))
    assert {unequal[f"{x}_proj_weight"] for x in "qkv"} == {("hidden", "out_in", 1)}


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_gates_are_blocks(kind, gates):
    found = parts(kind(4, 6, num_layers=2, bidirectional=True))
    weights = {name: part for name, part in found.items() if name.startswith("weight")}
    assert len(weights) == 8
    assert set(weights.values()) == {("hidden", "out_in", gates)}
    assert {role for name, (role, _, _) in found.items() if name not in weights} == {"bias"}


def test_a_projected_lstm_and_a_cell():
    assert parts(nn.LSTM(4, 6, proj_size=2))["weight_hr_l0"] == ("hidden", "out_in", 1)
    assert parts(nn.LSTMCell(4, 6))["weight_hh"] == ("hidden", "out_in", 4)


def test_the_groups_of_a_convolution_are_blocks():
    assert parts(nn.Conv2d(6, 9, 3, groups=3))["weight"] == ("hidden", "out_in", 3)


def test_parameters_without_a_known_part_are_all_named():
    model = nn.Sequential(nn.ConvTranspose2d(1, 2, 3, bias=False), nn.Linear(2, 2), nn.PReLU())
    with pytest.raises(UnclaimedError) as caught:
        assign_roles(model)
    message = str(caught.value)
    assert "'0.weight' of shape (1, 2, 3, 3) in ConvTranspose2d is claimed by no rule (and 1 more)" in message
    assert [use.name for use in caught.value.uses] == ["0.weight", "2.weight"]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.Bilinear(2, 3, 4), "weight"),
        (nn.PReLU(), "weight"),
        (nn.MultiheadAttention(4, 2, add_bias_kv=True), "bias_k"),  # called bias, but no vector
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)), "parametrizations.weight.original0"),
    ],
)
def test_nothing_is_guessed(module, name):
    with pytest.raises(UnclaimedError, match=f"'{name}'"):
        assign_roles(module)


def test_a_parameter_without_a_shape_is_named():
    with pytest.raises(UserError, match=r"'0\.weight' has no shape yet"):
        assign_roles(nn.Sequential(nn.LazyLinear(3)))


def test_a_rule_that_matches_nothing_is_named():
    with pytest.raises(UserError, match="rule 'haed' for role 'hidden' matches no parameter"):
        assign_roles(Small(), [Rule("hidden", name="haed")])


def test_the_first_rule_that_matches_wins():
    first, second = Rule("output", name=r"hidden\.weight"), Rule("input", name=r"hidden\.weight|embed\.weight")
    found = roles(Small(), first, second)
    assert (found["hidden.weight"], found["embed.weight"], found["head.weight"]) == ("output", "input", "output")


def test_rules_may_select_by_module_and_dimension_without_the_defaults():
    rules = [Rule("bias", ndim=1), Rule("input", module=nn.Embedding), Rule("hidden", ndim=2)]
    claims = assign_roles(Small(), rules, defaults=False)
    assert [claim.role for claim in claims] == ["input", "hidden", "bias", "bias", "bias", "hidden", "bias"]


def test_a_rule_keeps_the_layout_and_the_blocks_of_its_module():
    rules = [Rule("hidden", name=".*(in_proj_weight|embed.weight)"), Rule("output", name="other.weight")]
    model = nn.ModuleDict(
        {"attention": nn.MultiheadAttention(8, 2), "embed": nn.Embedding(3, 8), "other": nn.Embedding(3, 8)}
    )
    found = parts(model, *rules)
    assert found["attention.in_proj_weight"] == ("hidden", "out_in", 3)
    assert found["embed.weight"] == ("hidden", "in_out", 1)
    assert found["other.weight"] == ("output", "out_in", 1)  # as a head, (vocabulary, width) is (d_out, d_in)
    split = parts(model, Rule("hidden", name=".*in_proj_weight", blocks=6), *rules[1:])
    assert split["attention.in_proj_weight"] == ("hidden", "out_in", 6)


class Transposed(nn.Module):
    """Somebody's own layer: nothing says which axis is the input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 6))
        self.scale = nn.Parameter(torch.ones(6))


def test_a_rule_for_an_unknown_module_must_say_the_layout():
    gain = Rule("gain", name="scale")
    with pytest.raises(UserError, match=r"claims 'weight' of shape \(2, 6\) in Transposed.*give the rule a layout"):
        assign_roles(Transposed(), [gain, Rule("hidden", name="weight")])
    rule = Rule("hidden", name="weight", layout="in_out", blocks=3)
    assert parts(Transposed(), gain, rule)["weight"] == ("hidden", "in_out", 3)


def test_a_rule_decides_about_a_shared_matrix():
    model = GPT(GPTConfig(width=32, depth=1, tied=True))
    (shared, *_) = assign_roles(model, [Rule("input", name=r"embed\.weight", norm="row", radius=2.0)])
    assert (shared.role, shared.layout, shared.norm, shared.radius) == ("input", "in_out", "row", 2.0)
    assert shared.names == ("embed.weight", "head.weight")
    assert "rule" in shared.reason


def test_a_shared_matrix_with_several_parts_and_no_output_needs_a_rule():
    model = nn.ModuleDict({"embed": nn.Embedding(4, 4), "mix": nn.Linear(4, 4, bias=False), "head": nn.Linear(4, 4)})
    model["mix"].weight = model["embed"].weight
    with pytest.raises(UserError, match=r"several parts \(input as 'embed.weight', hidden as 'mix.weight'\)"):
        assign_roles(model)
    assert roles(model, Rule("hidden", name="mix.weight"))["embed.weight"] == "hidden"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            r".*c_attn\.weight=hidden,layout=in_out,blocks=3",
            Rule("hidden", r".*c_attn\.weight", layout="in_out", blocks=3),
        ),
        ("a=bias", Rule("bias", "a")),
        (r"(?=b)b{1,2}=gain,norm=bias,radius=2e-1", Rule("gain", r"(?=b)b{1,2}", norm="bias", radius=0.2)),
        ("=other", Rule("other", "")),
    ],
)
def test_a_rule_can_be_text(text, rule):
    assert Rule.of(text) == rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=hiden", r"rule: 'a=hiden' is not allowed: it must read REGEX=ROLE\[,layout=out_in\|in_out\]"),
        ("a", "rule: 'a' is not allowed"),
        ("a=hidden,layuot=in_out", r"option: 'layuot' is not known \(did you mean 'layout'\?\)"),
        ("a=hidden,layout=inout", "rule: layout: 'inout' is not known"),
        ("a=hidden,blocks=three", "blocks: 'three' is not allowed: it must be a number"),
        ("(=hidden", "is not a regular expression"),
    ],
)
def test_a_text_that_is_no_rule_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        Rule.of(text)


def test_examples_are_rules_that_claim_what_nothing_claims_and_nothing_else():
    model = nn.ModuleDict(
        {
            "up": nn.ModuleList([nn.ConvTranspose2d(4, 2, 2) for _ in range(12)]),
            "mixed": nn.Sequential(nn.Linear(2, 2), nn.PReLU()),  # one pattern, of which one is claimed
            "several": nn.Sequential(nn.PReLU(), nn.ConvTranspose1d(2, 2, 1), nn.ConvTranspose2d(4, 4, 1, groups=2)),
            "token": nn.ParameterList([torch.zeros(1, 1, 4)]),
        }
    )
    with pytest.raises(UnclaimedError) as caught:
        assign_roles(model)
    assert caught.value.examples == (
        r"up\.\d+\.weight=hidden,layout=in_out",
        r"mixed\.1\.weight=gain",
        r"several\.0\.weight=gain",
        r"several\.1\.weight=hidden,layout=in_out",
        r"several\.2\.weight=other",  # its blocks lie along the input
        r"token\.\d+=other",
    )
    found = roles(model, *map(Rule.of, caught.value.examples))
    assert (found["mixed.0.weight"], found["up.11.weight"], found["token.0"]) == ("output", "hidden", "other")
    assert assign_roles(model, caught.value.examples)  # texts do as well


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"role": "hiden"}, "rule: role: 'hiden' is not known .*'hidden'"),
        ({"role": "hidden", "layout": "inout"}, "rule: layout: 'inout' is not known"),
        ({"role": "hidden", "name": "a("}, r"rule: name: 'a\(' is not a regular expression"),
    ],
)
def test_rules_are_checked_when_they_are_made(fields, message):
    with pytest.raises(UserError, match=message):
        Rule(**fields)


def test_a_preset_that_does_not_exist_is_named():
    with pytest.raises(UserError, match=r"preset: 'texts' is not known \(did you mean 'text'\?\)"):
        assign_roles(Small(), preset="texts")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_a_norm_and_a_radius_for_every_role(name):
    preset = role_preset(name)
    assert set(preset.norms) == set(preset.radii) == set(ROLES)
    for role, norm in preset.norms.items():
        assert NORMS[norm].ndim == (1 if role in ("bias", "gain") else 2)


@pytest.mark.parametrize("ndim", [3, 4, 5])
def test_the_norms_of_the_presets_have_counterparts_for_convolutions(ndim):
    for norm in ("spectral", "spectral-max"):
        assert norm_named(norm_for(norm, ndim)).ndim == ndim
    assert norm_for(norm_for("spectral", ndim), ndim) == norm_for("spectral", ndim)


def test_every_matrix_norm_has_a_counterpart_for_images():
    for norm in [known for known, made in NORMS.items() if made.ndim == 2]:
        assert norm_for(norm, 2) == norm
        assert norm_named(norm_for(norm, 4)).ndim == 4
    assert (norm_for("spectral", 4), norm_for("spectral-max", 4), norm_for("sign", 4)) == (
        "conv", "conv-max", "flat:sign",
    )  # fmt: skip
    with pytest.raises(UserError, match=r"norm: 'sign' is not allowed for a weight of 3 dimensions: .* spectral"):
        norm_for("sign", 3)
