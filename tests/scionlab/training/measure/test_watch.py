"""Layers under watch: every column computed again in float64, bounds that hold, and silence in the training."""

import copy
import io
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import nn
from trainings import CORPUS, OTHER_LENGTH, SAME_LENGTH, numbers, run, saved_and_loaded, staged, trial

from scionlab import training
from scionlab.geometry import NORMS, Layer
from scionlab.geometry.orthogonalize import BAND
from scionlab.problems.data import load
from scionlab.runs.store import RunStore
from scionlab.spec import Trial
from scionlab.sweep import run_sweep
from scionlab.training.measure.watch import WATCH_EXAMPLES, Watch, Watched, watch_steps

SMALL = {"width": 16, "head_dim": 8, "depth": 1}
EXACT = {"norm_hidden": "spectral-exact"}
ROUNDING = 1e-5  # of float32, in norms and products of matrices this small


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a trial
    yield
    torch.set_num_threads(before)


def images(model: str, optimizer: str = "scion", steps: int = 6, **fields: Any) -> Trial:
    sizes = {"width": 8, "head_dim": 2, "depth": 1, "batch_size": 8, "seq_len": 1, "val_seq_len": 1, "val_tokens": 32}
    values = {"lr": 2**-8, "device": "cpu", "data": "digits", "tokens": 8 * steps} | sizes | fields
    return training.resolve(Trial(optimizer=optimizer, model=model, **values))


# --- every column, by hand ---


def dense_norm(name: str, w: np.ndarray) -> float:
    """Of the matrix (d_out, d_in), the kernel, or the vector."""
    if name == "column":
        return max(float(np.sqrt(np.mean(column**2))) for column in w.T)
    if name.startswith("spectral"):
        scale = math.sqrt(w.shape[0] / w.shape[1])
        return float(np.linalg.norm(w, 2)) / (max(1.0, scale) if name.startswith("spectral-max") else scale)
    if name.startswith("conv"):
        scale = math.sqrt(w.shape[0] / w.shape[1])
        scale = (max(1.0, scale) if name.startswith("conv-max") else scale) / w[0, 0].size
        return float(np.linalg.norm(w.reshape(len(w), -1), 2)) / scale
    if name == "sign":
        return float(np.abs(w).max()) * w.shape[1]
    if name == "sign-onehot":
        return float(np.abs(w).max())
    return float(np.sqrt(np.mean(w**2)))  # bias


def dense_dual(name: str, g: np.ndarray) -> float:
    if name == "column":
        return sum(float(np.linalg.norm(column)) for column in g.T) * math.sqrt(g.shape[0])
    if name.startswith("spectral"):
        scale = math.sqrt(g.shape[0] / g.shape[1])
        return float(np.linalg.norm(g, "nuc")) * (max(1.0, scale) if name.startswith("spectral-max") else scale)
    if name.startswith("conv"):
        scale = math.sqrt(g.shape[0] / g.shape[1])
        scale = (max(1.0, scale) if name.startswith("conv-max") else scale) / g[0, 0].size
        return float(np.linalg.norm(g.reshape(len(g), -1), "nuc")) * scale
    if name == "sign":
        return float(np.abs(g).sum()) / g.shape[1]
    return float(np.linalg.norm(g)) * math.sqrt(g.size)


def rms(values: torch.Tensor) -> float:
    return float(values.double().square().mean().sqrt())


class ByHand:
    """A copy of a run's model on the watch's batch: outputs of all modules, and gradients."""

    def __init__(self, state: training.Run) -> None:
        model = copy.deepcopy(state.model)
        self.outputs: dict[str, torch.Tensor] = {}
        for path, module in model.named_modules():
            module.register_forward_hook(lambda m, i, output, path=path: self.outputs.update({path: output.detach()}))
        batch = state.validation[:WATCH_EXAMPLES]
        if state.trial.model == "gpt":
            inputs, targets = batch[:, :-1], batch[:, 1:].flatten()
            logits = model(inputs)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets)
        else:
            inputs, targets = state.corpus.unpack(batch)
            logits = model(inputs)
            loss = nn.functional.cross_entropy(logits, targets)
        model.zero_grad()
        loss.backward()
        self.outputs["logits"] = logits.detach()
        self.weights = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
        self.gradients = {name: p.grad.double().numpy() for name, p in model.named_parameters()}


