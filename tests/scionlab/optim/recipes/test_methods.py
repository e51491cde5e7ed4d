"""Every method of the template, step by step, against a reference written out here or PyTorch's own; its parts."""

import copy
import io
import math
import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import Small, trial
from torch import nn
from trainings import CORPUS, numbers, staged

from scionlab.errors import UserError
from scionlab.geometry import NewtonSchulz, layer_of
from scionlab.optim import OPTIMIZERS, LmoRecipe, Scion, ScionLight, recipe
from scionlab.optim.steps.muon_variants import AdaGO, AdaMuon, MuonHyperball, NorMuon
from scionlab.optim.steps.scion import DEFAULTS
from scionlab.optim.steps.shampoo import Shampoo
from scionlab.problems.data import load
from scionlab.problems.models.gpt import GPT, GPTConfig
from scionlab.problems.models.mlp import MLP, MLPConfig
from scionlab.roles.groups import param_groups
from scionlab.roles.roles import assign_roles
from scionlab.spec import Trial
from scionlab.training import Run, resolve, train

LR, ALPHA, DECAY = 0.125, 0.25, 0.5
OPTIMISM, POWER = 0.4, 1 / 3
STEPS = 6
# float64 products and SVDs of matrices this small, a few steps of them
ROUNDING = 1e-12

Arrays = dict[str, np.ndarray]


def small() -> nn.Module:
    """Every role and layout, in float64, none of its entries special."""
    model, generator = Small().double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def gradients(shapes: dict[str, tuple[int, ...]], count: int = STEPS, seed: int = 0) -> list[Arrays]:
    """Random gradients whose size falls from step to step by a factor of 3."""
    rng = np.random.default_rng(seed)
    return [{name: rng.normal(size=shape) * 3.0**-k for name, shape in shapes.items()} for k in range(count)]


def arrays(model: nn.Module) -> Arrays:
    return {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}


def set_gradients(model: nn.Module, values: Arrays) -> None:
    for name, parameter in model.named_parameters():
        parameter.grad = torch.from_numpy(values[name].copy()).to(parameter.dtype)


def optimizer_of(name: str, model: nn.Module, lr: float = LR, **options) -> torch.optim.Optimizer:
    (optimizer,) = recipe(trial(name, **options)).optimizers(assign_roles(model), lr, ALPHA, 8)
    return optimizer


def each(formula: Callable[..., np.ndarray], *values: Arrays) -> Arrays:
    return {name: formula(*(value[name] for value in values)) for name in values[0]}


# --- the balls of Scion's recipe, by hand ---

RADII = {"embed.weight": 1.0, "hidden.weight": 3.0, "head.weight": 64.0}


def radius(name: str) -> float:
    return RADII.get(name, 1.0)


def polar(g: np.ndarray) -> np.ndarray:
    u, _, vt = np.linalg.svd(g, full_matrices=False)
    return u @ vt


def lmo(name: str, g: np.ndarray) -> np.ndarray:
    """On the unit ball: column (stored as rows), spectral, sign, and of vectors the maximum or the RMS."""
    if name == "embed.weight":
        return -math.sqrt(g.shape[1]) * g / np.linalg.norm(g, axis=1, keepdims=True)
    if name == "hidden.weight":
        return -math.sqrt(g.shape[0] / g.shape[1]) * polar(g)
    if name == "head.weight":
        return -np.sign(g) / g.shape[1]
    return -np.sign(g) if name == "norm.weight" else -g / np.sqrt(np.mean(g**2))


def dual(name: str, g: np.ndarray) -> float:
    """ρ‖g‖_*, as the largest product with a point of the ball."""
    return -radius(name) * float((g * lmo(name, g)).sum())


def norm(name: str, x: np.ndarray) -> float:
    """‖x‖/ρ."""
    if name == "embed.weight":
        size = max(np.sqrt(np.mean(row**2)) for row in x)
    elif name == "hidden.weight":
        size = np.linalg.norm(x, 2) * math.sqrt(x.shape[1] / x.shape[0])
    elif name == "head.weight":
        size = np.abs(x).max() * x.shape[1]
    else:
        size = np.abs(x).max() if name == "norm.weight" else np.sqrt(np.mean(x**2))
    return float(size) / radius(name)


def points(d: Arrays) -> Arrays:
    """s = ρ lmo(d)."""
    return {name: radius(name) * lmo(name, value) for name, value in d.items()}


# --- the methods, by hand: one step from x with gradient g, `memory` is theirs ---


def averaged(memory: dict, g: Arrays) -> Arrays:
    old = memory.get("d", each(np.zeros_like, g))
    memory["d"] = each(lambda d, g: (1 - ALPHA) * d + ALPHA * g, old, g)
    return memory["d"]


def sgd(x, g, memory):
    return each(lambda x, d: x - LR * d, x, averaged(memory, g))


def normalized_sgd(x, g, memory):
    return each(lambda x, d: x - LR * d / np.sqrt((d**2).sum()), x, averaged(memory, g))


def signum(x, g, memory):
    return each(lambda x, d: x - LR * np.sign(d), x, averaged(memory, g))


def sign_sgd(x, g, memory):
    return each(lambda x, g: x - LR * np.sign(g), x, g)


def linf_descent(x, g, memory):
    total = sum(np.abs(value).sum() for value in g.values())
    return each(lambda x, g: x - LR * total * np.sign(g), x, g)


