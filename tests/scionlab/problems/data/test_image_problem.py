"""Options of images: how they are read and refused, what they are part of, and the losses of smoothed labels."""

import pytest
import torch
import torch.nn.functional as F

from scionlab import training
from scionlab.errors import UserError
from scionlab.optim.method import Batch
from scionlab.problems.data import load
from scionlab.problems.data.image_problem import with_options
from scionlab.problems.data.images import PLAIN, StoredOptions
from scionlab.spec import Trial
from scionlab.training.oracle import ModelOracle
from scionlab.training.passes import Passes
from scionlab.training.prepare import build, data_of, identity, resolve

FIELDS = {"model": "mlp", "width": 16, "seq_len": 1, "val_seq_len": 1, "val_tokens": 64, "batch_size": 32}
LOGITS = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(8)


def trial(data: str, **fields) -> Trial:
    given = {"optimizer": "adam", "lr": 0.01, "device": "cpu", "data": data, "tokens": 32 * 60, **FIELDS}
    return resolve(Trial(**given | fields))


def test_options_stand_behind_the_name_in_any_order():
    found = with_options("cifar10:/data/a,b,views=6,flip=alternating,translate=2,smoothing=0.2", StoredOptions)
    options = StoredOptions(flip="alternating", translate=2, smoothing=0.2, views=6)
    assert found == ("cifar10:/data/a,b", options)
    assert with_options("digits", StoredOptions) == ("digits", PLAIN)
    assert options.text == "flip=alternating,smoothing=0.2,translate=2,views=6"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("digits,flop=random", "data: option of 'digits,flop=random': 'flop' is not known .did you mean 'flip'.*"),
        (
            "digits,flip=maybe",
            "data: option of 'digits,flip=maybe': flip: 'maybe' is not allowed: .*'random' or 'alternating'",
        ),
        (
            "digits,translate=17",
            "data: option of 'digits,translate=17': translate: 17 is not allowed: .*less than or equal to 16",
        ),
        ("digits,smoothing=1.5", "data: option of .*: smoothing: '1.5' is not allowed: .*less than 1"),
        ("digits,views=3", "data: option of .*: views: 3 is not allowed: .*1, 2 or 6"),
        ("digits,enlarge=0", "data: option of .*: enlarge: 0 is not allowed: .*greater than or equal to 1"),
        ("digitz,flip=random", "data: 'digitz,flip=random' is not known"),
    ],
)
def test_what_is_not_an_option_is_refused_in_one_sentence(data, message):
    with pytest.raises(UserError, match=message) as refused:
        load(data)
    assert "\n" not in str(refused.value)


def test_options_are_part_of_the_identity_and_no_options_are_not():
    plain = trial("digits")
    assert identity(plain, data_of(plain)) == identity(plain, load("digits"))
    assert load("digits").split_sha256 == "08f6b7ee3d8361b8b07cf845d7b2ef78e6f90dc660279b35c3e54267b182aed9"
    options = ("flip=random", "translate=1", "erase=0.1", "mixup=0.8", "cutmix=0.8", "smoothing=0.1", "views=2")
    names = ["digits", *(f"digits,{option}" for option in options)]
    assert len({load(name).split_sha256 for name in names}) == len(names)
    one, other = (load(f"digits,{options}") for options in ("views=2,translate=1", "translate=1,views=2,smoothing=0.0"))
    assert one.split_sha256 == other.split_sha256


def test_smoothed_losses_are_pytorchs_in_training_and_plain_in_validation():
    data = load("digits,smoothing=0.2")
    smoothed = F.cross_entropy(LOGITS, TARGETS, label_smoothing=0.2)
    by_hand = -(0.8 * LOGITS.log_softmax(1)[range(8), TARGETS] + 0.02 * LOGITS.log_softmax(1).sum(1))
    assert torch.equal(data.in_training.loss(LOGITS, TARGETS), smoothed)
    assert torch.allclose(data.in_training.per_example(LOGITS, TARGETS).losses, by_hand, atol=1e-6)
    assert torch.equal(data.loss(LOGITS, TARGETS), F.cross_entropy(LOGITS, TARGETS))
    assert load("digits").in_training is load("digits")