def check(row: dict[str, Any], now: ByHand, start: ByHand, transposed: tuple[str, ...]) -> None:
    layer = row["layer"]
    module = "logits" if layer == "logits" else layer.rpartition(".")[0]
    if "output_rms" in row:
        change = now.outputs[module].double() - start.outputs[module].double()
        assert row["output_rms"] == pytest.approx(rms(now.outputs[module]), rel=ROUNDING)
        assert row["output_change_rms"] == pytest.approx(rms(change), rel=ROUNDING, abs=1e-7)
    if layer == "logits":
        assert set(row) == {"step", "tokens", "layer", "role", "output_rms", "output_change_rms"}
        return
    w, g = now.weights[layer], now.gradients[layer]
    if layer in transposed:
        w, g = w.T, g.T
    assert row["norm"] == pytest.approx(dense_norm(row["norm_name"], w), rel=ROUNDING)
    assert row["grad_dual"] == pytest.approx(dense_dual(row["norm_name"], g), rel=1e-4)  # sums of rounded gradients
    if w.ndim == 2:
        assert row["rms_to_rms"] == pytest.approx(
            math.sqrt(w.shape[1] / w.shape[0]) * np.linalg.norm(w, 2), rel=ROUNDING
        )
        largest_row = max(np.linalg.norm(r) for r in w)
        assert row["rms_to_max"] == pytest.approx(math.sqrt(w.shape[1]) * largest_row, rel=ROUNDING)
    else:
        assert row["rms_to_rms"] is row["rms_to_max"] is None


GPT_LAYERS = {
    "embed.weight": ("input", "column", 1.0),
    **{f"blocks.0.attention.{name}.weight": ("hidden", "spectral", 3.0) for name in ("q", "k", "v", "out")},
    **{f"blocks.0.mlp.{name}.weight": ("hidden", "spectral", 3.0) for name in ("up", "down")},
    "head.weight": ("output", "sign", 64.0),
    "logits": ("model", None, None),
}
MLP_LAYERS = {
    "input.weight": ("input", "spectral-max", 1.0),
    "input.bias": ("bias", "bias", 1.0),
    "hidden.0.weight": ("hidden", "spectral", 1.0),
    "hidden.0.bias": ("bias", "bias", 1.0),
    "head.weight": ("output", "sign", 1024.0),
    "logits": ("model", None, None),
}
CNN_LAYERS = {
    "stem.weight": ("input", "conv-max", 8.0),
    "blocks.0.first.weight": ("hidden", "conv", 8.0),
    "blocks.0.second.weight": ("hidden", "conv", 8.0),
    "head.weight": ("output", "sign", 128.0),
    "logits": ("model", None, None),
}
WATCHED = {
    "GPT, Scion": (lambda: trial("scion", steps=4, watch=4, **SMALL), GPT_LAYERS),
    "GPT, Adam": (lambda: trial("adam", steps=4, watch=4, **SMALL), GPT_LAYERS),
    "GPT, Adam in μP": (lambda: trial("adam-mup", steps=4, watch=4, **SMALL), GPT_LAYERS),
    "MLP, unconstrained": (lambda: images("mlp", "uscion", steps=4, watch=4), MLP_LAYERS),
    "CNN, Scion": (lambda: images("cnn", steps=4, watch=4), CNN_LAYERS),
}