def spectral_descent(x, g, memory):
    def step(x, g):  # of a vector the one singular value is its length, and the product is g itself
        return x - LR * (np.linalg.norm(g, "nuc") * polar(g) if g.ndim == 2 else g)

    return each(step, x, g)


def uscion(x, g, memory):
    return each(lambda x, s: x + LR * s, x, points(averaged(memory, g)))


def scion(x, g, memory):
    return each(lambda x, s: (1 - LR) * x + LR * s, x, points(averaged(memory, g)))


def decoupled(x, g, memory):
    return each(lambda x, s: (1 - LR * DECAY) * x + LR * s, x, points(averaged(memory, g)))


def coupled(x, g, memory):
    return each(lambda x, s: x + LR * s, x, points(averaged(memory, each(lambda x, g: g + DECAY * x, x, g))))


def almond(x, g, memory):
    return each(lambda x, d: x + LR * d, x, averaged(memory, points(g)))


def nesterov(x, g, memory):
    ahead = each(lambda d, g: (1 - ALPHA) * d + ALPHA * g, averaged(memory, g), g)
    return each(lambda x, s: x + LR * s, x, points(ahead))


def lion(x, g, memory):
    """Chen et al., arXiv 2302.06675, algorithm 2: β₁ = 1 − OPTIMISM for the step, β₂ = 1 − α for what is kept."""
    old = memory.get("d", each(np.zeros_like, g))
    step = each(lambda d, g: np.sign((1 - OPTIMISM) * d + OPTIMISM * g), old, g)
    averaged(memory, g)
    return each(lambda x, s: (1 - LR * DECAY) * x - LR * s, x, step)


def powered(x, g, memory):
    d = averaged(memory, g)
    total = sum(dual(name, value) for name, value in d.items())
    return each(lambda x, s: x + LR * total**POWER * s, x, points(d))


def smooth_clipped(x, g, memory):
    d = averaged(memory, g)
    own = {name: dual(name, value) for name, value in d.items()}
    size = {name: value / (memory["L"] + value / LR) for name, value in own.items()}  # Gluon's, L¹ = 1/γ
    return {name: x[name] + size[name] * s for name, s in points(d).items()}


def sizes(memory: dict, best: dict[str, float]) -> dict[str, float]:
    memory["sizes"] = [*memory.get("sizes", []), *best.values()]
    return {name: min(LR, size) for name, size in best.items()}


def clipped_uscion(x, g, memory, scope="network"):
    d = averaged(memory, g)
    own = {name: dual(name, value) / memory["L"] for name, value in d.items()}
    size = sizes(memory, own if scope == "layer" else dict.fromkeys(own, sum(own.values())))
    return {name: x[name] + size[name] * s for name, s in points(d).items()}


def clipped_and_decayed(x, g, memory):
    moved = clipped_uscion(each(np.zeros_like, x), g, memory)
    return each(lambda x, moved: (1 - LR * DECAY) * x + moved, x, moved)


def clipped_scion(x, g, memory, scope="network"):
    d = averaged(memory, g)
    s = points(d)
    gap = {name: float((d[name] * (x[name] - s[name])).sum()) for name in d}
    length = {name: norm(name, x[name] - s[name]) for name in d}
    if scope == "network":
        gap, length = dict.fromkeys(d, sum(gap.values())), dict.fromkeys(d, max(length.values()))
    size = sizes(memory, {name: max(0.0, gap[name]) / (memory["L"] * length[name] ** 2) for name in d})
    return {name: (1 - size[name]) * x[name] + size[name] * s[name] for name in d}


def steepest_uscion(x, g, memory):
    d = averaged(memory, g)
    total = sum(dual(name, value) for name, value in d.items())
    return each(lambda x, s: x + LR * total * s, x, points(d))


EXACT = {"norm_hidden": "spectral-exact"}
BY_LAYER = {"scope": "layer", "smoothness": 20.0}
# optimizer, options, reference
METHODS = {
    "SGD with momentum": ("sgd", {}, sgd),
    "normalized SGD": ("normalized-sgd", {}, normalized_sgd),
    "Signum": ("signum", {}, signum),
    "SignSGD": ("sign-sgd", {}, sign_sgd),
    "ℓ∞-descent": ("linf-descent", {}, linf_descent),
    "spectral descent": ("spectral-descent", {}, spectral_descent),
    "unconstrained Scion": ("uscion", EXACT, uscion),
    "Scion": ("scion", EXACT, scion),
    "decoupled decay": ("uscion", EXACT | {"weight_decay": DECAY}, decoupled),
    "coupled decay": ("uscion", EXACT | {"weight_decay": DECAY, "coupled": True}, coupled),
    "Nesterov's": ("uscion", EXACT | {"average": "nesterov"}, nesterov),
    "ALMOND": ("almond", EXACT, almond),
    "steepest descent": ("uscion", EXACT | {"step_rule": "steepest"}, steepest_uscion),
    "Lion": ("signum", {"average": "lion", "optimism": OPTIMISM, "weight_decay": DECAY}, lion),
    "power": ("uscion", EXACT | {"step_rule": "power", "power": POWER}, powered),
    "smooth clipping, by layer": (
        "uscion",
        EXACT | {"step_rule": "smooth-clip", "smoothness": 20.0, "scope": "layer"},
        smooth_clipped,
    ),
    "clipped unconstrained Scion": ("clipped-uscion", EXACT | {"smoothness": 500.0}, clipped_uscion),
    "clipped, decayed": ("clipped-uscion", EXACT | {"smoothness": 500.0, "weight_decay": DECAY}, clipped_and_decayed),
    "clipped Scion": ("clipped-scion", EXACT | {"smoothness": 100.0}, clipped_scion),
    "clipped unconstrained Scion, by layer": (
        "clipped-uscion",
        EXACT | BY_LAYER,
        partial(clipped_uscion, scope="layer"),
    ),
    "clipped Scion, by layer": ("clipped-scion", EXACT | BY_LAYER, partial(clipped_scion, scope="layer")),
}


