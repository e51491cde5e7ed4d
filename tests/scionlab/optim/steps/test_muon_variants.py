"""Muon's relatives, step by step, against NumPy; the orthogonal factor itself is Muon's own, which has its tests."""

import math

import numpy as np
import pytest
import torch
from small_models import Small, trial
from torch import nn

from scionlab.errors import UserError
from scionlab.geometry import norm_named
from scionlab.optim import method_of
from scionlab.optim.steps.layered_muon import SCALES, LayeredMuon, directions
from scionlab.optim.steps.muon_variants import AdaGO, AdaMuon, MuonHyperball, NorMuon
from scionlab.roles.roles import assign_roles

LR, MOMENTUM, STEPS = 0.05, 0.9, 5
# The factor is found in bfloat16 from the same averages on both sides; the rest is float64.
ROUNDING = 1e-10
SHAPES = [(6, 4), (4, 6), (5, 5)]
PLAIN = {"layout": "out_in", "blocks": 1, "batch": 0, "adjust_lr_fn": "original"}


def weights(shape: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def gradients(shape: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) * 2.0**-k for k in range(STEPS)]


def factor(d: np.ndarray) -> np.ndarray:
    """NS(d), without a scale."""
    scale = SCALES["original"](*d.shape)
    return directions(torch.from_numpy(d), PLAIN).numpy() / scale


def scale(d: np.ndarray) -> float:
    return math.sqrt(max(1, d.shape[0] / d.shape[1]))


def normuon(x, g, d, memory):
    o = factor(d)
    rows = np.square(o).mean(1, keepdims=True)
    memory["v"] = 0.95 * memory.get("v", np.zeros_like(rows)) + 0.05 * rows
    new = o / (np.sqrt(memory["v"]) + 1e-10)
    return x - LR * scale(d) * new * np.linalg.norm(o) / np.linalg.norm(new)


def adamuon(x, g, d, memory):
    o = factor(np.sign(d))
    memory["v"] = 0.95 * memory.get("v", np.zeros_like(o)) + 0.05 * o**2
    new = o / (np.sqrt(memory["v"]) + 1e-8)
    return x - LR * 0.2 * math.sqrt(o.size) * new / np.linalg.norm(new)


def hyperball(x, g, d, memory):
    o, norm = factor(d), np.linalg.norm(x)
    moved = x - LR * norm * o / np.linalg.norm(o)
    return norm * moved / np.linalg.norm(moved)


def adago(x, g, d, memory):
    size = min(np.linalg.norm(g), 3.0)
    memory["v2"] = memory.get("v2", 1e-6) + size**2
    rate = max(0.02, LR * size / math.sqrt(memory["v2"]))
    memory["rates"] = [*memory.get("rates", []), rate]
    return x - rate * scale(d) * factor(d)


FORMS = {
    "NorMuon": (NorMuon, {}, normuon),
    "AdaMuon": (AdaMuon, {}, adamuon),
    "Hyperball": (MuonHyperball, {}, hyperball),
    "AdaGO": (AdaGO, {"ceiling": 3.0, "smallest": 0.02}, adago),
}


