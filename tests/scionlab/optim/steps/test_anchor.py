"""The pull to the start around optimizers of ours and of PyTorch: its formula, its identity with Scion, its state."""

import copy
import io

import pytest
import torch
from small_models import Small, trial
from torch import nn

from scionlab.errors import UserError
from scionlab.optim import Scion, ScionLight, method_of
from scionlab.optim.steps.anchor import Anchor, fade
from scionlab.roles.roles import assign_roles

ROUNDING = 1e-12  # of float64 sums of a few dozen terms of size 1
SHAPE = (6, 4)


def start() -> nn.Parameter:
    return nn.Parameter(torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64))


def gradients(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(count)]


def step(optimizer: torch.optim.Optimizer, grad: torch.Tensor) -> torch.Tensor:
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.grad = grad.clone()
    optimizer.step()
    return parameter.detach().clone()


MAKERS = {
    "uscion": lambda x: Scion([x], lr=0.1, constrained=False),
    "clipped": lambda x: Scion([x], lr=0.1, constrained=False, step_rule="clipped"),
    "AdamW": lambda x: torch.optim.AdamW([x], lr=0.1, weight_decay=0),
    "Muon": lambda x: torch.optim.Muon([x], lr=0.1, weight_decay=0),
    "SGD": lambda x: torch.optim.SGD([x], lr=0.1),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_every_step_is_that_of_the_formula(make):
    x = start()
    origin, anchored, plain = x.detach().clone(), make(x), make(y := start())
    Anchor(anchored)
    expected = origin.clone()
    for k, grad in enumerate(gradients(12)):
        before = y.detach().clone()
        u = step(plain, grad) - before  # the base's step does not depend on where it is
        expected = expected + u + (origin - expected) / (k + 2)
        torch.testing.assert_close(step(anchored, grad), expected, rtol=0, atol=ROUNDING)


def test_around_unconstrained_scion_it_is_scion_around_the_start():
    # 50 steps, radius (k + 2) γ_k ρ and step 1/(k + 2) around x_0; 1e-10 is fifty steps' float64 rounding, with room
    x, radius = start(), 3.0
    origin = x.detach().clone()
    soda = Scion([x], lr=0.1, norm="spectral-exact", radius=radius, constrained=False)
    Anchor(soda)
    y = nn.Parameter(torch.zeros_like(origin))  # where the start is 0
    scion = Scion([y], norm="spectral-exact")
    for k, grad in enumerate(gradients(50)):
        rate = 0.1 * (1 - k / 50)
        soda.param_groups[0]["lr"] = rate
        scion.param_groups[0].update(lr=1 / (k + 2), radius=(k + 2) * rate * radius)
        torch.testing.assert_close(step(soda, grad), origin + step(scion, grad), rtol=0, atol=1e-10)


def test_with_rates_of_one_over_k_it_stays_in_a_ball_around_the_start():
    x = start()
    origin, optimizer = x.detach().clone(), Scion([x], norm="spectral-exact", radius=2.0, constrained=False)
    Anchor(optimizer)
    for k, grad in enumerate(gradients(30)):
        optimizer.param_groups[0]["lr"] = 0.5 / (k + 2)
        moved = step(optimizer, grad) - origin
        size = torch.linalg.matrix_norm(moved, 2) * (SHAPE[1] / SHAPE[0]) ** 0.5
        assert float(size) <= 0.5 * 2.0 + ROUNDING


def test_the_light_form_is_the_plain_one():
    x, y = start(), start()
    plain = Scion([x], lr=0.1, constrained=False)
    light = ScionLight([y], lr=0.1, constrained=False)
    Anchor(plain), Anchor(light)
    for grad in gradients(6):
        y.grad = grad.clone() if y.grad is None else y.grad + grad
        light.step()
        # float64 Newton-Schulz of averages that differ by a factor
        torch.testing.assert_close(y.detach(), step(plain, grad), rtol=0, atol=1e-10)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_it_goes_on_from_a_saved_state(make):
    grads, x = gradients(8), start()
    whole = make(x)
    Anchor(whole)
    for grad in grads[:4]:
        step(whole, grad)
    saved = io.BytesIO()
    torch.save(whole.state_dict(), saved)
    saved.seek(0)
    resumed = make(nn.Parameter(x.detach().clone()))
    Anchor(resumed)
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    for grad in grads[4:]:
        assert torch.equal(step(whole, grad), step(resumed, grad))


def test_a_parameter_without_a_gradient_stays_and_counts_no_step():
    x, y = start(), start()
    optimizer = Scion([x, y], lr=0.1, constrained=False)
    Anchor(optimizer)
    origin = y.detach().clone()
    x.grad = gradients(1)[0]
    optimizer.step()
    assert torch.equal(y.detach(), origin)
    assert optimizer.state[x]["anchor_steps"] == 1
    assert y not in optimizer.state


def test_a_pull_of_0_is_none():
    x, y = start(), start()
    anchored, plain = MAKERS["uscion"](x), MAKERS["uscion"](y)
    Anchor(anchored)
    anchored.param_groups[0]["anchor"] = 0.0
    for grad in gradients(4):
        assert torch.equal(step(anchored, grad), step(plain, grad))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda x: Scion([x]), "constrained: True is not allowed"),
        (lambda x: Scion([x], constrained=False, weight_decay=0.5), r"weight_decay: 0\.5 is not allowed"),
        (lambda x: torch.optim.AdamW([x]), r"AdamW: weight_decay: 0\.01 is not allowed"),
    ],
)
def test_it_takes_the_place_of_decay(make, told):
    with pytest.raises(UserError, match=told):
        Anchor(make(start()))


def test_a_closure_is_refused():
    optimizer = Scion([start()], constrained=False)
    Anchor(optimizer)
    for call in (lambda: optimizer.step(lambda: 0.0), lambda: optimizer.step(closure=lambda: 0.0)):
        with pytest.raises(UserError, match="closure"):
            call()


def test_it_fades_by_half_a_cosine():
    assert [fade(gone, 0.5, 0.75) for gone in (0, 0.5, 0.75, 1)] == [1, 1, 0, 0]
    assert fade(0.625, 0.5, 0.75) == pytest.approx(0.5)
    assert [fade(gone, 1.0, 1.0) for gone in (0, 0.999)] == [1, 1]
    assert [fade(gone, 0.5, 0.5) for gone in (0.5, 0.6)] == [1, 0]


def test_a_trials_method_is_anchored_whichever_its_optimizers_are():
    model = Small().double()
    claims = assign_roles(model)
    made = method_of(trial("muon", anchored=True, weight_decay=0.0, anchor_fade_start=0.5), claims)
    assert {optimizer.__class__.__name__ for optimizer in made.optimizers} == {"Muon", "AdamW"}
    made.set_rates(1.0, gone=0.75)
    assert [group["anchor"] for group in made.groups] == pytest.approx([0.5] * len(made.groups))
    origin = copy.deepcopy(dict(model.named_parameters()))
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        for optimizer in made.optimizers:
            optimizer.step()
    for name, parameter in model.named_parameters():
        state = next(o.state[parameter] for o in made.optimizers if parameter in o.state)
        assert torch.equal(state["anchor_start"], origin[name].detach())
        assert state["anchor_steps"] == 2