@pytest.mark.parametrize(("asked", "layers"), WATCHED.values(), ids=WATCHED.keys())
def test_every_column_is_that_of_its_definition(asked, layers):
    asked = asked()
    state = training.Run(asked, CORPUS if asked.model == "gpt" else load("digits"))
    start = ByHand(state)
    for step in range(5):
        if step:
            state.advance()
        now = ByHand(state)
        rows = [row for row in state.layers if row["step"] == step]
        balls = "adam" not in asked.optimizer
        found = {row["layer"]: (row["role"], row.get("norm_name"), row.get("radius")) for row in rows}
        assert found == {name: (*kind, radius if balls else None) for name, (*kind, radius) in layers.items()}
        for row in rows:
            assert row["tokens"] == step * asked.batch_size * asked.seq_len
            check(row, now, start, ("embed.weight",))
            assert balls or row.get("bound") is None
    assert len(state.layers) == 5 * len(layers)


def test_the_first_rows_are_of_the_initialization():
    outcome = run("scion", steps=4, watch=1, **SMALL)
    first = [row for row in outcome.layers if row["step"] == 0]
    assert {row["step"] for row in outcome.layers} == {0, 4}
    assert all(row["output_change_rms"] == 0 for row in first)
    weights = [row for row in first if row["layer"] != "logits"]
    assert all(row["bound"] == row["norm"] for row in weights)
    assert [row["norm"] for row in weights] == pytest.approx([1.0, *[3.0] * 6, 0.0], rel=ROUNDING)
    assert all(row["output_change_rms"] > 0 for row in outcome.layers if row["step"] == 4)


def test_a_module_has_its_output_once_and_a_tied_weight_that_of_the_head():
    rows = [row for row in training.Run(images("mlp", watch=1), load("digits")).layers if row["role"] == "bias"]
    assert len(rows) == 2
    assert not any("output_rms" in row for row in rows)
    tied = {row["layer"]: row for row in training.Run(trial("scion", watch=1, tied=True, **SMALL), CORPUS).layers}
    assert tied["embed.weight"]["role"] == "output"
    assert tied["embed.weight"]["output_rms"] == tied["logits"]["output_rms"] > 0


def test_a_module_that_is_not_called_has_no_output():
    sizes = {"width": 4, "head_dim": 2, "batch_size": 1, "seq_len": 1, "val_seq_len": 1, "val_tokens": 1, "tokens": 2}
    asked = Trial(optimizer="scion", lr=0.1, model="quadratic", data="noise:none", watch=1, device="cpu", **sizes)
    weight, output = training.Run(training.resolve(asked), load("noise:none")).layers
    assert "output_rms" not in weight
    assert output["output_rms"] == 0  # the matrix itself, which starts at the ball's centre


def test_an_unused_parameter_has_no_gradient_to_measure():
    model = nn.ModuleDict({"used": nn.Linear(2, 1, bias=False), "unused": nn.Linear(2, 1, bias=False)})
    with torch.no_grad():
        model["used"].weight.copy_(torch.tensor([[3.0, -4.0]]))
    layer = Layer(NORMS["euclidean"], radius=2.0)
    watched = [
        Watched(f"{name}.weight", "hidden", model[name].weight, layer, "euclidean", True, 0.0, name) for name in model
    ]

    def forward() -> tuple[torch.Tensor, torch.Tensor]:
        output = model["used"](torch.tensor([[2.0, 1.0]]))
        return output, output.sum()

    used, unused, _ = Watch(model, watched, forward).measure({"step": 0})
    assert (used["norm"], used["output_rms"]) == (5.0, 2.0)
    assert used["grad_dual"] == pytest.approx(math.sqrt(5))
    assert math.isnan(unused["grad_dual"])
    assert "output_rms" not in unused


@pytest.mark.parametrize(
    ("count", "steps", "expected"),
    [(0, 10, set()), (1, 10, {0, 10}), (3, 10, {0, 3, 6, 10}), (7, 3, {0, 1, 2, 3}), (1, 1, {0, 1})],
)
def test_the_start_and_the_end_are_watched(count, steps, expected):
    assert watch_steps(count, steps) == expected


# --- bounds ---