@pytest.mark.parametrize(("name", "options", "reference"), METHODS.values(), ids=METHODS.keys())
def test_every_step_is_that_of_the_formula(name, options, reference):
    model, memory = small(), {"L": options.get("smoothness")}
    optimizer, expected = optimizer_of(name, model, **options), arrays(model)
    for values in gradients({n: v.shape for n, v in expected.items()}):
        set_gradients(model, values)
        optimizer.step()
        expected = reference(expected, values, memory)
        for parameter, value in arrays(model).items():
            np.testing.assert_allclose(value, expected[parameter], rtol=0, atol=100 * ROUNDING, err_msg=parameter)
    if "clipped" in name:  # both sides of the minimum were seen
        assert min(memory["sizes"]) < LR < max(memory["sizes"])


# --- against PyTorch's own ---


def matrix(shape: tuple[int, ...] = (6, 4), dtype=torch.float64, seed: int = 7) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype))


def drawn(shape: tuple[int, ...] = (6, 4), dtype=torch.float64, count: int = STEPS) -> list[torch.Tensor]:
    return [torch.from_numpy(g["x"]).to(dtype) for g in gradients({"x": shape}, count)]


def step(optimizer: torch.optim.Optimizer, grad: torch.Tensor) -> torch.Tensor:
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.grad = grad.clone()
    optimizer.step()
    return parameter.detach()


def assert_same_steps(ours: torch.optim.Optimizer, theirs: torch.optim.Optimizer, grads, tolerance: float) -> None:
    for k, grad in enumerate(grads, 1):
        torch.testing.assert_close(step(ours, grad), step(theirs, grad), rtol=0, atol=k * tolerance)


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_sgd_is_pytorchs_with_momentum_and_dampening(weight_decay):
    x, y = matrix(), matrix()
    parts = {"step_rule": "steepest", "first_average": "gradient", "weight_decay": weight_decay, "coupled": True}
    ours = Scion([x], lr=LR, momentum=ALPHA, norm="euclidean", constrained=False, **parts)
    momentum = 1 - ALPHA
    theirs = torch.optim.SGD([y], lr=LR, momentum=momentum, dampening=momentum, weight_decay=weight_decay)
    assert_same_steps(ours, theirs, drawn(), ROUNDING)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("shape", [(16, 16), (32, 8), (8, 32)], ids=["square", "tall", "wide"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_muon_is_unconstrained_spectral_scion_up_to_the_shape_factor(nesterov, shape, weight_decay):
    d_out, d_in = shape
    factor = max(1, d_out / d_in) ** 0.5 / (d_out / d_in) ** 0.5
    x, y = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape))
    parts = {"average": "nesterov" if nesterov else "gradient", "weight_decay": weight_decay}
    ours = Scion([x], lr=LR, momentum=ALPHA, norm="spectral", radius=factor, constrained=False, **parts)
    theirs = torch.optim.Muon([y], lr=LR, momentum=1 - ALPHA, nesterov=nesterov, weight_decay=weight_decay)
    for grad in drawn(shape, torch.float32):
        mine, other = step(ours, grad), step(theirs, grad)
        # PyTorch iterates in bfloat16: a few of its roundings remain
        assert float((mine - other).norm() / mine.norm()) < 3 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize(
    "theirs",
    [
        lambda y: torch.optim.Adam([y], lr=LR, betas=(0.0, 0.0), eps=1e-8),
        lambda y: torch.optim.RMSprop([y], lr=LR, alpha=0.0, eps=1e-8),
    ],
    ids=["Adam", "RMSprop"],
)
def test_adam_and_rmsprop_without_memory_are_sign_descent(theirs):
    x, y = matrix(), matrix()
    ours = Scion([x], lr=LR, norm="sign-onehot", constrained=False, average="none")
    grads = [grad.sign() * grad.abs().clamp(min=1e-3) for grad in drawn()]
    grads[2][0] = 0  # whose sign is 0
    # |g|/(|g| + eps) is 1 up to eps/|g| ≤ 1e-5
    assert_same_steps(ours, theirs(y), grads, LR * 1e-5)


@pytest.mark.parametrize(
    ("name", "theirs", "settings"),
    [
        ("adam", torch.optim.AdamW, {"betas": (1 - ALPHA, 0.95), "eps": 1e-8}),
        ("adagrad", torch.optim.Adagrad, {"eps": 1e-10, "weight_decay": 0.0}),
        ("rmsprop", torch.optim.RMSprop, {"alpha": 0.95, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0}),
    ],
)
def test_diagonal_methods_are_pytorchs(name, theirs, settings):
    optimizer = optimizer_of(name, small())
    assert type(optimizer) is theirs
    for group in optimizer.param_groups:
        assert {key: group[key] for key in settings} == settings


# --- decay ---


