"""Muon where a tensor holds the transpose, several matrices or a batch of them: PyTorch's Muon on each, by hand."""

import math

import pytest
import torch
from small_models import trial
from torch import nn

from scionlab.errors import UserError
from scionlab.optim import recipe
from scionlab.optim.steps.layered_muon import LayeredMuon
from scionlab.optim.steps.scion import Scion
from scionlab.optim.steps.stacked import StackedMethod
from scionlab.roles.roles import assign_roles

# Products of batches may add in another order than single ones, in bfloat16, which has eight bits.
HALF = 2**-8
FORMS = {
    "plain": ((12, 8), {}),
    "transposed": ((8, 12), {"layout": "in_out"}),
    "fused, transposed": ((8, 12), {"layout": "in_out", "blocks": 3}),
    "unequal": ((12, 8), {"blocks": (6, 2, 4)}),
    "experts": ((3, 12, 8), {"batch": 1}),
    "experts, fused and transposed": ((3, 8, 12), {"batch": 1, "layout": "in_out", "blocks": 2}),
}
for_every_form = pytest.mark.parametrize(("shape", "form"), FORMS.values(), ids=FORMS.keys())
for_every_option = pytest.mark.parametrize("options", [{}, {"nesterov": False, "adjust_lr_fn": "match_rms_adamw"}])


def matrices(stored: torch.Tensor, form: dict) -> list[torch.Tensor]:
    """The matrices (d_out, d_in) that a tensor holds."""
    members = list(stored) if form.get("batch") else [stored]
    blocks = form.get("blocks", 1)
    turned = [member.T if form.get("layout") == "in_out" else member for member in members]
    return [part for x in turned for part in (x.split(blocks) if isinstance(blocks, tuple) else x.chunk(blocks))]


@for_every_form
@for_every_option
def test_every_matrix_takes_the_step_of_pytorchs_muon(shape, form, options):
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(shape, generator=generator))
    parts = [nn.Parameter(part.detach().clone()) for part in matrices(weight, form)]
    mine = LayeredMuon([{"params": [weight], **form}], lr=0.5, momentum=0.9, **options)
    theirs = torch.optim.Muon(parts, lr=0.5, momentum=0.9, **options)
    for _ in range(3):
        weight.grad = torch.randn(shape, generator=generator)
        for part, grad in zip(parts, matrices(weight.grad, form), strict=True):
            part.grad = grad.clone()
        mine.step()
        theirs.step()
    for found, expected in zip(matrices(weight.detach(), form), parts, strict=True):
        assert torch.allclose(found, expected.detach(), rtol=0, atol=10 * HALF)


@for_every_form
@for_every_option
def test_a_stack_takes_its_steps(shape, form, options):
    generator = torch.Generator().manual_seed(1)
    networks = [{"w": nn.Parameter(torch.randn(shape, generator=generator))} for _ in range(2)]
    rates = (0.5, 0.25)

    def alone(network, lr):
        return LayeredMuon([{"params": [network["w"]], **form}], lr=lr, momentum=0.9, **options)

    stack = StackedMethod(networks, [[alone(network, lr)] for network, lr in zip(networks, rates, strict=True)])
    optimizers = [alone(network, lr) for network, lr in zip(networks, rates, strict=True)]
    for _ in range(3):
        grads = torch.randn(2, *shape, generator=generator)
        stack.step({"w": grads}, torch.ones(2, dtype=torch.float64))
        for network, grad, optimizer in zip(networks, grads, optimizers, strict=True):
            network["w"].grad = grad
            optimizer.step()
    for found, network in zip(stack.weights["w"], networks, strict=True):
        assert torch.allclose(found, network["w"].detach(), rtol=0, atol=10 * HALF)


class Conv1D(nn.Module):
    """As in GPT-2: the weight is stored (d_in, d_out)."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(d_in, d_out))


def test_a_trials_muon_reads_rules_as_scion_does():
    model = nn.ModuleDict(
        {"c_attn": Conv1D(8, 24), "c_fc": Conv1D(8, 32), "plain": nn.Linear(8, 32), "head": nn.Linear(8, 5)}
    )
    claims = assign_roles(
        model, [r"c_attn\.weight=hidden,layout=in_out,blocks=3", r"c_fc\.weight=hidden,layout=in_out"]
    )
    plain, layered, adam = recipe(trial("muon", weight_decay=0.0)).optimizers(claims, lr=1.0, momentum=1.0, width=8)
    assert (type(plain), type(layered), type(adam)) == (torch.optim.Muon, LayeredMuon, torch.optim.AdamW)
    for parameter in model.parameters():
        parameter.data.zero_()
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    model["c_attn"].weight.grad[:, :8] *= 1e-3  # q has small gradients, and moves as far as k and v
    for optimizer in (plain, layered):
        optimizer.step()
    for name, parts in (("c_attn", 3), ("c_fc", 1)):
        for part in model[name].weight.detach().T.chunk(parts):
            values = torch.linalg.svdvals(part) / max(1, part.shape[0] / 8) ** 0.5  # √max(1, d_out/d_in)
            assert 0.6 < float(values.min()) <= float(values.max()) < 1.25
    assert torch.linalg.matrix_norm(model["plain"].weight.detach(), 2) == pytest.approx(2, rel=0.3)


def test_what_holds_no_matrices_is_refused():
    with pytest.raises(UserError, match=r"Muon: norm 'muon' measures tensors of 2 dimensions, not shape \(3, 4, 5\)"):
        LayeredMuon([torch.zeros(3, 4, 5)], lr=1.0)
    with pytest.raises(UserError, match=r"Muon: blocks: 5 is not allowed: it does not divide the output axis"):
        LayeredMuon([{"params": [torch.zeros(6, 8)], "blocks": 5}], lr=1.0)


@pytest.mark.parametrize("shape", [(8, 8), (32, 8), (8, 32)])
def test_rates_of_one_convention_are_those_of_another(shape):
    """docs/lr-between-optimizers.md: the same step of a matrix, with γ the rate of the original convention."""
    d_out, d_in = shape
    rate, radius, wide = 0.1, 3.0, math.sqrt(max(1, d_in / d_out))
    rates = {"original": rate, "match_rms_adamw": 5 * rate / math.sqrt(d_in), "spectral": rate * wide}
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    moved = {}
    for convention, its in rates.items():
        x = nn.Parameter(torch.zeros(shape))
        optimizer = LayeredMuon([x], lr=its, nesterov=False, weight_decay=0.0, adjust_lr_fn=convention)
        x.grad = grad.clone()
        optimizer.step()
        moved[convention] = x.detach()
    y = nn.Parameter(torch.zeros(shape))
    y.grad = grad.clone()
    Scion([y], lr=rate * wide / radius, radius=radius, constrained=False).step()
    for step in moved.values():
        torch.testing.assert_close(step, moved["original"], rtol=1e-5, atol=0)  # products of float32
    # Scion iterates in float32, Muon in bfloat16: a few of its roundings
    assert float((y.detach() - moved["original"]).norm() / y.detach().norm()) < 3 * torch.finfo(torch.bfloat16).eps
    size = float(moved["original"].square().mean().sqrt())
    assert size == pytest.approx(rate / math.sqrt(d_in), rel=0.25)  # O's singular values lie between 0.7 and 1.2