BOUNDED = {
    "Scion": ("scion", {}, 1.0),
    "unconstrained Scion": ("uscion", {}, 0.0),
    "decoupled decay": ("uscion", {"weight_decay": 4.0}, 4.0),
    "decay beyond 1": ("uscion", {"weight_decay": 24.0}, 24.0),
    "coupled decay": ("uscion", {"weight_decay": 4.0, "coupled": True}, 0.0),
    "clipped Scion": ("clipped-scion", {"smoothness": 1e3}, 1.0),
    "clipped, unconstrained": ("clipped-uscion", {"smoothness": 1e3}, 0.0),
    "ScionLight": ("scion-light", {}, 1.0),
    "ALMOND": ("almond", {}, 0.0),
    "Nesterov": ("scion", {"average": "nesterov"}, 1.0),
    "Signum": ("signum", {}, 0.0),
    "constrained Signum, from outside": ("signum", {"constrained": True, "radius_input": 0.5}, 1.0),
}


def measured(outcome: training.Outcome) -> list[list[dict[str, Any]]]:
    """Rows of the weights, step by step."""
    rows = [row for row in outcome.layers if row["layer"] != "logits"]
    return [[row for row in rows if row["step"] == step] for step in sorted({row["step"] for row in rows})]


@pytest.mark.parametrize(("optimizer", "options", "decay"), BOUNDED.values(), ids=BOUNDED.keys())
@pytest.mark.parametrize("exact", [True, False])
def test_norms_stay_within_the_bound_of_their_recursion(optimizer, options, decay, exact):
    options = options | (EXACT if exact and optimizer != "signum" else {})
    outcome = run(optimizer, steps=12, watch=12, lr=0.1, options=options, divergence_factor=1e9, **SMALL)
    steps = measured(outcome)
    expected = [row["norm"] for row in steps[0]]
    rates = [0.0] + [row["lr"] for row in outcome.curve]
    assert len(steps) == 13
    for rate, rows in zip(rates, steps, strict=True):
        before = expected
        expected = [abs(1 - rate * decay) * b + rate * r["radius"] for b, r in zip(expected, rows, strict=True)]
        if optimizer == "clipped-scion":  # its steps may be shorter, which matters where rounding starts it outside
            expected = [max(*pair) for pair in zip(before, expected, strict=True)]
        for row, bound in zip(rows, expected, strict=True):
            assert row["bound"] == pytest.approx(bound, rel=1e-12)
            band = BAND[1] if row["norm_name"] == "spectral" else 1 + ROUNDING
            assert row["norm"] <= row["bound"] * band + 1e-6
    head = steps[1][-1]
    if optimizer != "signum" and "clipped" not in optimizer:  # from 0, the first step is as long as the bound
        assert head["norm"] == pytest.approx(head["bound"] * (0.1 if optimizer == "almond" else 1), rel=ROUNDING)


@pytest.mark.parametrize("scope", ["network", "layer"])
def test_short_steps_do_not_pull_a_weight_into_its_ball_as_fast(scope):
    # a Gaussian start far outside, and steps much shorter than γ
    options = {"constrained": True, "step_rule": "clipped", "smoothness": 1e6, "scope": scope}
    outcome = run("normalized-sgd", steps=12, watch=12, lr=0.1, options=options, **SMALL)
    for rows in measured(outcome):
        for row in rows:
            assert row["norm"] > row["radius"]
            assert row["norm"] <= row["bound"] * (1 + ROUNDING)


@pytest.mark.parametrize(("optimizer", "radius"), [("adam", None), ("muon", None), ("shampoo", None), ("sgd", 1.0)])
def test_methods_without_balls_have_no_radius_and_steepest_ones_no_bound(optimizer, radius):
    for rows in measured(run(optimizer, steps=2, watch=2, **SMALL)):
        for row in rows:
            assert row["radius"] == radius
            assert row["bound"] is None
            assert row["norm"] > 0


# --- in a run ---


@pytest.mark.parametrize("optimizer", ["adam", "muon", "scion", "scion-light", "clipped-uscion", "shampoo"])
def test_a_watched_run_trains_to_the_same_bit(optimizer):
    plain, watched = (run(optimizer, steps=6, watch=count, **SMALL) for count in (0, 6))
    assert numbers(watched) == numbers(plain)
    assert plain.layers == []
    assert len(watched.layers) == 7 * len(GPT_LAYERS)


