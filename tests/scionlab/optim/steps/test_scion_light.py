"""ScionLight: Scion's steps without a state, as long as nothing but backward passes writes to the gradients."""

import io

import pytest
import torch
from torch import nn
from trainings import CORPUS, SAME_LENGTH, numbers, saved_and_loaded, staged

from scionlab import training
from scionlab.errors import UserError
from scionlab.optim import Scion, ScionLight

EXACT = {"norm": "spectral-exact", "radius": 3.0}
PARTS = {
    "Scion": {},
    "unconstrained": {"constrained": False},
    "clipped": {"step_rule": "clipped", "smoothness": 20.0},
    "clipped, by layer": {"step_rule": "clipped", "smoothness": 20.0, "scope": "layer"},
    "clipped, unconstrained": {"step_rule": "clipped", "smoothness": 200.0, "constrained": False},
    "steepest": {"step_rule": "steepest", "constrained": False},
    "decay": {"constrained": False, "weight_decay": 0.5},
}


def network(dtype=torch.float64, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).to(dtype)


def groups(model: nn.Module) -> list[dict[str, object]]:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    return [{"params": matrices, **EXACT}, {"params": vectors, "norm": "bias"}]


def batch(k: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(k), dtype=dtype) * 3.0**-k


def backward(model: nn.Module, k: int, dtype=torch.float64) -> None:
    model(batch(k, dtype)).square().mean().backward()


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0])
def test_steps_are_scions(parts, momentum):
    model, light = network(), network()
    scion = Scion(groups(model), lr=0.125, momentum=momentum, **parts)
    lighter = ScionLight(groups(light), lr=0.125, momentum=momentum, **parts)
    for k in range(6):
        scion.zero_grad()
        backward(model, k)
        backward(light, k)
        scion.step()
        lighter.step()
        for mine, other in zip(light.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)  # float64, in another order
            # (1 − α) d/α is what is kept
            kept = (1 - momentum) * scion.state[other]["average"] / momentum
            torch.testing.assert_close(mine.grad, kept, rtol=0, atol=1e-10)


def test_clipping_sees_the_scale_of_the_average():
    # the same gradient again and again: d grows towards it, and the step with it
    x = nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    optimizer = ScionLight([x], lr=1.0, momentum=0.5, norm="euclidean", constrained=False, step_rule="clipped")
    moved = []
    for _ in range(3):
        before = x.detach().clone()
        (0.25 * x).sum().backward()
        optimizer.step()
        moved.append(float((x.detach() - before).norm()))
    assert moved == pytest.approx([0.5 * (1 - 0.5**k) for k in (1, 2, 3)])


def test_the_state_is_empty_and_zero_grad_keeps_the_average():
    model = network()
    optimizer = ScionLight(groups(model))
    backward(model, 0)
    optimizer.step()
    kept = [p.grad.clone() for p in model.parameters()]
    for set_to_none in (True, False):
        optimizer.zero_grad(set_to_none=set_to_none)
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), kept, strict=True))
    assert all(grad.any() for grad in kept)
    assert optimizer.state_dict()["state"] == {}


def test_the_models_zero_grad_starts_the_average_anew():
    x, y = (nn.Parameter(torch.zeros(2, 2)) for _ in range(2))
    optimizers = [ScionLight([p], lr=0.5, norm="sign-onehot", constrained=False) for p in (x, y)]
    for k, factor in enumerate((1.0, -0.1)):
        for parameter, optimizer in zip((x, y), optimizers, strict=True):
            if k and parameter is y:
                parameter.grad = None
            (factor * parameter).sum().backward()
            optimizer.step()
    assert torch.equal(x, torch.full((2, 2), -1.0))  # 0.9 − 0.1 is still positive
    assert torch.equal(y, torch.zeros(2, 2))  # −0.1 alone is not


def test_gradients_accumulate_over_microbatches():
    whole, parts = network(), network()
    of_whole, of_parts = (ScionLight(groups(model), lr=0.125) for model in (whole, parts))
    for k in range(4):
        backward(whole, k)
        of_whole.step()
        for half in batch(k).split(4):
            (parts(half).square().mean() / 2).backward()
            of_parts.zero_grad()  # does nothing
        of_parts.step()
        for mine, other in zip(parts.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)  # float64 sums in another order


def step_with_closure(optimizer: Scion, model: nn.Module, k: int) -> float:
    def closure() -> float:
        optimizer.zero_grad()
        loss = model(batch(k)).square().mean()
        loss.backward()
        return float(loss.detach())

    return optimizer.step(closure)