@pytest.mark.parametrize("norm", ["spectral", "sign", "column", "row", "euclidean", "schatten-4"])
@pytest.mark.parametrize("decay", [1.0, 0.25, 3.0])
def test_decoupled_decay_is_a_ball_of_radius_rho_over_lambda(norm, decay):
    x, y = matrix(), matrix()
    decayed = Scion([x], lr=LR, norm=norm, radius=3.0, constrained=False, weight_decay=decay)
    constrained = Scion([y], lr=LR * decay, norm=norm, radius=3.0 / decay)
    for grad in drawn():
        mine, other = step(decayed, grad), step(constrained, grad)
        torch.testing.assert_close(mine, other, rtol=0, atol=ROUNDING)
        assert decay != 1 or torch.equal(mine, other)  # the same operations in the same order


def test_coupled_decay_is_another_algorithm():
    # without a gradient, decoupled decay shrinks entries in proportion, and coupled decay steps by their sign
    x, y = (nn.Parameter(torch.tensor([[1.0, 0.25]])) for _ in range(2))
    options = {"lr": 0.5, "norm": "sign-onehot", "constrained": False, "weight_decay": 0.5, "average": "none"}
    assert step(Scion([x], **options), torch.zeros(1, 2)).tolist() == [[0.75, 0.1875]]
    assert step(Scion([y], **options, coupled=True), torch.zeros(1, 2)).tolist() == [[0.5, -0.25]]


# --- parts that are others at an end of their range ---