@pytest.mark.parametrize(("kind", "options", "reference"), FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("nesterov", [True, False])
def test_every_step_is_that_of_the_formula(kind, options, reference, shape, nesterov):
    x = weights(shape)
    optimizer = kind([x], lr=LR, momentum=MOMENTUM, nesterov=nesterov, weight_decay=0.0, **options)
    expected, d, memory = x.detach().numpy().copy(), np.zeros(shape), {}
    for grad in gradients(shape):
        g = grad.numpy()
        d = MOMENTUM * d + (1 - MOMENTUM) * g
        expected = reference(expected, g, MOMENTUM * d + (1 - MOMENTUM) * g if nesterov else d, memory)
        x.grad = grad.clone()
        optimizer.step()
        np.testing.assert_allclose(x.detach().numpy(), expected, rtol=0, atol=ROUNDING)
    if kind is AdaGO:  # the ceiling and the smallest rate were both met
        assert min(memory["rates"]) == 0.02 < max(memory["rates"])
        assert max(float(grad.norm()) for grad in gradients(shape)) > 3.0


STORAGE = [{"layout": "in_out"}, {"blocks": 3}, {"blocks": (2, 3, 1)}, {"batch": 1}]


@pytest.mark.parametrize("kind", [NorMuon, AdaMuon, MuonHyperball])
@pytest.mark.parametrize("storage", STORAGE, ids=str)
def test_what_a_tensor_holds_moves_as_matrices_of_their_own(kind, storage):
    def held(tensor: torch.Tensor) -> list[torch.Tensor]:
        if storage.get("batch"):
            return list(tensor)
        if "layout" in storage:
            return [tensor.mT]
        rows = [2] * 3 if storage["blocks"] == 3 else list(storage["blocks"])
        return list(tensor.split(rows))

    shape = (3, 6, 4) if storage.get("batch") else (6, 4)
    whole = weights(shape)
    alone = [nn.Parameter(part.detach().clone().contiguous()) for part in held(whole)]
    together, apart = kind([{"params": [whole], **storage}], lr=LR), kind(alone, lr=LR)
    for grad in gradients(shape):
        whole.grad = grad.clone()
        for parameter, part in zip(alone, held(grad), strict=True):
            parameter.grad = part.clone()
        together.step(), apart.step()
        for parameter, part in zip(alone, held(whole), strict=True):
            # products of bfloat16 in another order, and by another stride
            torch.testing.assert_close(part.detach(), parameter.detach(), rtol=0, atol=1e-3)


def test_spheres_are_kept_and_rows_are_equal():
    x = weights((6, 4))
    before = float(x.detach().norm())
    for optimizer in (MuonHyperball([x], lr=0.5), MuonHyperball([x], lr=2.0, weight_decay=1.0)):
        for grad in gradients((6, 4)):
            x.grad = grad
            optimizer.step()
            assert float(x.detach().norm()) == pytest.approx(before, abs=1e-12)
    y = nn.Parameter(torch.zeros(6, 4, dtype=torch.float64))
    normed = NorMuon([y], lr=1.0, beta2=0.0, weight_decay=0.0)
    y.grad = gradients((6, 4))[0]
    normed.step()
    assert y.detach().norm(dim=1).tolist() == pytest.approx([float(y.detach().norm()) / math.sqrt(6)] * 6)


def test_a_sphere_of_no_radius_is_refused():
    with pytest.raises(UserError, match=r"shape \(4, 4\) is zero, which is not allowed"):
        MuonHyperball([nn.Parameter(torch.zeros(4, 4))], lr=0.1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("normuon", NorMuon), ("adamuon", AdaMuon), ("muon-hyperball", MuonHyperball), ("adago", AdaGO)],
)
def test_trials_take_them_on_hidden_matrices_and_adamw_elsewhere(name, kind):
    model = Small()
    matrices, adam = method_of(trial(name, nesterov=False, adam_lr=0.01), assign_roles(model)).optimizers
    assert type(matrices) is kind
    assert [p for group in matrices.param_groups for p in group["params"]] == [model.hidden.weight]
    assert matrices.param_groups[0]["nesterov"] is False
    assert type(adam) is torch.optim.AdamW
    assert {group["lr"] for group in adam.param_groups} == {0.01}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_scale_that_carries_over_is_the_spectral_balls(shape):
    x = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = LayeredMuon([x], lr=1.0, weight_decay=0.0, adjust_lr_fn="spectral")
    x.grad = gradients(shape)[0]
    optimizer.step()
    # Newton-Schulz of five steps in bfloat16: its band is 0.68 to 1.21
    assert 0.6 < float(norm_named("spectral-exact").norm(x.detach())) < 1.3


def test_a_scale_of_another_name_is_refused():
    with pytest.raises(UserError, match="adjust_lr_fn"):
        LayeredMuon([weights((4, 4))], lr=0.1, adjust_lr_fn="rms")