def test_a_closure_may_be_called_as_usual():
    model, light = network(), network()
    scion, lighter = Scion(groups(model), lr=0.125), ScionLight(groups(light), lr=0.125)
    for k in range(3):
        expected = step_with_closure(scion, model, k)
        assert step_with_closure(lighter, light, k) == pytest.approx(expected, rel=1e-10)
    for mine, other in zip(light.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


# --- checkpoints ---


@pytest.mark.parametrize("parts", [{}, {"step_rule": "clipped", "smoothness": 20.0}], ids=["lmo", "clipped"])
def test_a_checkpoint_with_the_buffers_goes_on_bit_for_bit(parts):
    model = network(torch.float32)
    optimizer = ScionLight(groups(model), lr=0.125, **parts)
    for k in range(3):
        backward(model, k, torch.float32)
        optimizer.step()
    file = io.BytesIO()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "buffers": optimizer.gradient_buffers()}
    torch.save(state, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    other = network(torch.float32, seed=1)
    resumed = ScionLight(groups(other), lr=0.5)
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    resumed.load_gradient_buffers(saved["buffers"])
    for k in range(3, 6):
        for network_, its in ((model, optimizer), (other, resumed)):
            backward(network_, k, torch.float32)
            its.step()
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_without_the_buffers_the_average_is_lost():
    model, other = network(), network()
    optimizers = [ScionLight(groups(m), lr=0.125) for m in (model, other)]
    for k in range(3):
        if k == 2:
            other.zero_grad()
        for m, optimizer in zip((model, other), optimizers, strict=True):
            backward(m, k)
            optimizer.step()
    assert not torch.allclose(model[0].weight, other[0].weight, atol=1e-3)


def test_buffers_are_copies_and_may_be_missing():
    model = network()
    optimizer = ScionLight(groups(model))
    assert optimizer.gradient_buffers() == [None] * 4
    backward(model, 0)
    held = optimizer.gradient_buffers()
    before = [buffer.clone() for buffer in held]
    optimizer.step()
    assert all(torch.equal(buffer, old) for buffer, old in zip(held, before, strict=True))
    optimizer.load_gradient_buffers(held)
    optimizer.step()  # fades the gradients, not what was loaded
    assert all(torch.equal(buffer, old) for buffer, old in zip(held, before, strict=True))
    optimizer.load_gradient_buffers([None] * 4)
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(UserError, match="ScionLight: 3 gradient buffers for 4 parameters"):
        optimizer.load_gradient_buffers(held[:3])


@pytest.mark.parametrize("options", [{}, {"step_rule": "clipped", "smoothness": 1e3}], ids=["lmo", "clipped"])
def test_a_staged_run_holds_its_averages(options):
    asked = staged("scion-light", SAME_LENGTH, steps=12, options=options)
    state = training.Run(asked, CORPUS)
    state.run_stage()
    (averages,) = state.state_dict()["method"]["averages"]
    assert len(averages) == len(state.claims)
    assert all(average.any() for average in averages)
    resumed = saved_and_loaded(state)
    for run in (state, resumed):
        run.run_stage()
    assert numbers(resumed.outcome()) == numbers(state.outcome())
    lost = training.Run(asked, CORPUS)
    lost.run_stage()
    lost.model.zero_grad()
    lost.run_stage()
    assert numbers(lost.outcome()) != numbers(state.outcome())


def test_a_run_is_scions_to_rounding():
    light, scion = (training.train(staged(name, steps=8), CORPUS) for name in ("scion-light", "scion"))
    # float32 gradients in another order, through eight steps
    assert light.summary["val_loss"] == pytest.approx(scion.summary["val_loss"], rel=1e-4)


# --- what it refuses ---


@pytest.mark.parametrize("unscaled", [False, True])
def test_a_gradient_scaler_is_refused(unscaled):
    model = network(torch.float32)
    optimizer, scaler = ScionLight(groups(model)), torch.amp.GradScaler("cpu")
    before = [p.detach().clone() for p in model.parameters()]
    scaler.scale(model(batch(0, torch.float32)).square().mean()).backward()
    if unscaled:
        scaler.unscale_(optimizer)
    with pytest.raises(UserError, match="ScionLight: GradScaler rescales gradients, which are the average here"):
        scaler.step(optimizer)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    model.zero_grad()
    backward(model, 0, torch.float32)
    optimizer.step()  # and is not refused itself
    assert not torch.equal(model[0].weight, before[0])


def test_a_gradient_scaler_that_is_off_is_fine():
    model = network(torch.float32)
    optimizer, scaler = ScionLight(groups(model)), torch.amp.GradScaler("cpu", enabled=False)
    before = model[0].weight.detach().clone()
    scaler.scale(model(batch(0, torch.float32)).square().mean()).backward()
    scaler.step(optimizer)
    assert not torch.equal(model[0].weight, before)


@pytest.mark.parametrize(
    "parts",
    [
        {"average": "nesterov"},
        {"average": "lmo", "constrained": False},
        {"average": "none"},
        {"first_average": "gradient"},
        {"coupled": True, "weight_decay": 0.1, "constrained": False},
    ],
)
def test_other_averages_are_refused_and_leave_no_group(parts):
    with pytest.raises(UserError, match="ScionLight: average, first_average, coupled"):
        ScionLight(groups(network()), **parts)
    optimizer = ScionLight(groups(network()))
    with pytest.raises(UserError, match="ScionLight: average, first_average, coupled"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.eye(2))], **parts})
    assert len(optimizer.param_groups) == 2
