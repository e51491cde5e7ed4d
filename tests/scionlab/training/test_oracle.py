"""Oracles: gradients of autograd's own backward pass, at any point, of batches whole or in parts, counted."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scionlab.optim.method import Batch
from scionlab.problems.data import load
from scionlab.spec import Trial
from scionlab.training.oracle import ModelOracle, StackedOracle
from scionlab.training.passes import Passes
from scionlab.training.prepare import build, resolve

SIZES = {"width": 16, "depth": 1, "batch_size": 6, "seq_len": 16, "val_seq_len": 16, "device": "cpu"}
# Sums of float32 in another order: 96 targets and depth 1, a few hundred roundings of 6e-8 of the largest entry.
ROUNDING = {"rtol": 2e-5, "atol": 2e-7}


class Gathering(nn.Module):
    """Draws, gathers statistics, and has a weight that no loss depends on."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.head, self.unused = nn.Linear(8, 10), nn.Linear(8, 8)

    def forward(self, images):
        return self.head(self.body(images.flatten(1)))


def gathering(trial, shape):
    """As a model of the caller's."""
    return Gathering()


def passes_of(**fields):
    trial = resolve(Trial(optimizer="adam", lr=0.1, **{**SIZES, **fields}))
    data = load(trial.data)
    return Passes(build(trial, data.shape)[0], data, trial)


def own_passes():
    fields = {"model": f"{__name__}:gathering", "data": "digits", "seq_len": 1, "val_seq_len": 1}
    rules = ("unused.*=hidden", "body.0.*=input", "head.*=output")
    return passes_of(**fields, val_tokens=64, rules=rules)


def batch_of(passes, seed=0):
    trial = passes.trial
    return Batch(passes.source.training(trial.batch_size, trial.seq_len, seed).next_batch())


def moved(passes, seed=1):
    """Other weights of the same shapes."""
    generator = torch.Generator().manual_seed(seed)
    named = passes.model.named_parameters()
    return {name: p.detach() + 0.1 * torch.randn(p.shape, generator=generator) for name, p in named}


def assert_same(one, other, **close):
    """Bit for bit, unless rounding is allowed."""
    close = close or {"rtol": 0, "atol": 0}
    assert one.gradients.keys() == other.gradients.keys()
    torch.testing.assert_close(one.loss, other.loss, **close)
    for name, gradient in one.gradients.items():
        torch.testing.assert_close(gradient, other.gradients[name], **close)


@pytest.mark.parametrize("tied", [False, True])
def test_where_the_weights_are_it_is_the_backward_pass_bit_for_bit(tied):
    passes = passes_of(tied=tied)
    batch = batch_of(passes)
    reading = ModelOracle(passes).at(batch)
    loss = passes.loss(batch.examples)
    loss.backward()
    assert torch.equal(reading.loss, loss.detach())
    named = dict(passes.model.named_parameters())
    assert reading.gradients.keys() == named.keys()
    assert all(torch.equal(reading.gradients[name], parameter.grad) for name, parameter in named.items())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_elsewhere_it_is_what_it_were_if_the_weights_were_moved_there(tied, compiled):
    passes = passes_of(tied=tied)
    batch, there = batch_of(passes), moved(passes)
    oracle = ModelOracle(passes, compiled)
    before = {name: p.detach().clone() for name, p in passes.model.named_parameters()}
    found = oracle.at(batch, there)
    assert all(torch.equal(before[name], p) for name, p in passes.model.named_parameters())
    passes.model.load_state_dict(there, strict=False)
    assert_same(found, oracle.at(batch))
    assert oracle.calls == 2


def test_weights_that_are_not_named_are_the_models_own():
    passes = passes_of()
    batch, there = batch_of(passes), moved(passes)
    head = {"head.weight": there["head.weight"]}
    own = {name: p.detach() for name, p in passes.model.named_parameters()}
    assert_same(ModelOracle(passes).at(batch, head), ModelOracle(passes).at(batch, {**own, **head}))