def test_mixed_labels_count_as_a_label_of_probabilities():
    data = load("digits,mixup=0.8,smoothing=0.1").in_training
    others, shares = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6]), torch.linspace(0, 1, 8)
    targets = torch.stack([TARGETS.float(), others.float(), shares], dim=1)
    one_hot = F.one_hot(TARGETS, 10) * shares[:, None] + F.one_hot(others, 10) * (1 - shares[:, None])
    expected = F.cross_entropy(LOGITS, one_hot, label_smoothing=0.1, reduction="none")
    assert torch.allclose(data.per_example(LOGITS, targets).losses, expected, atol=1e-6)
    assert torch.allclose(data.loss(LOGITS, targets), expected.mean(), atol=1e-6)
    assert torch.equal(data.per_example(LOGITS, targets).errors, (LOGITS.argmax(1) != TARGETS).double())


def test_a_run_trains_on_smoothed_labels_and_validates_on_plain_ones():
    smooth = trial("digits,smoothing=0.2", tokens=32 * 200)
    outcome = training.train(smooth, data_of(smooth))
    plain = training.train(trial("digits", tokens=32 * 200), load("digits"))
    # no prediction has a smoothed loss below the entropy of its label, 0.82 log 1/0.82 + 9 · 0.02 log 1/0.02
    assert outcome.summary["train_loss"] > 0.866
    assert outcome.summary["val_loss"] < 0.866
    assert plain.summary["train_loss"] < 0.5


def test_predictions_are_averaged_over_views_in_validation_only():
    several = trial("digits,views=6")
    data = data_of(several)
    model, _ = build(several, data.shape)
    passes, batch = Passes(model, data, several), data.held_out(64, 1)
    inputs, targets = data.unpack(batch)
    with torch.no_grad():
        mean = sum(share * model(view) for share, view in data.views(inputs))
        loss, correct = passes.totals(batch)[0].tolist()
        assert loss == pytest.approx(64 * float(F.cross_entropy(mean, targets)), rel=1e-6)
        assert correct == int((mean.argmax(1) == targets).sum())
        assert torch.equal(passes.loss(batch), F.cross_entropy(model(inputs), targets))


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_changed_and_smoothed_run_gives_the_same_bits_again_and_after_a_break(model):
    changed = trial(
        "digits,flip=alternating,translate=1,erase=0.5,mixup=0.8,cutmix=1,smoothing=0.1,views=2",
        model=model,
        tokens=32 * 100,
    )
    data = data_of(changed)
    whole = training.train(changed, data)
    again = training.train(changed, data)
    first = training.Run(changed, data)
    first.run_steps(47)
    later = training.Run(changed, data)
    later.load_state_dict(first.state_dict())
    while not later.finished:
        later.run_stage()
    for other in (again, later.outcome()):
        assert other.summary["val_loss"] == whole.summary["val_loss"]
        assert other.curve == whole.curve


@pytest.mark.parametrize("options", ["smoothing=0.2,views=6", "mixup=0.8,cutmix=1,erase=0.5,smoothing=0.1,views=2"])
def test_a_stack_gives_what_each_trial_gives_alone(options):
    trials = [trial(f"digits,{options}", lr=2.0**rate, seed=rate + 9) for rate in (-9, -8, -7)]
    data = data_of(trials[0])
    together = training.train_stack(trials, data)
    for one, stacked in zip(trials, together, strict=True):
        alone = training.train(one, data).summary
        for name in ("train_loss", "val_loss"):
            assert stacked.summary[name] == pytest.approx(alone[name], rel=1e-4)  # sums in another order
        assert stacked.summary["val_accuracy"] == pytest.approx(alone["val_accuracy"], abs=1 / 64)


def test_a_sampler_weighs_the_losses_of_training():
    data = load("digits,smoothing=0.3")
    smooth = trial("digits,smoothing=0.3")
    model, _ = build(smooth, data.shape)
    batch = data.training(32, 1, seed=0).next_batch()
    inputs, targets = data.unpack(batch)
    weights = torch.linspace(0, 2, 32)
    oracle = ModelOracle(Passes(model, data, smooth))
    losses = F.cross_entropy(model(inputs), targets, label_smoothing=0.3, reduction="none")
    reading = oracle.at(Batch(batch, weights))
    assert float(reading.loss) == pytest.approx(float((weights * losses).mean().detach()), rel=1e-6)
