"""Methods that ask the oracle for more than one gradient: SAM against its closed form, its budget, its checkpoints."""

import pytest
import torch
from torch.nn.utils import get_total_norm

from scionlab.errors import UserError
from scionlab.optim.method import Method, OneGradient
from scionlab.optim.recipes.classical import SgdRecipe
from scionlab.problems.data import load
from scionlab.problems.data.noise import target
from scionlab.spec import Trial
from scionlab.training import Run, can_stack, train
from scionlab.training.check import check_own
from scionlab.training.prepare import resolve, train_flops

HERE = __name__
RADIUS, LR, WIDTH = 0.05, 0.5, 4


class Ascent(Method):
    """A step by the gradient a little further up."""

    def step(self, oracle, batch):
        here = oracle.at(batch)
        length = get_total_norm(here.gradients.values())
        up = {name: oracle.weights[name] + RADIUS * g / length for name, g in here.gradients.items()}
        self.update(oracle, oracle.at(batch, up, statistics=False).gradients)
        return here.loss


class Sam(SgdRecipe):
    gradients_per_step = 2

    def method(self, claims, lr, momentum, width):
        return Ascent(self.optimizers(claims, lr, momentum, width))


class Silent(Sam):
    """Takes two, and says one."""

    gradients_per_step = 1


class Remembering(Method):
    """Steps by the last gradient and the one before it, which it keeps (optimism)."""

    def step(self, oracle, batch):
        reading = oracle.at(batch)
        before = self.state.get("gradients", reading.gradients)
        self.update(oracle, {name: 2 * g - before[name] for name, g in reading.gradients.items()})
        self.state["gradients"] = {name: g.clone() for name, g in reading.gradients.items()}
        return reading.loss


class Optimistic(SgdRecipe):
    def method(self, claims, lr, momentum, width):
        return Remembering(self.optimizers(claims, lr, momentum, width))


class Lossless(SgdRecipe):
    def method(self, claims, lr, momentum, width):
        method = OneGradient(self.optimizers(claims, lr, momentum, width))
        method.step = lambda oracle, batch: method.update(oracle, oracle.at(batch).gradients)
        return method


def quadratic(optimizer="Sam", **fields):
    """f(W) = ‖W − W*‖²/(2d) from W = 0, without noise."""
    sizes = {"model": "quadratic", "data": "noise:none", "width": WIDTH, "seq_len": 1, "val_seq_len": 1}
    few = {"batch_size": 1, "val_tokens": 1, "tokens": 16, "schedule": "constant", "momentum": 1.0}
    how = {"optimizer": f"{HERE}:{optimizer}", "lr": LR, "warmup": 0.0, "device": "cpu"}
    return resolve(Trial(**{**sizes, **few, **how, **fields}))


def text(optimizer, **fields):
    sizes = {"width": 16, "depth": 1, "batch_size": 4, "seq_len": 16, "val_seq_len": 16, "val_tokens": 64}
    return resolve(Trial(optimizer=f"{HERE}:{optimizer}", lr=0.1, device="cpu", tokens=1024, **{**sizes, **fields}))


def test_sam_is_its_closed_form():
    trial = quadratic()
    run = Run(trial, load(trial.data))
    (parameter,) = run.oracle.weights.values()
    weight = parameter.detach().clone()
    for _ in range(3):
        run.run_steps(1)
        gradient = (weight - target(WIDTH)) / WIDTH
        up = weight + RADIUS * gradient / gradient.norm()
        weight = weight - LR * (up - target(WIDTH)) / WIDTH
        assert torch.allclose(parameter, weight, rtol=1e-6, atol=1e-7)  # float32 rounding


def test_two_gradients_a_step_take_half_the_steps_of_a_budget_and_the_same_operations():
    sam, plain = quadratic(), quadratic("Optimistic")
    data = load(sam.data)
    rows = [train(trial, data).summary for trial in (sam, plain)]
    assert [row["steps_done"] for row in rows] == [8, 16]
    assert [row["gradient_calls"] for row in rows] == [16, 16]
    assert rows[0]["flops"] == rows[1]["flops"] == train_flops(sam, data.shape) == train_flops(plain, data.shape)
    by_steps = quadratic(calls_per_step=1)
    assert train(by_steps, data).summary["steps_done"] == 16
    assert train_flops(by_steps, data.shape) == 2 * train_flops(sam, data.shape)


@pytest.mark.parametrize("optimizer", ["Sam", "Optimistic"])
@pytest.mark.parametrize("at", [1, 5])
def test_a_run_that_was_saved_goes_on_bit_for_bit(optimizer, at):
    trial = text(optimizer)
    data = load(trial.data)
    whole = train(trial, data)
    run = Run(trial, data)
    run.run_steps(at)
    again = Run(trial, data)
    again.load_state_dict(run.state_dict())
    while not again.finished:
        again.run_stage()
    found = again.outcome()
    assert found.curve == whole.curve
    same = ("val_loss", "flops", "gradient_calls")
    assert [found.summary[name] for name in same] == [whole.summary[name] for name in same]


def test_optimism_goes_on_over_stages():
    one = text("Optimistic", schedule="constant")
    two = text(
        "Optimistic", schedule="constant", stages=[{"from_tokens": 512, "batch_size": 4, "seq_len": 16, "lr": 0.1}]
    )
    data = load(one.data)
    assert train(one, data).summary["val_loss"] == train(two, data).summary["val_loss"]


def test_clipping_is_of_the_gradient_that_moves_the_weights():
    trial = quadratic(clip_norm=1e-3)
    run = Run(trial, load(trial.data))
    (parameter,) = run.oracle.weights.values()
    before = parameter.detach().clone()
    run.run_steps(1)
    moved = float((parameter.detach() - before).norm())
    assert moved == pytest.approx(LR * 1e-3, rel=1e-4)  # clipping divides by the norm + 1e-6


def test_it_is_trained_alone():
    trial = quadratic()
    assert not can_stack(trial, load(trial.data))


def test_a_step_that_takes_other_gradients_than_it_says_is_refused():
    check_own([text("Sam"), text("Optimistic")])
    with pytest.raises(UserError, match=r"a step of .*:Silent' took 2 gradients, and its gradients_per_step is 1"):
        check_own([text("Silent")])
    with pytest.raises(UserError, match=r"step of .*:Lossless' returned None; it must return the loss"):
        check_own([text("Lossless")])


@pytest.mark.parametrize("factor", [1.0, 0.25])
@pytest.mark.parametrize("momentum", [None, 0.5])
def test_rates_are_factors_of_the_peaks(factor, momentum):
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups = [{"params": [weights[0]], "lr": 0.5}, {"params": [weights[1]], "lr": 2.0}]
    method = OneGradient([torch.optim.SGD(groups, lr=1.0, momentum=0.9)])
    method.set_rates(0.1)
    method.set_rates(factor, momentum)
    assert [group["lr"] for group in method.groups] == [0.5 * factor, 2.0 * factor]
    assert {group["momentum"] for group in method.groups} == {0.9 if momentum is None else momentum}
