"""The probe against the definitions of L, μ, κ and σ² written out in float64, and its silence in the training."""

import math

import numpy as np
import pytest
import torch
from trainings import CORPUS, numbers, run, trial

from scionlab import training
from scionlab.geometry import NORMS, Layer, NetworkNorm
from scionlab.problems.data import Corpus, probe_windows
from scionlab.problems.models import gpt
from scionlab.training.measure.probe import (
    PROBE_WINDOWS,
    Probe,
    gradient_noise,
    probe_lengths,
    probe_steps,
    window_gradients,
)

SET_TOKENS = 50 * 32  # of the fixed set: more than its 32 windows of single gradients
SMALL = {"width": 16, "head_dim": 8, "depth": 1}
COLUMNS = {
    "step", "tokens", "lr", "probe_batch_size", "probe_seq_len", "probe_loss", "grad_dual", "grad_variance",
    "norm_ratio",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a trial: matrices this small lose by more, above all beside other tests
    yield
    torch.set_num_threads(before)


def probes(outcome: training.Outcome):
    return [row for row in outcome.curve if "probe_loss" in row]


def losses(outcome: training.Outcome):
    return [row for row in outcome.curve if "probe_loss" not in row]


# --- against the definitions, in float64 ---


def rotate_in_double(x, cos, sin):
    real, imag = x.chunk(2, dim=-1)
    return torch.cat((real * cos - imag * sin, real * sin + imag * cos), dim=-1)


def double_copy(run: training.Run) -> gpt.GPT:
    model = gpt.GPT(run.model.config).double()
    model.load_state_dict(run.model.state_dict())
    return model


def gradients_by_hand(model, windows) -> tuple[list[float], list[dict[str, np.ndarray]]]:
    found = []
    for window in windows:
        model.zero_grad()
        logits = model(window[None, :-1])[0]
        loss = (logits.exp().sum(-1).log() - logits[range(len(logits)), window[1:]]).mean()
        loss.backward()
        found.append((loss.item(), {name: p.grad.numpy().copy() for name, p in model.named_parameters()}))
    return [loss for loss, _ in found], [gradient for _, gradient in found]


def mean(gradients):
    return {name: sum(g[name] for g in gradients) / len(gradients) for name in gradients[0]}


def minus(one, other):
    return {name: one[name] - other[name] for name in one}


def dual_by_hand(gradient) -> float:
    """Σ ρ‖·‖_*: column for the embedding (stored transposed), spectral · 3 for blocks, sign · 64 for the head."""
    total = 0.0
    for name, g in gradient.items():
        if name == "embed.weight":
            total += sum(math.sqrt(g.shape[1]) * np.sqrt((row**2).sum()) for row in g)
        elif name == "head.weight":
            total += 64 * np.abs(g).sum() / g.shape[1]
        else:
            total += 3 * math.sqrt(g.shape[0] / g.shape[1]) * np.linalg.svd(g, compute_uv=False).sum()
    return total


def norm_by_hand(weights) -> float:
    norms = []
    for name, w in weights.items():
        if name == "embed.weight":
            norms += [np.sqrt((row**2).mean()) for row in w]
        elif name == "head.weight":
            norms.append(np.abs(w).max() * w.shape[1] / 64)
        else:
            norms.append(math.sqrt(w.shape[1] / w.shape[0]) * np.linalg.svd(w, compute_uv=False)[0] / 3)
    return max(norms)


def euclidean(gradient) -> float:
    return math.sqrt(sum(float((g**2).sum()) for g in gradient.values()))


def rows_by_hand(model, windows, length: int):
    of_all, all_gradients = gradients_by_hand(model, windows)
    of_set = {"probe_loss": sum(of_all) / len(windows), "grad_dual": dual_by_hand(mean(all_gradients))}
    of_window, gradients = gradients_by_hand(model, windows[:32, : length + 1])
    full = mean(gradients)
    for b in (1, 2, 4, 8):
        deviations = [minus(mean(gradients[i : i + b]), full) for i in range(0, 32, b)]
        count = 32 // b
        yield {
            "probe_batch_size": b,
            "probe_seq_len": length,
            "probe_loss": sum(of_window) / 32,
            "grad_dual": dual_by_hand(full),
            **(of_set if length == windows.shape[1] - 1 else {}),
            "grad_variance": sum(euclidean(d) ** 2 for d in deviations) / count * (count / (count - 1)),
            "norm_ratio": sum(dual_by_hand(d) / euclidean(d) for d in deviations) / count,
        }


@pytest.mark.parametrize("optimizer", ["scion", "adam"])
def test_the_constants_are_those_of_the_definitions_in_float64(optimizer, monkeypatch):
    monkeypatch.setattr(training.run, "PROBE_TOKENS", SET_TOKENS)
    monkeypatch.setattr("scionlab.training.measure.probe.PASS_TOKENS", 300)  # several passes, the last one shorter
    state = training.Run(trial(optimizer, steps=8, seq_len=32, **SMALL), CORPUS)
    for _ in range(5):
        state._step()
    before = double_copy(state)
    probe = state._probe()
    state._step()
    found, after = probe.after_step(), double_copy(state)

    monkeypatch.setattr(gpt, "rotate", rotate_in_double)  # the model's own turns heads in float32
    windows = probe_windows(CORPUS, 32, 32, SET_TOKENS)
    assert len(windows) == SET_TOKENS // 32
    expected = [row for length in (32, 16, 8) for row in rows_by_hand(before, windows, length)]
    full = [mean(gradients_by_hand(model, windows)[1]) for model in (before, after)]
    weights = [{name: p.detach().numpy() for name, p in model.named_parameters()} for model in (before, after)]
    smoothness = dual_by_hand(minus(full[1], full[0])) / norm_by_hand(minus(weights[1], weights[0]))

    assert len(found) == len(expected) == 12
    # A float32 gradient is exact to some 1e-6 of itself. A deviation is as large as the gradient; the change over one
    # step is 5% of it or more and would lose a digit, had norms not averaged the errors over thousands of entries.
    assert found[0].pop("smoothness") == pytest.approx(smoothness, rel=1e-5)
    for row, by_hand in zip(found, expected, strict=True):
        assert row == pytest.approx(by_hand, rel=1e-5)


def test_constants_of_a_quadratic_are_known_in_closed_form():
    # f(x) = mean over windows of ½ x², its gradient x + noise of window i: L = 1 in any norm, variance of the noise
    noise = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]] * 8, dtype=torch.float64)
    x = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    norm = NetworkNorm((Layer(NORMS["bias-max"], radius=2.0),))

    def loss(windows: torch.Tensor) -> torch.Tensor:
        return (x * x).sum() / 2 + (noise[windows[:, 0]].mean(0) * x).sum()

    probe = Probe(loss, [x], norm, torch.arange(32)[:, None].expand(32, 5))  # windows of 4: no shorter ones
    with torch.no_grad():
        x.add_(torch.tensor([0.5, -0.25]))
    rows = probe.after_step()
    assert [row["probe_batch_size"] for row in rows] == [1, 2, 4, 8]
    assert [row["grad_dual"] for row in rows] == [2 * 7.0] * 4
    assert [row["probe_loss"] for row in rows] == [12.5] * 4
    assert [row["grad_variance"] for row in rows] == pytest.approx([2.5 * 32 / 31, 0, 0, 0])
    assert rows[0]["norm_ratio"] == pytest.approx(2.0)  # one entry only: ‖·‖₁ = ‖·‖₂, times the radius
    assert rows[0]["smoothness"] == pytest.approx(2 * 0.75 / (0.5 / 2))
    assert math.isnan(rows[1]["norm_ratio"])  # pairs have no noise at all


