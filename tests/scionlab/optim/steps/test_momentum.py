"""A momentum that schedulers write in the other convention, or that ScionLight could not follow, is refused."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from scionlab.errors import UserError
from scionlab.optim.steps.scion import Scion, ScionLight
from scionlab.optim.steps.shampoo import Shampoo

CYCLES = {
    "OneCycleLR": lambda optimizer, **ends: OneCycleLR(optimizer, max_lr=0.05, total_steps=10, **ends),
    "CyclicLR": lambda optimizer, **ends: CyclicLR(optimizer, 0.01, 0.05, **ends),
}
for_every_cycle = pytest.mark.parametrize("cycle", CYCLES.values(), ids=CYCLES.keys())
for_every_kind = pytest.mark.parametrize("kind", [Scion, ScionLight, Shampoo])


def made(kind: type[torch.optim.Optimizer]) -> tuple[torch.optim.Optimizer, nn.Parameter]:
    weight = nn.Parameter(torch.eye(3))
    weight.grad = torch.ones(3, 3)
    return kind([weight], lr=2**-6, momentum=0.1), weight


@for_every_kind
@for_every_cycle
def test_a_cycle_in_the_other_convention_is_refused_before_anything_moves(kind, cycle):
    optimizer, weight = made(kind)
    cycle(optimizer)
    before = weight.detach().clone()
    message = (
        rf"{kind.__name__.removesuffix('Light')}: momentum: OneCycleLR or CyclicLR moves it between 0.8\d? and 0.9"
    )
    with pytest.raises(UserError, match=message):
        optimizer.step()
    assert torch.equal(weight, before)


@pytest.mark.parametrize("kind", [Scion, Shampoo])
@for_every_cycle
@pytest.mark.parametrize("ends", [{"cycle_momentum": False}, {"base_momentum": 0.05, "max_momentum": 0.2}])
def test_without_a_cycle_or_in_this_convention_it_steps(kind, cycle, ends):
    optimizer, weight = made(kind)
    scheduler = cycle(optimizer, **ends)
    optimizer.step()
    scheduler.step()
    optimizer.step()
    assert 0.05 <= optimizer.param_groups[0]["momentum"] <= 0.2
    assert not torch.equal(weight, torch.eye(3))


def test_scion_light_keeps_the_momentum_of_its_first_step():
    optimizer, weight = made(ScionLight)
    optimizer.param_groups[0]["momentum"] = 0.25  # before the first step it is free
    optimizer.step()
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.param_groups[0]["momentum"] = 0.5
    before = weight.detach().clone()
    for changed in (optimizer, made(ScionLight)[0]):
        if changed is not optimizer:
            changed.load_state_dict(saved)
            changed.param_groups[0]["momentum"] = 0.5
        with pytest.raises(
            UserError, match=r"ScionLight: momentum: 0\.5 is not allowed: it was 0\.25 in the steps before"
        ):
            changed.step()
    assert torch.equal(weight, before)
    optimizer.param_groups[0]["momentum"] = 0.25
    optimizer.step()
    assert not torch.equal(weight, before)
