"""The roles of parameters: by the caller's rules, else by module type and order."""

import pytest
import torch
from small_models import Small, gpt_claims
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from scionlab.errors import UserError
from scionlab.geometry import NORMS, norm_named
from scionlab.problems.models.gpt import GPT, GPTConfig
from scionlab.roles.presets import PRESETS, norm_for, role_preset
from scionlab.roles.roles import UnclaimedError, assign_roles
from scionlab.roles.rules import ROLES, Rule

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
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        checkpoint_wrapper,
        lambda model: nn.ModuleDict({"_fsdp_wrapped_module": model}),
        lambda model: nn.DataParallel(checkpoint_wrapper(torch.compile(model, backend="eager"))),
    ],
    ids=["module.", "_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.", "several"],
)
def test_what_wrappers_put_into_names_changes_nothing(wrap):
    model = Small()
    assert list(roles(wrap(model)).values()) == list(SMALL.values())
    rule = Rule("input", name=r"hidden\.weight")
    assert list(roles(wrap(model), rule).values()) == list(roles(model, rule).values())


@pytest.mark.parametrize("wrap", [lambda part: torch.compile(part, backend="eager"), checkpoint_wrapper])
def test_a_wrapped_part_keeps_its_role(wrap):
    model = Small()
    model.head, model.hidden = wrap(model.head), wrap(model.hidden)
    assert list(roles(model).values()) == list(SMALL.values())
    assert list(roles(model, Rule("output", name=r"hidden\.weight")).values())[1] == "output"


def test_frozen_parameters_have_no_role():
    model = Small()
    model.embed.weight.requires_grad_(False)
    assert "input" not in roles(model).values()


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
    found = parts(nn.ModuleDict({"attention": attention, "head": nn.Linear(8, 8)}))
    assert found["attention.in_proj_weight"] == ("hidden", "out_in", 3)
    assert found["attention.out_proj.weight"] == ("hidden", "out_in", 1)
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
        (nn.ParameterDict({"dt_bias": torch.ones(3)}), "dt_bias"),  # of a state-space model, where no zero belongs
        (nn.ModuleDict({"dt_proj": nn.Linear(2, 3), "head": nn.Linear(3, 3)}), "dt_proj.bias"),
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


def test_a_matrix_is_shared_where_it_has_several_names_or_embeds_and_is_the_output():
    def shared(model: nn.Module, *rules: str) -> list[str]:
        return [claim.names[0] for claim in assign_roles(model, rules) if claim.shared]

    assert shared(GPT(GPTConfig(width=32, depth=1, tied=True))) == ["embed.weight"]
    assert shared(Small()) == []
    by_hand = r"embed\.weight=output"  # logits = h @ embed.weight.T
    assert shared(Small(), by_hand) == ["embed.weight"]
    assert shared(Small(), by_hand + ",shared=no") == []  # nothing is looked up in it
    assert shared(Small(), r"head\.weight=output,shared=yes") == ["head.weight"]
    assert shared(nn.ParameterDict({"wte": torch.zeros(9, 4)}), "wte=output,layout=out_in,shared=yes") == ["wte"]


@pytest.mark.parametrize("module", [nn.Embedding(9, 4, padding_idx=-2), nn.EmbeddingBag(9, 4, padding_idx=7)])
def test_an_embedding_has_a_row_for_padding_whatever_its_role(module):
    for rules in ([], ["weight=output"], ["weight=hidden,layout=in_out"]):
        (claim,) = assign_roles(module, rules)
        assert claim.padding == 7
    assert (claim.role, parts(module)["weight"]) == ("hidden", ("input", "in_out", 1))
    assert assign_roles(nn.Embedding(9, 4))[0].padding is None


def test_a_vector_called_bias_is_one_and_others_only_in_modules_of_pytorch():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias, self.q_bias = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
            self.fused = nn.MultiheadAttention(4, 2)

    with pytest.raises(UnclaimedError) as caught:
        assign_roles(Attention())
    assert [use.name for use in caught.value.uses] == ["q_bias"]
    found = roles(Attention(), *map(Rule.of, caught.value.examples))
    assert {found[name] for name in ("bias", "q_bias", "fused.in_proj_bias", "fused.out_proj.bias")} == {"bias"}


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
        ("qkv=hidden,blocks=64+16+16", Rule("hidden", "qkv", blocks=(64, 16, 16))),
        ("w=hidden,layout=out_in,batch=1", Rule("hidden", "w", layout="out_in", batch=1)),
        ("wte=output,shared=yes", Rule("output", "wte", shared=True)),
        ("wte=output,shared=no", Rule("output", "wte", shared=False)),
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
        ("a=hidden,blocks=64+x", r"blocks: '64\+x' is not allowed: it must be a number, or the rows of every block"),
        ("a=hidden,batch=one", "batch: 'one' is not allowed: it must be a number"),
        ("a=output,shared=true", "shared: 'true' is not allowed: it must be yes or no"),
        ("(=hidden", "is not a regular expression"),
    ],
)
def test_a_text_that_is_no_rule_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        Rule.of(text)


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