def test_the_variance_of_independent_windows_falls_as_one_over_the_batch():
    generator = torch.Generator().manual_seed(0)
    draws = []
    for _ in range(300):
        windows = torch.randn(32, 6, 4, generator=generator, dtype=torch.float64)
        deviations = [windows - windows.mean(0)]
        found = gradient_noise(NetworkNorm((Layer(NORMS["row"]),)), deviations)
        draws.append([variance for _, variance, _ in found])
    # 24 unit variances, each measured from at least 3·24·300 squares: known to 1% and better; unbiased at every b
    assert np.mean(draws, axis=0) == pytest.approx([24 / b for b in (1, 2, 4, 8)], rel=0.04)


# --- in a run ---


@pytest.mark.parametrize("optimizer", ["adam", "muon", "scion", "scion-light", "clipped-uscion", "shampoo"])
def test_a_probed_run_trains_to_the_same_bit(optimizer):
    plain, probed = run(optimizer, steps=6, **SMALL), run(optimizer, steps=6, probe=3, **SMALL)
    assert numbers(probed)[0] == numbers(plain)[0]
    assert losses(probed) == plain.curve
    assert len(probes(probed)) == 3 * 4 * 3


@pytest.mark.parametrize("grads", ["kept", "none"])
def test_a_probe_leaves_gradients_weights_and_generators_alone(grads):
    state = training.Run(trial(steps=4, **SMALL), CORPUS)
    state._step()
    parameters = list(state.model.parameters())
    if grads == "none":
        state.model.zero_grad(set_to_none=True)
    held = [p.grad if p.grad is None else p.grad.clone() for p in parameters]
    weights, generator = [p.detach().clone() for p in parameters], torch.get_rng_state()
    state._probe().after_step()
    for p, grad, weight in zip(parameters, held, weights, strict=True):
        assert p.grad is None if grad is None else torch.equal(p.grad, grad)
        assert torch.equal(p.detach(), weight)
    assert torch.equal(torch.get_rng_state(), generator)