@pytest.mark.parametrize(("power", "rule"), [(0, "lmo"), (1, "steepest")])
@pytest.mark.parametrize("norm", ["spectral", "sign", "schatten-4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_powers_of_the_dual_norm_run_from_the_lmo_to_steepest_descent(power, rule, norm, dtype):
    x, y = matrix(dtype=dtype), matrix(dtype=dtype)
    ours = Scion([x], lr=LR, norm=norm, constrained=False, step_rule="power", power=power)
    theirs = Scion([y], lr=LR, norm=norm, constrained=False, step_rule=rule)
    for grad in drawn(dtype=dtype):
        assert torch.equal(step(ours, grad), step(theirs, grad))


@pytest.mark.parametrize(("p", "power"), [(2.0, 1.0), (4.0, 1 / 3), (3.0, 1 / 2)])
def test_a_power_step_minimizes_the_norm_to_the_p(p, power):
    # argmin ⟨d, s⟩ + ‖s‖_p^p/(pη) is −U diag((ησ)^(1/(p−1))) Vᵀ, singular value by singular value
    x, grad, rate = nn.Parameter(torch.zeros(6, 4, dtype=torch.float64)), drawn()[0], 0.5
    parts = {"step_rule": "power", "power": power, "constrained": False, "average": "none"}
    found = step(Scion([x], lr=rate**power, norm=f"schatten-{p:g}", **parts), grad)
    u, sigma, vt = torch.linalg.svd(grad, full_matrices=False)
    torch.testing.assert_close(found, -u @ torch.diag((rate * sigma) ** power) @ vt, rtol=0, atol=100 * ROUNDING)


def test_smooth_clipping_lies_below_clipping_and_meets_it_far_from_the_corner():
    grad = drawn()[0]
    dual = float(grad.norm())
    for lr, share in ((1e-6, 1.0), (1e6, 1.0), (1.0, 0.5)):  # of the plain step's corner: γ = ‖d‖/L
        parts = {"lr": lr * dual, "norm": "euclidean", "constrained": False, "average": "none"}
        x, y = matrix(), matrix()
        start = x.detach().clone()
        smooth = (step(Scion([x], step_rule="smooth-clip", **parts), grad) - start).norm()
        clipped = (step(Scion([y], step_rule="clipped", **parts), grad) - start).norm()
        assert float(smooth / clipped) == pytest.approx(share, rel=1e-5)  # of 1/(1 + 1e-6), and rounding of tiny steps


def test_nesterovs_average_is_lions_of_a_larger_weight():
    x, y = matrix(), matrix()
    nesterov = Scion([x], lr=LR, momentum=ALPHA, norm="euclidean", average="nesterov")
    ahead = 1 - (1 - ALPHA) ** 2
    lions = Scion([y], lr=LR, momentum=ALPHA, norm="euclidean", average="lion", optimism=ahead)
    assert_same_steps(lions, nesterov, drawn(), ROUNDING)


@pytest.mark.parametrize("shape", [(8, 4), (4, 8), (6, 6)])
def test_between_its_periods_a_matrix_moves_by_parts_along_its_larger_side(shape):
    x = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = Scion([x], lr=1.0, momentum=1.0, norm="spectral-exact", constrained=False, period=3, period_blocks=2)
    axis = 0 if shape[0] >= shape[1] else 1
    for k, grad in enumerate(drawn(shape)):
        before = x.detach().clone()
        moved = (step(optimizer, grad) - before).numpy()
        parts = [grad.numpy()] if k % 3 == 0 else np.split(grad.numpy(), 2, axis=axis)
        expected = np.concatenate([-math.sqrt(part.shape[0] / part.shape[1]) * polar(part) for part in parts], axis)
        np.testing.assert_allclose(moved, expected, atol=100 * ROUNDING)


def test_a_period_goes_on_after_a_checkpoint():
    def make(parameter: nn.Parameter) -> Scion:
        return Scion([parameter], lr=LR, norm="spectral", period=3, period_blocks=2)

    x, y, grads = matrix(), matrix(), drawn()
    whole, saved = make(x), make(y)
    for grad in grads[:2]:
        step(whole, grad), step(saved, grad)
    z = nn.Parameter(y.detach().clone())
    resumed = make(z)
    resumed.load_state_dict(copy.deepcopy(saved.state_dict()))
    for grad in grads[2:]:
        assert torch.equal(step(whole, grad), step(resumed, grad))


def test_norms_are_bounded_where_steps_are_no_longer_than_their_rate():
    bounded = {"scion": {}, "uscion": {"weight_decay": 0.5}, "clipped-uscion": {}}
    assert [recipe(trial(name, **options)).pull for name, options in bounded.items()] == [1.0, 0.5, 0.0]
    longer = {"step_rule": "power"}, {"period": 2, "period_blocks": 2}, {"mass_hidden": 9.0}, {"anchored": True}
    assert [recipe(trial("uscion", **options)).pull for options in longer] == [None] * 4


def test_hidden_matrices_share_a_mass():
    groups = recipe(trial("uscion", mass_hidden=3.0)).optimizers(assign_roles(Small()), LR, ALPHA, 8)[0].param_groups
    rates = {name: group["lr"] for (name, _), group in zip(Small().named_parameters(), groups, strict=True)}
    assert rates.pop("hidden.weight") == 3 * LR  # the only one
    assert set(rates.values()) == {LR}
    deep = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    method = recipe(trial("uscion", mass_hidden=3.0)).optimizers(assign_roles(deep, preset="image-mlp"), LR, ALPHA, 8)
    assert sorted({group["lr"] for group in method[0].param_groups}) == [LR, 1.5 * LR]


# --- guarantees ---


@pytest.mark.parametrize("scope", ["network", "layer"])
@pytest.mark.parametrize("smoothness", [1e-6, 1.0, 1e3])
def test_clipped_scion_never_leaves_its_ball(scope, smoothness):
    model = small()
    optimizer = optimizer_of("clipped-scion", model, lr=1.0, **EXACT, scope=scope, smoothness=smoothness)
    with torch.no_grad():
        for parameter, size, ball in optimizer.norms():
            parameter.mul_(ball / size)
    for values in gradients({n: v.shape for n, v in arrays(model).items()}, count=20):
        set_gradients(model, values)
        optimizer.step()
        assert max(norm(name, x) for name, x in arrays(model).items()) < 1 + ROUNDING


def losses(optimizer: str, lr: float, radius: float, **options) -> list[float]:
    """f along a run without noise on the quadratic, whose L is 1 in the spectral norm, so radius² in the ball's."""
    balls = {"norm_output": "spectral-exact", "radius_output": radius} | options
    sizes = {"width": 8, "head_dim": 2, "batch_size": 1, "seq_len": 1, "val_seq_len": 1, "val_tokens": 1, "tokens": 40}
    values = {"momentum": 1.0, "schedule": "constant", "divergence_factor": 1e6, "device": "cpu"} | sizes
    asked = Trial(optimizer=optimizer, lr=lr, model="quadratic", data="noise:none", options=balls, **values)
    return [row["train_loss"] for row in train(resolve(asked), load("noise:none")).curve]


@pytest.mark.parametrize(("clipped", "plain"), [("clipped-scion", "scion"), ("clipped-uscion", "uscion")])
@pytest.mark.parametrize("radius", [1.0, 2.0])
@pytest.mark.parametrize("scope", ["network", "layer"])
def test_clipped_steps_descend_where_plain_ones_do_not(clipped, plain, radius, scope):
    found = losses(clipped, 0.4, radius, smoothness=radius**2, scope=scope)
    assert all(after <= before + 1e-8 for before, after in pairwise(found))  # float32, f(0) is about 1/20
    assert found[-1] < 1e-2 * found[0]
    other = losses(plain, 0.4, radius)
    assert max(after - before for before, after in pairwise(other)) > 0.01
    # without an upper bound that is true, clipping promises nothing
    careless = losses(clipped, 0.4, radius, smoothness=radius**2 / 100, scope=scope)
    assert any(after > before + 1e-3 for before, after in pairwise(careless))


def test_a_clipped_step_sees_the_groups_of_its_own_rule_only():
    x, y, z = matrix(), matrix(seed=8), matrix(seed=9)
    plain = {"norm": "euclidean", "constrained": False}
    clipped = plain | {"step_rule": "clipped", "smoothness": 100.0}
    groups = [{"params": [x], **plain}, {"params": [y], **clipped}, {"params": [z], **clipped, "lr": 0.01, "radius": 2}]
    start = [p.detach().clone() for p in (x, y, z)]
    for parameter, grad in zip((x, y, z), drawn(count=3), strict=True):
        parameter.grad = grad
    Scion(groups, lr=0.5, momentum=1.0).step()
    lengths = [float(p.grad.norm()) for p in (x, y, z)]
    best = (lengths[1] + 2 * lengths[2]) / 100
    assert 0.01 < best < 0.5
    moved = [float((p.detach() - before).norm()) for p, before in zip((x, y, z), start, strict=True)]
    assert moved == pytest.approx([0.5, best, 2 * 0.01])


def test_groups_of_another_smoothness_are_another_scope():
    x, y = matrix(), matrix(seed=8)
    groups = [{"params": [x], "smoothness": 100.0}, {"params": [y], "smoothness": 200.0}]
    start = [p.detach().clone() for p in (x, y)]
    for parameter, grad in zip((x, y), drawn(count=2), strict=True):
        parameter.grad = grad
    Scion(groups, lr=1.0, momentum=1.0, norm="euclidean", constrained=False, step_rule="clipped").step()
    moved = [float((p.detach() - before).norm()) for p, before in zip((x, y), start, strict=True)]
    assert moved == pytest.approx([float(x.grad.norm()) / 100, float(y.grad.norm()) / 200])


def test_beyond_the_point_that_a_clipped_step_goes_to_there_is_none():
    # x lies outside the ball where the loss still falls: the way to s leads uphill
    x = nn.Parameter(torch.tensor([[-3.0, 0.0]]))
    optimizer = Scion([x], lr=1.0, norm="euclidean", step_rule="clipped")
    assert step(optimizer, torch.tensor([[1.0, 0.0]])).tolist() == [[-3.0, 0.0]]


# --- momentum that vanishes ---


class ByHand(Run):
    """α = 1/√k, written before every step."""

    def _step(self) -> torch.Tensor:
        for group in self.method.groups:
            group["momentum"] = 1 / math.sqrt(self.step)
        return super()._step()


@pytest.mark.parametrize("optimizer", ["scion", "uscion", "almond", "signum"])
def test_vanishing_momentum_is_one_over_the_root_of_the_step(optimizer):
    asked = staged(optimizer, (4, 4, 16, 2**-6))
    by_hand = ByHand(asked, CORPUS)
    while not by_hand.finished:
        by_hand.run_stage()
    scheduled = train(asked.replace(momentum_schedule="vanishing"), CORPUS)
    assert numbers(scheduled) == numbers(by_hand.outcome())
    assert scheduled.curve != train(asked, CORPUS).curve


@pytest.mark.parametrize("optimizer", ["adam", "adam-mup", "muon", "scion-light", "shampoo", "adagrad", "rmsprop"])
def test_other_methods_have_a_constant_momentum(optimizer):
    with pytest.raises(UserError, match="momentum_schedule: 'vanishing' is not allowed with optimizer"):
        resolve(trial(optimizer).replace(momentum_schedule="vanishing"))


# --- Newton-Schulz, and the norms of SCHATTEN ---

ITERATION = {"steps": 12, "coefficients": "taylor", "dtype": "float64"}


def test_options_of_newton_schulz_reach_the_norms_that_iterate():
    claims = assign_roles(nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(5, 4), nn.Linear(4, 2)))
    method = recipe(trial("scion", **ITERATION))
    (optimizer,) = method.optimizers(claims, LR, ALPHA, 8)
    norms = {group["norm"]: layer_of(group).norm for group in optimizer.param_groups}
    assert set(norms) == {"conv", "spectral", "sign", "bias"}
    for name, norm in norms.items():
        assert getattr(norm, "iteration", None) == (NewtonSchulz(**ITERATION) if name in ("conv", "spectral") else None)
    assert [method.layer(claim) for claim in claims] == [layer_of(group) for group in optimizer.param_groups]


def test_many_steps_of_a_convergent_iteration_are_the_exact_method():
    x, y = matrix(), matrix()
    options = {"lr": LR, "norm": "spectral", "radius": 3.0}
    iterated = Scion([x], **options, norm_options={"steps": 40, "coefficients": "taylor"})
    # the iteration converges cubically from wherever it starts
    assert_same_steps(iterated, Scion([y], **options | {"norm": "spectral-exact"}), drawn(), 1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coefficients": "taylr"}, "coefficients: 'taylr' is not known .*'taylor'"),
        ({"dtype": "float8"}, "dtype: 'float8' is not known"),
        ({"steps": -1}, "steps: -1 is not allowed"),
    ],
)
@pytest.mark.parametrize("optimizer", ["scion", "signum"])
def test_unknown_options_of_newton_schulz_are_refused_before_training(optimizer, options, message):
    with pytest.raises(UserError, match=message):
        resolve(trial(optimizer, **options))


