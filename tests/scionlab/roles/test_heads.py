"""Which layer is the output: only a name or the forward pass of nn.Sequential tells, and otherwise the caller does."""

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from scionlab import explain, initialize, param_groups
from scionlab.errors import UserError
from scionlab.roles.roles import UnclaimedError, assign_roles

ASKS = "roles: which parameter is the output"


def linear() -> nn.Linear:
    return nn.Linear(4, 4, bias=False)


class Parts(nn.Module):
    """Modules by name, in the order of their definition; how forward calls them, nobody knows."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class Tied(Parts):
    """The head is the embedding, used by hand."""

    def __init__(self) -> None:
        super().__init__(embed=nn.Embedding(11, 4), up=linear(), down=linear())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        return (x + self.down(self.up(x).relu())) @ self.embed.weight.T


def outputs(model: nn.Module, *rules: str) -> list[str]:
    return [claim.names[0] for claim in assign_roles(model, rules) if claim.role == "output"]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Parts(head=linear(), body=linear()), ["head.weight"]),  # wherever it is defined
        (Parts(body=linear(), head=linear(), lm_head=linear()), ["head.weight", "lm_head.weight"]),
        (Parts(blocks=nn.ModuleList([Parts(head=linear())]), head=linear()), ["head.weight"]),
        (Parts(attention=Parts(head=linear()), lm_head=linear()), ["lm_head.weight"]),
        (Parts(body=linear(), decoder=Parts(lm_head=linear())), ["decoder.lm_head.weight"]),
        (nn.DataParallel(Parts(head=linear(), body=linear())), ["module.head.weight"]),
        (linear(), ["weight"]),
        (Parts(matrix=linear()), ["matrix.weight"]),  # all there is
        (nn.Sequential(linear(), nn.ReLU(), linear(), nn.Softmax(-1)), ["2.weight"]),
        (nn.Sequential(linear(), nn.Sequential(linear(), nn.Flatten())), ["1.0.weight"]),
        (nn.Sequential(Parts(body=linear()), checkpoint_wrapper(linear())), ["1._checkpoint_wrapped_module.weight"]),
        (torch.compile(nn.Sequential(linear(), linear()), backend="eager"), ["_orig_mod.1.weight"]),
    ],
)  # fmt: skip
def test_a_name_or_the_order_of_sequential_tells_the_output(model, expected):
    assert outputs(model) == expected
    others = [claim.role for claim in assign_roles(model) if claim.names[0] not in expected]
    assert set(others) <= {"hidden"}


@pytest.mark.parametrize(
    "model",
    [
        Parts(embed=nn.Embedding(3, 4), classify=linear()),
        Parts(unembed=linear(), body=linear()),  # defined before the body
        Parts(body=linear(), policy=linear(), value=linear()),
        Parts(blocks=nn.ModuleList([Parts(head=linear()), Parts(head=linear())]), out=linear()),
        Parts(blocks=nn.ModuleList([Parts(up=linear(), head=linear())])),
        Parts(attention=Parts(head=linear()), out=linear()),
        Parts(left=Parts(head=linear()), right=Parts(head=linear())),
        nn.Sequential(linear(), nn.LayerNorm(4)),
        nn.Sequential(linear(), Parts(a=linear(), b=linear())),
        nn.ModuleList([linear(), linear()]),
        Tied(),
        Parts(embed=nn.Embedding(3, 4), attention=nn.MultiheadAttention(4, 2)),  # the embedding may be the head
    ],
)
def test_where_only_the_order_of_definition_is_left_it_is_asked(model):
    with pytest.raises(UserError, match=ASKS):
        assign_roles(model)


def test_the_question_names_rules_that_settle_it():
    with pytest.raises(UserError) as asked:
        explain(Tied())
    assert r"'down\.weight=output' if it is the last one defined" in str(asked.value)
    assert r"'embed\.weight=output' if the embedding serves as the head, too" in str(asked.value)
    assert outputs(Tied(), r"down\.weight=output") == ["down.weight"]
    assert outputs(Tied(), r"embed\.weight=output") == ["embed.weight"]
    assert outputs(Tied(), r"(up|down)\.weight=hidden", r"embed\.weight=input") == []  # none is
    with pytest.raises(UserError, match=ASKS):
        assign_roles(Tied(), [r"down\.weight=hidden"])  # which says what the last one is not


def test_what_has_neither_linear_layers_nor_embeddings_is_not_asked_about():
    for model in (nn.LSTM(4, 4), nn.MultiheadAttention(4, 2), nn.Conv2d(3, 3, 3), nn.Embedding(3, 4)):
        assert outputs(model) == []


def test_the_part_belongs_to_the_layer_and_nobody_inherits_it_when_it_is_frozen():
    model = nn.Sequential(linear(), linear())
    model[1].weight.requires_grad_(False)
    assert [claim.role for claim in assign_roles(model)] == ["hidden"]


def test_the_question_comes_with_the_parameters_that_nothing_claims():
    with pytest.raises(UnclaimedError) as caught:
        assign_roles(Parts(body=linear(), out=linear(), activation=nn.PReLU()))
    assert [use.name for use in caught.value.uses] == ["activation.weight"]
    assert r"'out\.weight=output'" in caught.value.question
    assert caught.value.question in str(caught.value)


def test_a_head_tied_by_hand_learns_from_an_output_at_zero():
    model = Tied()
    initialize(param_groups(model, rules=[r"embed\.weight=output"]), output_init=0.0)
    nn.functional.cross_entropy(model(torch.arange(8)), torch.arange(1, 9)).backward()
    assert all(bool(parameter.grad.any()) for parameter in model.parameters())
    assert bool(model.embed.weight.any())


def test_the_question_names_the_last_layer_of_any_kind():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.time, self.last = nn.Conv2d(3, 8, 3), nn.Linear(4, 8), nn.Conv2d(8, 3, 3)

    with pytest.raises(UserError, match=r"such as 'last\\.weight=output' if it is the last one defined"):
        assign_roles(Net(), preset="image")
    claims = assign_roles(Net(), ["last.weight=output"], preset="image")
    assert [claim.role for claim in claims if claim.parameter.ndim > 1] == ["input", "hidden", "output"]