def test_rows_of_a_probe_say_where_they_are():
    outcome = run("scion", steps=10, probe=2, seq_len=32, **SMALL)
    rows = probes(outcome)
    assert [(row["step"], row["probe_seq_len"], row["probe_batch_size"]) for row in rows] == [
        (step, length, b) for step in (5, 10) for length in (32, 16, 8) for b in (1, 2, 4, 8)
    ]
    assert [("smoothness" in row) for row in rows] == [i % 12 == 0 for i in range(24)]
    assert all(set(row) - {"smoothness"} == COLUMNS for row in rows)
    logged = {row["step"]: row for row in losses(outcome)}
    assert all(row[name] == logged[row["step"]][name] for row in rows for name in ("tokens", "lr"))
    assert [row["step"] for row in outcome.curve] == sorted(row["step"] for row in outcome.curve)
    # the weights are those that the step's batch saw, and the text is trained on
    assert rows[12]["probe_loss"] == pytest.approx(logged[10]["train_loss"], rel=0.2)


def test_the_constants_are_of_the_landscape_and_not_of_the_method():
    # three methods with the same start; only the step that follows, and with it the smoothness, is their own
    found = [probes(run(name, steps=1, probe=1, depth=1)) for name in ("adam", "adam-mup", "muon")]
    smoothness = [rows[0].pop("smoothness") for rows in found]
    assert len({row["lr"] for rows in found for row in rows}) == 2
    for row, *others in zip(*found, strict=True):
        assert all({**other, "lr": row["lr"]} == row for other in others)
    assert smoothness[0] == smoothness[1] != smoothness[2]


def test_a_probe_runs_in_the_precision_of_its_trial():
    found = {
        dtype: probes(run("scion", steps=3, probe=1, dtype=dtype, **SMALL))[0] for dtype in ("float32", "bfloat16")
    }
    assert found["float32"]["probe_loss"] != found["bfloat16"]["probe_loss"]
    # 8 bits of mantissa in the products
    assert found["bfloat16"]["grad_dual"] == pytest.approx(found["float32"]["grad_dual"], rel=0.05)


def test_a_run_that_diverges_keeps_its_probes():
    outcome = run("adam", steps=20, lr=1e4, probe=20, **SMALL)
    assert outcome.summary["status"] == "diverged"
    assert {row["step"] for row in probes(outcome)} == set(range(1, outcome.summary["steps_done"] + 1))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_reported_and_raise_nothing(value):
    state = training.Run(trial("scion", steps=2, **SMALL), CORPUS)
    with torch.no_grad():
        state.model.head.weight[0, 0] = value
    probe = state._probe()
    state._step()
    for row in probe.after_step():
        assert not any(math.isfinite(row[name]) for name in ("probe_loss", "grad_dual", "grad_variance", "norm_ratio"))


def test_gradients_of_windows_average_to_that_of_their_batch():
    state = training.Run(trial("adam", steps=2, **SMALL), CORPUS)
    parameters, windows = list(state.model.parameters()), probe_windows(CORPUS, 8, 32)
    each, gradients = window_gradients(state.passes.loss, parameters, windows)
    together = state.passes.loss(windows)
    assert each.mean().item() == pytest.approx(together.item(), rel=1e-6)  # float32 sums
    for mine, whole in zip(gradients, torch.autograd.grad(together, parameters), strict=True):
        assert mine.shape == (8, *whole.shape)
        # float32 sums of 256 terms in another order
        assert torch.allclose(mine.mean(0), whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


@pytest.mark.parametrize(
    ("count", "steps", "expected"),
    [
        (0, 10, set()),
        (1, 10, {10}),
        (2, 10, {5, 10}),
        (3, 10, {3, 6, 10}),
        (10, 10, set(range(1, 11))),
        (7, 3, {1, 2, 3}),
    ],
)
def test_probes_are_spread_over_the_steps_and_the_last_is_one(count, steps, expected):
    assert probe_steps(count, steps) == expected


@pytest.mark.parametrize(
    ("seq_len", "expected"),
    [(64, [64, 32, 16]), (32, [32, 16, 8]), (16, [16, 8]), (8, [8]), (20, [20, 10]), (36, [36, 18]), (7, [7])],
)
def test_windows_are_cut_to_even_lengths(seq_len, expected):
    assert probe_lengths(seq_len) == expected


def test_a_text_of_as_many_windows_as_the_probe_needs_is_enough():
    text = np.random.default_rng(0).integers(97, 101, PROBE_WINDOWS * 8 + 1).astype(np.uint8).tobytes()
    corpus = Corpus("letters", "0" * 64, text, text)
    asked = trial("adam", steps=1, probe=1, seq_len=8, batch_size=4, val_tokens=64, val_seq_len=8)
    assert len(probes(training.train(asked, corpus))) == 4