def test_a_watched_run_of_images_trains_to_the_same_bit():
    plain, watched = (training.train(images("cnn", watch=count), load("digits")) for count in (0, 3))
    assert numbers(watched) == numbers(plain)
    assert len(watched.layers) == 4 * len(CNN_LAYERS)


def test_reading_leaves_gradients_weights_and_generators_alone():
    state = training.Run(trial("scion-light", steps=4, watch=4, **SMALL), CORPUS)
    state.advance()
    held = [(p.detach().clone(), p.grad.clone()) for p in state.model.parameters()]
    generator = torch.get_rng_state()
    state.watch.measure({})
    for parameter, (weight, gradient) in zip(state.model.parameters(), held, strict=True):
        assert torch.equal(parameter, weight)
        assert torch.equal(parameter.grad, gradient)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(module._forward_hooks for module in state.model.modules())


@pytest.mark.parametrize("second", [SAME_LENGTH, OTHER_LENGTH], ids=["same length", "other length"])
def test_a_watch_goes_on_in_a_saved_run(second):
    asked = staged("scion", second, steps=12, watch=5)
    state = training.Run(asked, CORPUS)
    state.run_stage()
    state = saved_and_loaded(state)
    state.run_stage()
    outcome, whole = state.outcome(), training.train(asked, CORPUS)
    assert outcome.layers == whole.layers
    assert len({row["step"] for row in whole.layers}) == 6
    assert numbers(outcome) == numbers(whole)


def test_a_run_that_diverges_keeps_its_rows():
    outcome = run("adam", steps=20, lr=1e4, watch=20, **SMALL)
    assert outcome.summary["status"] == "diverged"
    assert {row["step"] for row in outcome.layers} == set(range(outcome.summary["steps_done"] + 1))


def test_values_that_are_not_finite_are_reported_and_raise_nothing():
    state = training.Run(trial("scion", steps=2, watch=2, **SMALL), CORPUS)
    with torch.no_grad():
        state.model.head.weight[0, 0] = math.nan
    head, logits = state.watch.measure({})[-2:]
    assert not any(math.isfinite(head[name]) for name in ("norm", "rms_to_rms", "output_rms", "grad_dual"))
    assert math.isnan(logits["output_rms"])


def test_a_watch_runs_in_the_precision_of_its_trial():
    found = {
        dtype: {row["layer"]: row for row in run("scion", steps=2, watch=1, dtype=dtype, **SMALL).layers}
        for dtype in ("float32", "bfloat16")
    }
    name = "blocks.0.mlp.up.weight"
    single, half = (found[dtype][name]["output_rms"] for dtype in ("float32", "bfloat16"))
    assert single != half
    assert half == pytest.approx(single, rel=0.05)  # 8 bits of mantissa in the products


# --- in the store ---


def test_a_sweep_keeps_the_layers_of_the_trials_that_watched(experiment, tiny, tmp_path):
    store = RunStore(tmp_path / "runs")
    grid = experiment(tiny(optimizer="adam", watch=2), tiny(optimizer="adam"))
    result = run_sweep(grid, "smoke", store, Console(file=io.StringIO()), "inline")
    assert len(result.reports) == 2
    watched, plain = result.plan.cells
    assert store.layers([plain.trial_id]).empty
    frame, outcome = store.layers(), training.train(watched.trial, load(watched.trial.data))
    assert set(frame["trial_id"]) == {watched.trial_id}
    assert sorted(set(frame["step"])) == [0, 8, 16]
    assert len(frame) == len(outcome.layers)
    for stored, row in zip(frame.to_dict("records"), outcome.layers, strict=True):
        for name in set(frame) - {"trial_id", "schema_version"}:
            value = row.get(name)
            assert pd.isna(stored[name]) if value is None else stored[name] == value
    assert store.runs()["val_loss"].nunique() == 1  # another trial with the same numbers
    assert frame["radius"].isna().all()