@pytest.mark.parametrize("p", [2, 3, 8])
def test_schatten_scion_is_the_p_norms_lmo(p):
    model, memory = small(), {}
    optimizer, x = optimizer_of("scion", model, norm_hidden=f"schatten-{p}"), arrays(model)["hidden.weight"]
    for values in gradients({n: v.shape for n, v in arrays(model).items()}):
        set_gradients(model, values)
        optimizer.step()
        d = averaged(memory, values)["hidden.weight"]
        u, sigma, vt = np.linalg.svd(d, full_matrices=False)
        q = p / (p - 1)
        s = -3.0 * (u * (sigma / np.linalg.norm(sigma, q)) ** (q - 1)) @ vt
        x = (1 - LR) * x + LR * s
        np.testing.assert_allclose(arrays(model)["hidden.weight"], x, rtol=0, atol=ROUNDING)


# --- parts that do not go together, groups and their checkpoints ---

REFUSED = {
    "two decays": ({"weight_decay": 0.1}, r"weight_decay: 0\.1 is not allowed: constrained"),
    "negative decay": ({"weight_decay": -0.1, "constrained": False}, r"weight_decay: -0\.1 .* \[0, ∞\)"),
    "NaN decay": ({"weight_decay": math.nan, "constrained": False}, "weight_decay: nan"),
    "constrained steepest": ({"step_rule": "steepest"}, "step_rule: 'steepest' is not allowed: a constrained"),
    "ALMOND, clipped": ({"average": "lmo", "step_rule": "clipped"}, "step_rule: 'clipped' .* no dual norm"),
    "ALMOND, steepest": (
        {"average": "lmo", "step_rule": "steepest", "constrained": False},
        "step_rule: 'steepest' .* no dual norm",
    ),
    "unknown average": ({"average": "nesterow"}, "average: 'nesterow' .*'nesterov'"),
    "unknown step rule": ({"step_rule": "clip"}, "step_rule: 'clip' .*clipped"),
    "unknown scope": ({"scope": "layers"}, "scope: 'layers' .*'layer'"),
    "no smoothness": ({"smoothness": 0.0}, r"smoothness: 0\.0 is not allowed: it must be positive"),
    "infinite smoothness": ({"smoothness": math.inf}, "smoothness: inf"),
    "unknown argument": ({"smootness": 1.0}, "argument: 'smootness' .*'smoothness'"),
    "blocks that do not divide": ({"blocks": 4}, r"blocks: 4 is not allowed: .* shape \(6, 4\)"),
    "unknown option": ({"norm_options": {"step": 3}}, "norm_options: 'step' .*'steps'"),
    "options that are no dict": ({"norm_options": 3}, "norm_options: 3 is not allowed"),
    "options without iteration": ({"norm": "row", "norm_options": {"steps": 3}}, "steps.* not allowed for norm 'row'"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_parts_that_do_not_go_together_are_refused_by_name(options, message):
    with pytest.raises(UserError, match=f"Scion: {message}"):
        Scion([matrix()], **options)


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        ("scion", {"weight_decay": 0.1}, "weight_decay"),
        ("scion", {"step_rule": "steepest"}, "step_rule"),
        ("almond", {"step_rule": "clipped"}, "step_rule"),
        ("sgd", {"constrained": True}, "step_rule"),
        ("scion-light", {"average": "nesterov"}, "ScionLight: average"),
        ("scion-light", {"coupled": True}, "coupled"),
    ],
)
def test_recipes_refuse_them_before_training(optimizer, options, message):
    with pytest.raises(UserError, match=message):
        resolve(trial(optimizer, **options))


