"""Rules to copy: right where a module or a name tells the part, and `other` where it does not."""

import pytest
import torch
from torch import nn

from scionlab.geometry import layer_of
from scionlab.optim.recipes.conditional import ScionRecipe
from scionlab.roles.roles import UnclaimedError, assign_roles
from scionlab.roles.rules import Rule


def holding(kind: str = "Own", **tensors: torch.Tensor) -> nn.Module:
    """A module of a class called `kind` that is not PyTorch's, with these parameters."""
    module = type(kind, (nn.Module,), {})()
    for name, tensor in tensors.items():
        module.register_parameter(name, nn.Parameter(tensor))
    return module


def suggested(model: nn.Module) -> dict[str, str]:
    """What is suggested, by the rule's name."""
    with pytest.raises(UnclaimedError) as caught:
        assign_roles(model)
    assert assign_roles(model, caught.value.examples)  # they may be used as they are
    return dict(text.rsplit("=", 1) if "," not in text else text.split("=", 1) for text in caught.value.examples)


def test_examples_are_rules_that_claim_what_nothing_claims_and_nothing_else():
    model = nn.ModuleDict(
        {
            "up": nn.ModuleList([nn.ConvTranspose2d(4, 2, 2) for _ in range(12)]),
            "mixed": nn.Sequential(nn.LayerNorm(2), holding("RMSNorm", weight=torch.ones(2))),  # one of them is claimed
            "several": nn.Sequential(nn.PReLU(), nn.ConvTranspose1d(2, 2, 1), nn.ConvTranspose2d(4, 4, 1, groups=2)),
            "token": nn.ParameterList([torch.zeros(1, 1, 4)]),
        }
    )
    with pytest.raises(UnclaimedError) as caught:
        assign_roles(model)
    assert caught.value.examples == (
        r"up\.\d+\.weight=hidden,layout=in_out",
        r"mixed\.1\.weight=gain",
        r"several\.0\.weight=other",
        r"several\.1\.weight=hidden,layout=in_out",
        r"several\.2\.weight=other",  # its blocks lie along the input
        r"token\.\d+=other",
    )
    claims = assign_roles(model, list(map(Rule.of, caught.value.examples)))
    found = {name: claim.role for claim in claims for name in claim.names}
    assert (found["mixed.0.weight"], found["up.11.weight"], found["token.0"]) == ("gain", "hidden", "other")


@pytest.mark.parametrize(
    ("module", "name", "part"),
    [
        (holding(wpe=torch.randn(16, 8)), "wpe", "input,layout=in_out"),
        (holding(pos_embed=torch.randn(16, 8)), "pos_embed", "input,layout=in_out"),
        (holding(positional_embedding=torch.randn(16, 8)), "positional_embedding", "input,layout=in_out"),
        (holding(pos_embed=torch.randn(1, 16, 8)), "pos_embed", "other"),
        (holding(A_log=torch.randn(16, 8)), "A_log", "other"),
        (holding("Mamba", A_log=torch.ones(16)), "A_log", "other"),
        (holding("Mamba", D=torch.ones(16)), "D", "other"),
        (holding("Mamba", dt_bias=torch.zeros(16)), "dt_bias", "other"),
        (holding("LayerScale", gamma=torch.full((8,), 1e-5)), "gamma", "other"),
        (holding("LlamaRMSNorm", weight=torch.ones(8)), "weight", "gain"),
        (holding("LlamaRMSNorm", weight=torch.randn(8)), "weight", "gain"),  # of a trained model
        (holding(scale=torch.ones(8)), "scale", "gain"),
        (holding(scale=torch.zeros(8, device="meta")), "scale", "other"),
        (holding(weight=torch.randn(6, 8)), "weight", "other"),  # either way round
        (holding("Conv1D", weight=torch.randn(6, 8)), "weight", "hidden,layout=in_out"),
        (holding(q_bias=torch.zeros(8)), "q_bias", "bias"),
        (nn.Bilinear(2, 3, 4, bias=False), "weight", "other"),
        (nn.PReLU(), "weight", "other"),  # at 0.25
        (holding(w=torch.randn(4, 64, 32)), "w", "other"),  # experts, a kernel, ...
    ],
)
def test_what_is_suggested(module, name, part):
    assert suggested(module) == {name: part}


@pytest.mark.parametrize("name", ["gate_up_proj", "gate_up", "up_gate", "gateup_weight", "mlp_gate_up"])
def test_gate_and_up_of_experts_are_two_blocks_where_the_name_says_so(name):
    """As in transformers' Mixtral and Qwen3-MoE, whose first half of the rows is the gate."""
    model = holding("Experts", **{name: torch.randn(4, 96, 32), "down_proj": torch.randn(4, 32, 48)})
    found = suggested(model)
    assert found == {name: "hidden,layout=out_in,blocks=2,batch=1", "down_proj": "hidden,layout=out_in,batch=1"}
    claims = assign_roles(model, [f"{key}={part}" for key, part in found.items()])
    gate, up = getattr(model, name).detach()[:, :48], getattr(model, name).detach()[:, 48:]
    layer = layer_of(ScionRecipe(norm_hidden="spectral-exact").group(claims[0]))
    spectra = [torch.linalg.svdvals(half).amax() * (32 / 48) ** 0.5 for half in (gate, up)]
    torch.testing.assert_close(layer.measure(getattr(model, name).detach()), max(spectra))


@pytest.mark.parametrize("name", ["w13", "gate_proj", "up_proj", "gate", "update_gate_proj", "gate_update"])
def test_fused_experts_of_another_name_are_one_matrix_each(name):
    found = suggested(holding("Experts", **{name: torch.randn(4, 96, 32), "down_proj": torch.randn(4, 32, 48)}))
    assert found == dict.fromkeys([name, "down_proj"], "hidden,layout=out_in,batch=1")


def test_a_name_alone_makes_no_blocks():
    """What is called gate and up but leads back to d."""
    found = suggested(holding("Experts", first=torch.randn(4, 96, 32), gate_up=torch.randn(4, 32, 48)))
    assert found == dict.fromkeys(["first", "gate_up"], "hidden,layout=out_in,batch=1")


def test_gate_and_up_along_the_last_axis_are_not_cut():
    """GPT-OSS interleaves their columns, Llama 4 does not, and both call them the same."""
    found = suggested(holding("Experts", gate_up_proj=torch.randn(4, 32, 96), down_proj=torch.randn(4, 48, 32)))
    assert found == dict.fromkeys(["gate_up_proj", "down_proj"], "hidden,layout=in_out,batch=1")


@pytest.mark.parametrize(
    ("up", "down"), [((4, 48, 32), (4, 32, 48)), ((4, 64, 32), (4, 32, 32)), ((4, 8, 2), (3, 2, 4))]
)
def test_experts_that_may_be_stored_either_way_round_are_not_guessed(up, down):
    found = suggested(holding("Experts", up=torch.randn(up), down=torch.randn(down)))
    if up == (4, 64, 32):  # 2 f × d before d × f, with f = d: it leads from d to 2 d only one way
        assert set(found.values()) == {"hidden,layout=out_in,batch=1"}
    else:
        assert set(found.values()) == {"other"}