@pytest.mark.parametrize("compiled", [False, True])
def test_what_the_loss_does_not_depend_on_has_no_gradient(compiled):
    passes = own_passes()
    oracle = ModelOracle(passes, compiled)
    for weights in (None, moved(passes)):
        gradients = oracle.at(batch_of(passes), weights).gradients
        assert gradients.keys() == {name for name in oracle.weights if not name.startswith("unused")}


def test_readings_of_a_step_see_the_same_draws_and_those_of_another_step_others():
    passes = own_passes()
    oracle, batch = ModelOracle(passes), batch_of(passes)
    oracle.step = 1
    first, again = oracle.at(batch), oracle.at(batch)
    oracle.step = 2
    assert torch.equal(first.loss, again.loss)
    assert not torch.equal(first.loss, oracle.at(batch).loss)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_statistics_are_gathered_once_unless_they_are_not_to_be(elsewhere):
    passes = own_passes()
    oracle, batch = ModelOracle(passes), batch_of(passes)
    weights = moved(passes) if elsewhere else None
    before = {name: buffer.clone() for name, buffer in passes.model.named_buffers()}
    oracle.at(batch, weights, statistics=False)
    assert all(torch.equal(before[name], buffer) for name, buffer in passes.model.named_buffers())
    oracle.at(batch, weights)
    assert passes.model.body[1].num_batches_tracked == 1
    assert not torch.equal(before["body.1.running_mean"], passes.model.body[1].running_mean)


@pytest.mark.parametrize("micro_batch", [1, 2, 4, 5])
def test_in_parts_a_batch_gives_the_same_up_to_rounding(micro_batch):
    passes = passes_of()
    batch = batch_of(passes)
    whole, parts = ModelOracle(passes), ModelOracle(passes, micro_batch=micro_batch)
    assert_same(parts.at(batch), whole.at(batch), **ROUNDING)
    assert parts.calls == 1


@pytest.mark.parametrize("micro_batch", [0, 6, 7])
def test_a_part_that_holds_the_batch_changes_no_bit(micro_batch):
    passes = passes_of()
    batch = batch_of(passes)
    assert_same(ModelOracle(passes, micro_batch=micro_batch).at(batch), ModelOracle(passes).at(batch))


def test_the_memory_of_parts_is_that_of_one():
    """Tensors saved for the backward pass, counted as they are packed: a quarter of them for a quarter of the batch."""
    passes = passes_of(batch_size=8)
    batch = batch_of(passes)

    def largest(oracle):
        held = []

        def pack(tensor):
            held[-1] += tensor.numel()
            return tensor

        read = oracle._read

        def counted(*arguments):
            held.append(0)
            return read(*arguments)

        oracle._read = counted
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            oracle.at(batch)
        return max(held)

    parameters = sum(p.numel() for p in passes.model.parameters())  # are saved whatever the batch is
    whole, part = largest(ModelOracle(passes)), largest(ModelOracle(passes, micro_batch=2))
    assert part - parameters < 0.3 * whole


def test_a_stack_reads_every_network_on_its_own_batch():
    one, other = passes_of(seed=0), passes_of(seed=1)
    batches = [batch_of(one, 0), batch_of(other, 1)]
    alone = [ModelOracle(passes).at(batch) for passes, batch in zip((one, other), batches, strict=True)]
    weights = [{name: p.detach() for name, p in passes.model.named_parameters()} for passes in (one, other)]
    stack = StackedOracle(one, {name: torch.stack([w[name] for w in weights]) for name in weights[0]})
    with sdpa_kernel(SDPBackend.MATH):  # as in a stack
        found = stack.at(Batch(torch.stack([batch.examples for batch in batches])))
    for n, reading in enumerate(alone):
        torch.testing.assert_close(found.loss[n], reading.loss, **ROUNDING)
        for name, gradient in reading.gradients.items():
            torch.testing.assert_close(found.gradients[name][n], gradient, **ROUNDING)
    assert stack.calls == 1