@pytest.mark.parametrize("parts", [{"step_rule": "clipped", "smoothness": 100.0}, {}], ids=["clipped", "lmo"])
def test_a_checkpoint_older_than_a_part_has_its_default(parts):
    x, y = matrix(), matrix()
    optimizer = Scion([x], lr=LR, norm="spectral-exact", **parts)
    step(optimizer, drawn()[0])
    saved = copy.deepcopy(optimizer.state_dict())
    added = {"blocks", "norm_options", "average", "step_rule", "scope", "smoothness", "weight_decay", "coupled"}
    kept = {name: value for name, value in saved["param_groups"][0].items() if name not in added}
    assert added < set(DEFAULTS)
    older = Scion([y], average="nesterov")
    older.load_state_dict(copy.deepcopy({"state": saved["state"], "param_groups": [kept]}))
    assert all(older.param_groups[0][name] == DEFAULTS[name] for name in added)
    with torch.no_grad():
        y.copy_(x)
    reference = Scion([x], **{name: optimizer.param_groups[0][name] for name in set(DEFAULTS) - added})
    reference.load_state_dict({"state": saved["state"], "param_groups": reference.state_dict()["param_groups"]})
    assert_same_steps(older, reference, drawn()[1:], 0.0)


@pytest.mark.parametrize(
    ("average", "step_rule"),
    [
        *((average, rule) for average in ("gradient", "nesterov", "none") for rule in ("lmo", "clipped", "steepest")),
        ("lmo", "lmo"),
    ],
)
def test_every_part_survives_saving_bit_for_bit(average, step_rule):
    x = matrix(dtype=torch.float32)
    parts = {"average": average, "step_rule": step_rule, "smoothness": 30.0, "constrained": False, "coupled": True}
    optimizer = Scion([x], lr=LR, weight_decay=0.5, scope="layer", norm_options={"steps": 3}, **parts)
    grads = drawn(dtype=torch.float32)
    for grad in grads[:3]:
        step(optimizer, grad)
    file = io.BytesIO()
    torch.save({"x": x.detach(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = Scion([nn.Parameter(saved["x"])], norm="sign")
    resumed.load_state_dict(saved["optimizer"])
    assert_same_steps(resumed, optimizer, grads[3:], 0.0)


@pytest.mark.parametrize("parts", [{}, {"step_rule": "clipped"}, {"step_rule": "steepest", "constrained": False}])
def test_a_rate_of_zero_averages_and_moves_nothing(parts):
    x = matrix()
    optimizer, before = Scion([x], lr=0.0, norm="row", **parts), x.detach().clone()
    assert torch.equal(step(optimizer, drawn()[0]), before)
    assert torch.equal(optimizer.state[x]["average"], torch.zeros_like(x).lerp(drawn()[0], 0.1))


@pytest.mark.parametrize("parts", [{}, {"step_rule": "clipped", "smoothness": 100.0}])
def test_parameters_without_a_gradient_stay_and_do_not_count(parts):
    x, idle, alone = matrix(), matrix(seed=8), matrix()
    groups = [{"params": [x]}, {"params": [idle]}]
    both, one = (Scion(given, lr=0.5, norm="euclidean", **parts) for given in (groups, [alone]))
    before = idle.detach().clone()
    assert_same_steps(both, one, drawn(), 0.0)
    assert torch.equal(idle, before)
    assert idle not in both.state
    idle.grad = x.grad = None
    both.step()  # nothing at all to do
    assert torch.equal(x, alone)


def test_groups_do_not_share_their_options():
    optimizer = Scion([{"params": [matrix()]}, {"params": [matrix()]}])
    optimizer.param_groups[0]["norm_options"]["steps"] = 3
    assert optimizer.param_groups[1]["norm_options"] == Scion([matrix()]).param_groups[0]["norm_options"] == {}


# --- memory ---

# copies of a weight that the state holds, for hidden matrices and for everything else; Shampoo's factors are on top
COPIES = {
    "adam": (2, 2), "adam-mup": (2, 2), "muon": (1, 2), "scion": (1, 1), "uscion": (1, 1), "scion-light": (0, 0),
    "clipped-scion": (1, 1), "clipped-uscion": (1, 1), "almond": (1, 1), "sgd": (1, 1), "normalized-sgd": (1, 1),
    "signum": (1, 1), "sign-sgd": (0, 0), "linf-descent": (0, 0), "spectral-descent": (0, 0), "adagrad": (1, 1),
    "rmsprop": (1, 1), "normuon": (1, 2), "adamuon": (2, 2), "muon-hyperball": (1, 2), "adago": (1, 2),
}  # fmt: skip


def held(optimizers) -> int:
    """Entries of all tensors in the state, but for counters of steps."""
    states = [state for o in optimizers for state in o.state_dict()["state"].values()]
    return sum(v.numel() for s in states for k, v in s.items() if torch.is_tensor(v) and k != "step")


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("architecture", ["gpt", "mlp"])
def test_states_hold_as_many_copies_of_the_weights_as_the_table_says(name, architecture):
    model = GPT(GPTConfig(width=32, depth=1)) if architecture == "gpt" else MLP(MLPConfig(16, 2, 64, 10))
    claims = assign_roles(model, preset="text" if architecture == "gpt" else "image-mlp")
    optimizers = recipe(trial(name)).optimizers(claims, 2**-6, ALPHA, 32)
    for _ in range(2):
        for claim in claims:
            claim.parameter.grad = torch.randn(claim.parameter.shape, generator=torch.Generator().manual_seed(0))
        for optimizer in optimizers:
            optimizer.step()
    matrices = sum(c.parameter.numel() for c in claims if c.role == "hidden" and c.parameter.ndim == 2)
    rest = sum(c.parameter.numel() for c in claims) - matrices
    of_hidden, elsewhere = COPIES[name]
    assert matrices > 500
    count = sum(1 for c in claims if c.role == "hidden" and c.parameter.ndim == 2)
    rows = sum(c.parameter.shape[0] for c in claims if c.role == "hidden" and c.parameter.ndim == 2)
    beside = {"normuon": rows, "adago": count}.get(name, 0)  # a number of every row, and of every matrix
    assert held(optimizers) == of_hidden * matrices + elsewhere * rest + beside


def test_every_method_is_counted():
    assert set(COPIES) | {"shampoo"} == set(OPTIMIZERS)  # test_shampoo.py counts Shampoo's factors


# --- the page on the methods ---

PAGE = (Path(__file__).parents[4] / "docs" / "optimizers.md").read_text()
ROWS = re.findall(r"^\| `([a-z-]+)` \| [^|]* \| `([^`]+)` \| ([^|]*) \|", PAGE, flags=re.MULTILINE)


def test_the_page_lists_every_method_once():
    assert sorted(name for name, _, _ in ROWS) == sorted(OPTIMIZERS)


@pytest.mark.parametrize(("name", "call", "memory"), ROWS, ids=[name for name, _, _ in ROWS])
def test_the_calls_of_the_page_make_the_methods(name, call, memory):
    names = {"torch": torch, "Scion": Scion, "ScionLight": ScionLight, "Shampoo": Shampoo}
    names |= {kind.__name__: partial(kind, lr=LR) for kind in (NorMuon, AdaMuon, MuonHyperball, AdaGO)}
    groups = param_groups(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    made = eval(call, {**names, "params": [nn.Parameter(torch.eye(4))], "groups": groups})
    chosen = recipe(trial(name))
    claims = assign_roles(GPT(GPTConfig(width=32, depth=1)))
    first = chosen.optimizers(claims, LR, ALPHA, 32)[0]
    assert type(made) is type(first)
    if isinstance(chosen, LmoRecipe):
        assert {part: made.defaults[part] for part in chosen.parts()} == chosen.parts()
        assert made.defaults["constrained"] == chosen.constrained
    if "norm=" in call:
        assert made.defaults["norm"] == chosen.norm_input == chosen.norm_hidden == chosen.norm_output
    copies = [int(number) for number in re.findall(r"\b(\d)(?: |$|,)", memory)][:2]
    if name != "shampoo":
        assert tuple(copies * (2 if len(copies) == 1 else 1)) == COPIES[name]


def test_the_variants_of_the_page_are_options():
    found = re.findall(r"^\| [^|]+ \| `(\{.*?\})`", PAGE, flags=re.MULTILINE)
    assert len(found) >= 5
    for options in map(eval, found):
        resolve(trial("uscion" if "weight_decay" in options else "scion", **options))
