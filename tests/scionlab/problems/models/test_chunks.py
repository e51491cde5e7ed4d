"""The cross-entropy of a large vocabulary by chunks: the plain loss and its gradients, without the logits."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import grad_and_value

from scionlab.problems.data import load
from scionlab.problems.models import chunks
from scionlab.spec import Trial
from scionlab.training.passes import Passes
from scionlab.training.prepare import build, resolve

# float32: sums over 50 outputs and 68 tokens in another order, some tens of roundings of 6e-8 of the largest entry.
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of six tokens of 50 outputs, whatever the vocabulary."""
    for name, value in {"CHUNK": 300, "WHOLE": 300, "LARGE_VOCABULARY": 2}.items():
        monkeypatch.setattr(chunks, name, value)


def planted(ignored=0):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4, 17, 8, generator=generator).requires_grad_()
    weight = torch.randn(50, 8, generator=generator).requires_grad_()
    targets = torch.randint(50, (4, 17), generator=generator)
    targets.view(-1)[:ignored] = chunks.IGNORED
    return hidden, weight, targets, torch.tensor(0.7)


def plain(hidden, weight, targets, scale):
    return F.cross_entropy((scale * F.linear(hidden, weight)).float().flatten(0, 1), targets.flatten())


@pytest.mark.parametrize("ignored", [0, 1, 20])
def test_it_is_the_plain_loss_in_value_and_gradients(small_chunks, ignored):
    found, expected = (
        [loss.detach(), *torch.autograd.grad(3 * loss, [made[0], made[1]])]
        for made in [planted(ignored)]
        for loss in (chunks.mean_cross_entropy(*made), plain(*made))
    )
    torch.testing.assert_close(found, expected, **ROUNDING)


def test_under_autocast_products_are_in_half_precision(small_chunks):
    hidden, weight, targets, scale = planted()
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = chunks.mean_cross_entropy(hidden, weight, targets, scale), plain(*planted())
        apart = chunks.mean_cross_entropy(hidden.double(), weight.double(), targets, scale)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)  # both round their logits to bfloat16
    torch.testing.assert_close(apart, found, rtol=1e-6, atol=0)
    with torch.no_grad():
        assert abs(found - plain(hidden, weight, targets, scale)) > 1e-5  # 2^-9 of logits of about 2, averaged
    (slopes,) = torch.autograd.grad(found, weight)
    assert slopes.dtype == torch.float32
    exact = torch.autograd.grad(plain(hidden, weight, targets, scale), weight)[0]
    assert (slopes - exact).norm() < 2**-6 * exact.norm()


def test_functions_of_weights_differentiate_it_for_one_and_for_many(small_chunks):
    hidden, weight, targets, scale = (value.detach() for value in planted())
    found = grad_and_value(lambda w: chunks.mean_cross_entropy(hidden, w, targets, scale))
    expected = grad_and_value(lambda w: plain(hidden, w, targets, scale))
    torch.testing.assert_close(found(weight), expected(weight), **ROUNDING)
    many = torch.stack([weight, 2 * weight])
    torch.testing.assert_close(torch.vmap(found)(many), torch.vmap(expected)(many), **ROUNDING)


def test_the_logits_are_never_there_whole(small_chunks):
    """Forward and backward, no tensor that PyTorch makes has as many entries as tokens × outputs."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Sizes(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.largest = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            self.largest = max(self.largest, found.numel() if isinstance(found, torch.Tensor) else 0)
            return found

    largest = {}
    for name, function in {"chunks": chunks.mean_cross_entropy, "plain": plain}.items():
        hidden, weight, *others = planted()
        with Sizes() as sizes:
            torch.autograd.grad(function(hidden, weight, *others), [hidden, weight])
        largest[name] = sizes.largest
    assert largest == {"chunks": max(hidden.numel(), 6 * 50), "plain": 68 * 50}


def test_bytes_and_classes_are_never_chunked():
    assert not chunks.serve(2**40, 256)
    vocabulary = 50_304
    assert not chunks.serve(chunks.WHOLE // vocabulary, vocabulary)
    assert chunks.serve(chunks.WHOLE // vocabulary + 1, vocabulary)


def passes_of(**fields):
    sizes = {"width": 16, "depth": 1, "batch_size": 4, "seq_len": 16, "val_seq_len": 16, "val_tokens": 64}
    trial = resolve(Trial(optimizer="adam", lr=0.1, device="cpu", **sizes, **fields))
    source = load(trial.data)
    return Passes(build(trial, source.shape)[0], source, trial)


def with_gradients(passes, batch):
    loss = passes.loss(batch)
    return loss.detach(), *torch.autograd.grad(loss, list(passes.model.parameters()))


@pytest.mark.parametrize("tied", [False, True])
def test_a_gpt_takes_it_where_the_vocabulary_is_large_and_only_there(tied, monkeypatch):
    passes = passes_of(tied=tied)
    batch = passes.source.held_out(64, 16)
    calls = []
    passes.model.register_forward_pre_hook(lambda module, arguments: calls.append(len(arguments)))
    whole = with_gradients(passes, batch)
    scores = passes.validate(batch)
    assert calls == [1, 1]
    for name, value in {"CHUNK": 1024, "WHOLE": 1024, "LARGE_VOCABULARY": 256}.items():
        monkeypatch.setattr(chunks, name, value)
    in_chunks = with_gradients(passes, batch)
    found = passes.validate(batch)
    assert calls == [1, 1, 2, 2]
    torch.testing.assert_close(in_chunks, whole, **ROUNDING)
    torch.testing.assert_close(found, scores, rtol=1e-6, atol=0, equal_nan=True)
    assert len(passes.forward(batch)) == 3  # outputs where they are asked for
    assert calls[-1] == 1
