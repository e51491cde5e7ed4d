"""Samplers of the caller's: which examples, with what weights, what they hear, and how they go on."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scionlab.errors import UserError
from scionlab.problems.data import load
from scionlab.problems.data.sampler import Drawn, Sampler, make_sampler
from scionlab.spec import Trial
from scionlab.training import Run, stack_key, train
from scionlab.training.check import check_own
from scionlab.training.prepare import identity, resolve

HERE = __name__
HEARD = []  # (losses, errors) of every batch


class Uniform(Sampler):
    """With replacement."""

    def draw(self, count):
        return Drawn(self.rng.integers(self.n_examples, size=count))


class Weighted(Uniform):
    """Every second example counts twice or, with `lightly`, nothing."""

    def __init__(self, n_examples, groups, seed, lightly=False):
        super().__init__(n_examples, groups, seed)
        self.other = 0.0 if lightly else 2.0

    def draw(self, count):
        return Drawn(super().draw(count).indices, np.where(np.arange(count) % 2, self.other, 1.0))


class ClassFocused(Sampler):
    """CFOL (arXiv 2302.08872): classes by exponential weights of their errors, mixed with the uniform ones."""

    listens = True

    def __init__(self, n_examples, groups, seed, eta=0.1, gamma=0.5):
        super().__init__(n_examples, groups, seed)
        self.eta, self.gamma = eta, gamma
        self.members = [np.flatnonzero(groups == one) for one in np.unique(groups)]
        self.state["w"] = np.zeros(len(self.members))

    @property
    def p(self):
        q = np.exp(self.state["w"] - self.state["w"].max())
        return self.gamma / len(q) + (1 - self.gamma) * q / q.sum()

    def draw(self, count):
        self.classes = self.rng.choice(len(self.members), count, p=self.p)
        return Drawn(np.array([self.rng.choice(self.members[one]) for one in self.classes]))

    def heard(self, losses, errors):
        HEARD.append((losses, errors))
        np.add.at(self.state["w"], self.classes, self.eta * errors / self.p[self.classes])


class Beyond(Uniform):
    def draw(self, count):
        return Drawn(np.full(count, self.n_examples))


class Infinite(Uniform):
    def draw(self, count):
        return Drawn(super().draw(count).indices, np.full(count, np.inf))


def trial(sampler, **fields):
    sizes = {"model": "mlp", "data": "digits", "width": 16, "depth": 1, "batch_size": 8, "seq_len": 1}
    few = {"val_seq_len": 1, "val_tokens": 100, "tokens": 80, "device": "cpu"}
    return resolve(Trial(optimizer="adam", lr=0.01, sampler=f"{HERE}:{sampler}", **{**sizes, **few, **fields}))


def digits():
    return load("digits")


def test_a_sampler_chooses_the_examples():
    run = Run(trial("Uniform"), digits())
    batch = run.feed.next_batch()
    expected = make_sampler(f"{HERE}:Uniform", {}, len(digits().train), None, 0).draw(8).indices
    assert torch.equal(batch.examples, digits().rows(digits().train.pixels[expected], digits().train.labels[expected]))
    assert batch.weights is None
    assert run.feed.epochs == 8 / len(digits().train)


def test_groups_are_the_classes_of_the_examples():
    run = Run(trial("ClassFocused"), digits())
    assert np.array_equal(run.windows.sampler.groups, digits().train.labels)


def test_weights_weigh_the_losses_of_single_examples():
    run = Run(trial("Weighted"), digits())
    batch = run.feed.next_batch()
    reading = run.oracle.at(batch)
    images, labels = digits().unpack(batch.examples)
    weights = torch.tensor([1.0, 2.0] * 4)
    loss = (weights * F.cross_entropy(run.model(images), labels, reduction="none")).sum() / 8
    names = list(run.oracle.weights)
    gradients = torch.autograd.grad(loss, [run.oracle.weights[name] for name in names])
    torch.testing.assert_close(reading.loss, loss.detach())
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(reading.gradients[name], gradient)


def test_examples_that_count_nothing_change_nothing():
    """Of weights 1, 0, 1, 0, … the gradient is half that of every second example."""
    run = Run(trial("Weighted", sampler_options={"lightly": True}), digits())
    batch = run.feed.next_batch()
    found = run.oracle.at(batch).gradients
    half = run.oracle.at(type(batch)(batch.examples[::2])).gradients
    for name, gradient in found.items():
        torch.testing.assert_close(2 * gradient, half[name])


def test_a_sampler_hears_the_losses_and_errors_at_the_weights_of_the_step():
    HEARD.clear()
    run = Run(trial("ClassFocused"), digits())
    expected = []
    for _ in range(5):
        state = {name: value.clone() for name, value in run.model.state_dict().items()}
        examples = run.windows.state_dict()
        run.run_steps(1)
        twin = Run(trial("ClassFocused"), digits())
        twin.windows.load_state_dict(examples)
        twin.model.load_state_dict(state)
        images, labels = digits().unpack(twin.feed.next_batch().examples)
        logits = twin.model(images).detach()
        losses = F.cross_entropy(logits, labels, reduction="none").double().numpy()
        expected.append((losses, (logits.argmax(1) != labels).double().numpy()))
    heard = HEARD[:]
    assert len(heard) == 5
    for (losses, errors), (own_losses, own_errors) in zip(heard, expected, strict=True):
        np.testing.assert_allclose(losses, own_losses, rtol=1e-5)  # float32 rounding
        assert np.array_equal(errors, own_errors)


def test_exponential_weights_are_the_sum_of_what_was_heard():
    HEARD.clear()
    run = Run(trial("ClassFocused", sampler_options={"eta": 0.25}), digits())
    sampler, expected = run.windows.sampler, np.zeros(10)
    for _ in range(4):
        p = sampler.p
        run.run_steps(1)
        for one, error in zip(sampler.classes, HEARD[-1][1], strict=True):
            expected[one] += 0.25 * error / p[one]
    np.testing.assert_allclose(sampler.state["w"], expected, rtol=1e-12)
    assert sampler.state["w"].max() > 0


@pytest.mark.parametrize("sampler", ["Uniform", "Weighted", "ClassFocused"])
@pytest.mark.parametrize("micro_batch", [0, 3])
def test_a_run_that_was_saved_goes_on_bit_for_bit(sampler, micro_batch):
    def started():
        run = Run(trial(sampler), digits())
        run.oracle.parts.size = micro_batch
        return run

    def finished(run):
        while not run.finished:
            run.run_stage()
        return run.outcome()

    whole = finished(started())
    run = started()
    run.run_steps(4)
    again = started()
    again.load_state_dict(run.state_dict())
    found = finished(again)
    assert found.curve == whole.curve
    assert found.scores == whole.scores
    assert found.summary["epochs"] == whole.summary["epochs"]


def test_trials_are_told_apart_by_sampler_options_and_code():
    ids = {
        identity(one, digits())
        for one in (
            trial("Uniform"),
            trial("Weighted"),
            trial("Weighted", sampler_options={"lightly": True}),
            trial("Uniform").replace(sampler="shuffled"),
        )
    }
    assert len(ids) == 4
    assert stack_key(trial("Uniform")) is None
    assert train(trial("Uniform"), digits(), compiled=True).summary["compiled"] is False


@pytest.mark.parametrize(
    ("sampler", "fields", "says"),
    [
        ("Beyond", {}, r"sampler: Beyond drew .*; it must draw so many integers from 0 to \d+"),
        ("Infinite", {}, "sampler: Infinite drew weights .*; they must be so many finite numbers"),
        ("Missing", {}, "sampler: .*Missing"),
        ("digits", {}, "sampler: .*is of type function; it must be a class derived from"),
        ("Weighted", {"sampler_options": {"none": 1}}, "sampler: .*Weighted' raised TypeError: .*'none'"),
        (
            "Uniform",
            {"model": "quadratic", "data": "noise:none", "val_tokens": 1},
            "sampler: is not allowed with these",
        ),
    ],
)
def test_mistakes_are_one_sentence_before_anything_runs(sampler, fields, says):
    with pytest.raises(UserError, match=says):
        check_own([trial(sampler, **fields)])


def test_options_without_a_sampler_are_refused():
    with pytest.raises(UserError, match=r"sampler_options: .* is not allowed: sampler 'shuffled' has no options"):
        Trial(optimizer="adam", lr=0.1, width=16, sampler_options={"eta": 1.0})


@pytest.mark.parametrize("data", ["digits", "sotu"])
def test_the_mean_of_single_losses_is_the_loss(data):
    source = load(data)
    batch = source.training(6, 16 if data == "sotu" else 1, 0).next_batch()
    _, targets = source.unpack(batch)
    outputs = torch.randn(*targets.shape, source.shape.n_outputs)
    examples = source.per_example(outputs, targets)
    torch.testing.assert_close(examples.losses.mean(), source.loss(outputs, targets))
    if examples.errors is not None:
        assert 6 - examples.errors.sum() == source.correct(outputs, targets)


def test_weighted_batches_are_read_in_parts_and_those_that_are_listened_to_whole():
    run = Run(trial("Weighted"), digits(), micro_batch=3)
    batch = run.feed.next_batch()
    whole = Run(trial("Weighted"), digits()).oracle.at(batch)
    parts = run.oracle.at(batch)
    torch.testing.assert_close(parts.loss, whole.loss)
    torch.testing.assert_close(parts.gradients, whole.gradients)
    assert run.oracle.parts.used == 3
    listening = Run(trial("ClassFocused"), digits(), micro_batch=3)
    listening.run_steps(1)
    assert (
        listening.oracle.parts.columns()["micro_batch_note"]
        == "batches stay whole: the sampler hears of their examples"
    )
