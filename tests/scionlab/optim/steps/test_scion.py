"""The Scion optimizer: its identities, its ball, and PyTorch's optimizer contract."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import ORACLES
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from scionlab import Scion
from scionlab.errors import UserError
from scionlab.geometry import NORMS

EXACT = [name for name in NORMS if ORACLES[name].band == (1, 1)]  # whose LMO is feasible to rounding
SHAPE = {1: (6,), 2: (6, 4), 3: (6, 4, 3), 4: (6, 4, 3, 3), 5: (6, 4, 2, 2, 2)}


def randn(shape, seed: int, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def start(norm: str, dtype=torch.float32) -> nn.Parameter:
    return nn.Parameter(randn(SHAPE[NORMS[norm].ndim], 0, dtype))


def gradients(parameter: torch.Tensor, count: int, seed: int = 1) -> list[torch.Tensor]:
    return [randn(parameter.shape, seed * 1000 + i, parameter.dtype) for i in range(count)]


def run(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, grads: list[torch.Tensor]) -> None:
    for grad in grads:
        parameter.grad = grad.clone()
        optimizer.step()


@pytest.mark.parametrize("norm", NORMS)
def test_scion_is_unconstrained_scion_with_decoupled_decay_of_gamma(norm):
    constrained, decayed = start(norm), start(norm)
    options = {"lr": 0.125, "norm": norm, "radius": 3.0}
    scion, uscion = Scion([constrained], **options), Scion([decayed], **options, constrained=False)
    for grad in gradients(constrained, 5):
        run(scion, constrained, [grad])
        with torch.no_grad():
            decayed.mul_(1 - 0.125)  # what AdamW calls weight decay, with λ·lr = γ
        run(uscion, decayed, [grad])
        assert torch.equal(constrained, decayed)  # the same operations in the same order


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_is_the_convex_combination_of_the_method_sheet(norm):
    x = start(norm, torch.float64)
    expected, average = x.detach().clone(), torch.zeros_like(x)
    optimizer = Scion([x], lr=0.25, momentum=0.3, norm=norm, radius=2.0)
    for grad in gradients(x, 4):
        run(optimizer, x, [grad])
        average = 0.7 * average + 0.3 * grad
        expected = expected + 0.25 * (2.0 * NORMS[norm].lmo(average) - expected)
        # float64 rounding, which five steps of Newton-Schulz amplify at most 500 times
        assert torch.allclose(x, expected, rtol=0, atol=1e-11)


def test_signum_is_unconstrained_scion_in_the_sign_norm():
    x, expected = start("sign-onehot"), start("sign-onehot").detach().clone()
    average = torch.zeros_like(expected)
    for grad in gradients(expected, 6):
        average = average + 0.25 * (grad - average)
        expected = expected - 0.125 * average.sign()
    run(Scion([x], lr=0.125, momentum=0.25, norm="sign-onehot", constrained=False), x, gradients(x, 6))
    assert torch.equal(x, expected)  # steps of ±1/8: every sign must agree


@pytest.mark.parametrize("shape", [(16, 16), (32, 8), (8, 32)], ids=["square", "tall", "wide"])
def test_hidden_muon_is_unconstrained_spectral_scion_up_to_the_shape_factor(shape):
    d_out, d_in = shape
    factor = max(1, d_out / d_in) ** 0.5 / (d_out / d_in) ** 0.5
    x, y = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape))
    grads = gradients(x, 6)
    muon = torch.optim.Muon([x], lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    run(muon, x, grads)
    # PyTorch's Muon averages as Scion does; a sum in place of the average would not matter: the LMO ignores scale
    run(Scion([y], lr=0.1, momentum=0.1, norm="spectral", radius=factor, constrained=False), y, grads)
    # PyTorch iterates in bfloat16: a few of its roundings remain
    assert float((x - y).detach().norm() / y.detach().norm()) < 3 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("first_average", ["zero", "gradient"])
def test_state_survives_saving_bit_for_bit(first_average):
    x = start("spectral")
    optimizer = Scion([x], norm="spectral", radius=3.0, first_average=first_average)
    run(optimizer, x, gradients(x, 3, seed=1))
    file = io.BytesIO()
    torch.save({"x": x.detach(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    y = nn.Parameter(saved["x"].clone())
    resumed = Scion([y], norm="sign", lr=0.5)  # every option comes from the file
    resumed.load_state_dict(saved["optimizer"])
    run(optimizer, x, gradients(x, 3, seed=2))
    run(resumed, y, gradients(y, 3, seed=2))
    assert torch.equal(x, y)


@pytest.mark.parametrize("norm", NORMS)
def test_state_is_one_tensor_of_the_parameter_size(norm):
    x = start(norm)
    optimizer = Scion([x], norm=norm)
    run(optimizer, x, gradients(x, 2))
    (held,) = optimizer.state[x].values()
    assert held.shape == x.shape
    assert held.dtype == x.dtype


def test_first_average_starts_from_zero_or_from_the_gradient():
    averages = {}
    for first_average in ("zero", "gradient"):
        x = start("sign")
        optimizer = Scion([x], momentum=0.25, norm="sign", first_average=first_average)
        run(optimizer, x, [torch.ones_like(x)])
        x.grad.zero_()  # the average must not be the gradient's own memory
        averages[first_average] = float(optimizer.state[x]["average"].mean())
    assert averages == {"zero": 0.25, "gradient": 1.0}


@pytest.mark.parametrize(
    "schedule", [lambda o: LambdaLR(o, lambda k: 1 / (k + 1)), lambda o: CosineAnnealingLR(o, T_max=8)]
)
def test_schedulers_drive_the_step_size(schedule):
    x = nn.Parameter(torch.zeros(3, 2, dtype=torch.float64))
    optimizer = Scion([x], lr=0.5, norm="sign-onehot", constrained=False)
    scheduler, rates = schedule(optimizer), []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        run(optimizer, x, [torch.ones_like(x)])
        scheduler.step()
    assert rates[0] == 0.5
    assert len(set(rates)) == 5
    assert torch.allclose(x, torch.full_like(x, -sum(rates)), rtol=1e-14)  # five additions in float64


def test_step_returns_the_loss_of_a_closure_that_can_differentiate():
    x = start("row")
    optimizer = Scion([x], norm="row")

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        return loss.detach()

    before = x.detach().clone()
    assert float(optimizer.step(closure)) == float((before**2).sum())
    assert not torch.equal(x, before)
    assert optimizer.step() is None


def test_parameters_without_a_gradient_stay():
    x, idle = start("row"), start("row")
    before = idle.detach().clone()
    run(Scion([x, idle], norm="row"), x, gradients(x, 1))
    assert torch.equal(idle, before)


def test_groups_override_defaults():
    x, y = nn.Parameter(torch.zeros(3, 2)), nn.Parameter(torch.zeros(4))
    optimizer = Scion([{"params": [x], "norm": "sign-onehot"}], lr=0.5, radius=2.0)
    optimizer.add_param_group({"params": [y], "norm": "bias-max", "lr": 0.25, "constrained": False})
    x.grad, y.grad = torch.ones_like(x), torch.ones_like(y)
    optimizer.step()
    assert torch.equal(x.detach(), torch.full((3, 2), -1.0))
    assert torch.equal(y.detach(), torch.full((4,), -0.5))


@pytest.mark.parametrize("norm", [name for name in NORMS if NORMS[name].ndim == 2])
def test_layout_in_out_is_the_transpose(norm):
    stored = start(norm)
    transposed = nn.Parameter(stored.detach().mT.contiguous())
    options = {"norm": norm, "radius": 2.0, "lr": 0.25}
    in_out, out_in = Scion([stored], **options, layout="in_out"), Scion([transposed], **options)
    grads = gradients(stored, 4)
    run(in_out, stored, grads)
    run(out_in, transposed, [grad.mT.contiguous() for grad in grads])
    # float32 rounding of sums in another order, amplified at most 500 times by Newton-Schulz
    assert torch.allclose(stored.mT, transposed, rtol=0, atol=1e-4)
    assert in_out.norms()[0][1] == pytest.approx(out_in.norms()[0][1], rel=1e-4)


MATRIX = torch.zeros(3, 2)
REFUSED = {
    "negative lr": (MATRIX, {"lr": -0.1}, "lr: -0.1"),
    "NaN lr": (MATRIX, {"lr": float("nan")}, "lr: nan"),
    "constrained lr above 1": (MATRIX, {"lr": 1.5}, r"lr: 1.5 .* \[0, 1\]"),
    "infinite lr": (MATRIX, {"lr": float("inf"), "constrained": False}, "lr: inf"),
    "zero momentum": (MATRIX, {"momentum": 0.0}, "momentum: 0.0"),
    "momentum above 1": (MATRIX, {"momentum": 1.1}, "momentum: 1.1"),
    "zero radius": (MATRIX, {"radius": 0.0}, "radius: 0.0"),
    "NaN radius": (MATRIX, {"radius": float("nan")}, "radius: nan"),
    "infinite radius": (MATRIX, {"radius": float("inf")}, "radius: inf"),
    "unknown norm": (MATRIX, {"norm": "colum"}, "norm: 'colum' .* 'column'"),
    "unknown layout": (MATRIX, {"layout": "inout"}, "layout: 'inout' .* 'in_out'"),
    "unknown first average": (MATRIX, {"first_average": "one"}, "first_average: 'one'"),
    "vector in a matrix norm": (torch.zeros(3), {"norm": "row"}, r"'row' measures .* 2 dimensions, not shape \(3,\)"),
    "matrix in a vector norm": (MATRIX, {"norm": "bias"}, "'bias' measures .* 1 dimensions"),
    "complex parameter": (MATRIX.to(torch.complex64), {}, "complex"),
}


@pytest.mark.parametrize(("value", "options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_what_it_cannot_do_and_keeps_no_such_group(value, options, message):
    optimizer = Scion([start("row")])
    with pytest.raises(UserError, match=message):
        optimizer.add_param_group({"params": [nn.Parameter(value)], **options})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(UserError, match=message):
        Scion([nn.Parameter(value)], **options)


def test_refuses_sparse_gradients():
    embedding = nn.Embedding(4, 2, sparse=True)
    optimizer = Scion(embedding.parameters(), norm="column", layout="in_out")
    embedding(torch.tensor([1])).sum().backward()
    before = embedding.weight.detach().clone()
    with pytest.raises(UserError, match="sparse"):
        optimizer.step()
    assert torch.equal(embedding.weight, before)


steps = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def on_the_sphere(norm: str, radius: float) -> nn.Parameter:
    direction = NORMS[norm].lmo(randn(SHAPE[NORMS[norm].ndim], 3))
    return nn.Parameter(radius * direction / NORMS[norm].norm(direction))


@pytest.mark.parametrize("norm", EXACT)
@settings(deadline=None, max_examples=25)
@given(gammas=steps, seed=st.integers(0, 10**6))
def test_scion_never_leaves_its_ball(norm, gammas, seed):
    x = on_the_sphere(norm, 3.0)
    optimizer = Scion([x], norm=norm, radius=3.0)
    for gamma, grad in zip(gammas, gradients(x, len(gammas), seed), strict=True):
        optimizer.param_groups[0]["lr"] = gamma
        run(optimizer, x, [grad])
        assert optimizer.norms()[0][1] <= 3.0 * (1 + 1e-5)  # 12 steps of a few float32 roundings of 6e-8


@pytest.mark.parametrize("norm", NORMS)
@settings(deadline=None, max_examples=25)
@given(gammas=steps, seed=st.integers(0, 10**6))
def test_unconstrained_scion_moves_at_most_the_sum_of_its_steps(norm, gammas, seed):
    x = on_the_sphere(norm, 1.0)
    optimizer = Scion([x], norm=norm, radius=3.0, constrained=False)
    for gamma, grad in zip(gammas, gradients(x, len(gammas), seed), strict=True):
        optimizer.param_groups[0]["lr"] = gamma
        run(optimizer, x, [grad])
    step = ORACLES[norm].band[1]
    assert optimizer.norms()[0][1] <= (1 + 3.0 * step * sum(gammas)) * (1 + 1e-5)  # as above


@pytest.mark.parametrize(("field", "value"), [("lr", 1.5), ("momentum", 0.0), ("momentum", 1.2), ("lr", "fast")])
def test_what_a_scheduler_writes_is_checked_before_anything_moves(field, value):
    parameter = torch.nn.Parameter(torch.eye(3))
    parameter.grad = torch.ones(3, 3)
    optimizer = Scion([parameter], lr=0.1)
    optimizer.param_groups[0][field] = value
    with pytest.raises(UserError, match=field):
        optimizer.step()
    assert torch.equal(parameter, torch.eye(3))


NUMBERS = [np.float32, np.float64, np.float16, np.array, torch.tensor]


@pytest.mark.parametrize("kind", NUMBERS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("field", ["lr", "momentum", "radius", "smoothness", "weight_decay"])
def test_numbers_of_numpy_and_torch_are_numbers(kind, field):
    def trained(value):
        parameter = nn.Parameter(torch.eye(3))
        parameter.grad = torch.arange(9.0).view(3, 3)
        optimizer = Scion([parameter], **{"lr": 0.25, "constrained": False, field: value})
        optimizer.step()
        optimizer.param_groups[0][field] = value  # as a scheduler does
        optimizer.step()
        return parameter.detach()

    assert torch.allclose(trained(kind(0.5)), trained(0.5))


def test_what_is_no_number_is_refused():
    for value in ("0.1", np.array([0.1]), torch.ones(1), None, np.array("0.1")):
        with pytest.raises(UserError, match=r"Scion: momentum: .* is not allowed: it must be a number"):
            Scion([nn.Parameter(torch.eye(3))], momentum=value)
    with pytest.raises(UserError, match=r"momentum: 2\.0 is not allowed"):
        Scion([nn.Parameter(torch.eye(3))], momentum=np.float32(2))
