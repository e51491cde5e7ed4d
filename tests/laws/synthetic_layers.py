"""Made-up runs that watched their layers: tables for fits and figures, and stores for pages; nothing is trained."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
from synthetic import curve_rows, run_row, sweep_row

from analysis.tables.sweep import SweepTables
from scionlab.runs.store import RunStore

# The parameters of a small transformer: name, role, norm.
PARAMETERS = [
    ("embed.weight", "input", "column"),
    *[
        (f"blocks.{block}.{part}.weight", "hidden", "spectral")
        for block in range(2)
        for part in ("attention.q", "attention.out", "mlp.up", "mlp.down")
    ],
    ("head.weight", "output", "sign"),
]
RADII = {"input": 1.0, "hidden": 3.0, "output": 64.0}
NO_CURVES = pd.DataFrame({"trial_id": [], "step": [], "tokens": [], "lr": [], "train_loss": []})


def tables_of(runs, layers, curves=NO_CURVES, **sweep):
    """Tables made by hand."""
    runs = pd.DataFrame(runs)
    about = {"experiment": "planted", "preset": "laptop", "trial_ids": list(runs["trial_id"]), **sweep}
    return SweepTables(
        about, pd.DataFrame(), runs, pd.DataFrame(curves if len(curves) else NO_CURVES), pd.DataFrame(layers)
    )


def layer_row(trial_id, step, layer, role, **columns):
    """A row of the layers table; what is not given is null."""
    empty = dict.fromkeys(
        ("norm_name", "norm", "radius", "bound", "rms_to_rms", "rms_to_max", "output_rms", "output_change_rms",
         "grad_dual")
    )  # fmt: skip
    return {"trial_id": trial_id, "step": step, "tokens": 1024 * step, "layer": layer, "role": role, **empty, **columns}


def by_trial(rows):
    """The rows of every trial."""
    found = {}
    for row in rows:
        found.setdefault(row["trial_id"], []).append(row)
    return found


def write(root, runs, layers, name, study, title, curves=None, settings=None, scores=()):
    """A store that holds them as one sweep."""
    store = RunStore(root)
    layers_of, scores_of = by_trial(layers), by_trial(scores)
    for run in runs:
        curve = (curves or {}).get(run["trial_id"]) or curve_rows(run["val_loss"] or 9.0)
        store.write_run(
            run | {"experiment": name}, curve, layers_of.get(run["trial_id"], []), scores_of.get(run["trial_id"], [])
        )
    about = {
        "experiment": name,
        "study": study,
        "title": title,
        "sweep_id": name,
        "settings": json.dumps(settings or {}),
    }
    store.write_sweep(sweep_row([run["trial_id"] for run in runs]) | about)
    return store


def coordinate_rows(exponents, widths=(32, 64, 128, 256), seeds=3, steps=4, noise=0.02, rng=None):
    """Runs and layers where ‖h‖ and ‖Δh‖ of a kind go as given powers of the width.

    `exponents`: method → {kind or "" for all others: (that of ‖h‖, that of ‖Δh‖)}. `noise` is in octaves, of each run.
    """
    rng = rng or np.random.default_rng(0)
    runs, layers = [], []
    for optimizer, of_kind in exponents.items():
        for width in widths:
            for seed in range(seeds):
                trial_id = f"{optimizer}-{width}-{seed}"
                runs.append(run_row(trial_id, optimizer, width, 2**-6, seed, 3.0))
                for layer, role, _ in [*PARAMETERS, ("logits", "model", None)]:
                    kind = layer.removesuffix(".weight").split(".", 2)[-1] if "blocks" in layer else layer
                    size, change = of_kind.get(kind.removesuffix(".weight"), of_kind.get("", (0, 0)))
                    wobble = 2 ** rng.normal(0, noise, 2) if noise else (1, 1)
                    layers += [
                        layer_row(
                            trial_id, step, layer, role, output_rms=1.5 * (width / 32) ** size * wobble[0],
                            output_change_rms=0.01 * step * (width / 32) ** change * wobble[1],
                        )
                        for step in range(steps + 1)
                    ]  # fmt: skip
    return runs, layers


GROWS = {"": (0.0, 1.0), "embed": (0.0, 0.0), "logits": (0.5, 1.0)}
STAYS = {"": (0.0, 0.0), "logits": (-0.5, 0.0)}


def fill_coordinate(root):
    """Adam grows, Scion and Adam in μP stay; one run of Muon diverged."""
    runs, layers = coordinate_rows({"adam": GROWS, "adam-mup": STAYS, "muon": STAYS, "scion": STAYS})
    lost = next(run for run in runs if run["optimizer"] == "muon")
    lost |= {"status": "diverged", "val_loss": None}
    return write(root, runs, layers, "coordinates", "coordinate-check", "Coordinate check")


def norm_rows(optimizer, kind, seeds=2, steps=20, rate=0.1, overshoot=1.0, lr=2**-6, width=32, loss=2.0):
    """Runs and layers of one method: `kind` is "constrained", "unconstrained" or "free" (no balls, grows by 5% a step).

    All steps of a layer point the same way, so norms reach their bounds; with `overshoot` steps are that much longer.
    """
    runs, layers = [], []
    for seed in range(seeds):
        trial_id = f"{optimizer}-{width}-{lr}-{seed}"
        runs.append(run_row(trial_id, optimizer, width, lr, seed, loss + 0.01 * seed))
        for layer, role, norm_name in [*PARAMETERS, ("logits", "model", None)]:
            radius = RADII.get(role)
            start = 0.0 if role == "output" else radius
            norm = bound = start
            for step in range(steps + 1):
                known = {"norm_name": norm_name, "norm": norm, "rms_to_max": norm, "rms_to_rms": norm}
                balls = {"radius": radius, "bound": bound} if kind != "free" else {}
                layers.append(layer_row(trial_id, step, layer, role, **(known | balls if radius else {})))
                if radius and kind == "constrained":
                    norm, bound = (1 - rate) * norm + overshoot * rate * radius, (1 - rate) * bound + rate * radius
                elif radius and kind == "unconstrained":
                    norm, bound = norm + overshoot * rate * radius, bound + rate * radius
                elif radius:
                    norm *= 1.05 * (1 + 0.01 * seed)
    return runs, layers


def fill_norm_control(root):
    """Adam without balls, Scion within them up to Newton-Schulz's band, unconstrained Scion on its bound."""
    kinds = {"adam": "free", "scion": "constrained", "uscion": "unconstrained"}
    both = [norm_rows(optimizer, kind, overshoot=1.0) for optimizer, kind in kinds.items()]
    runs, layers = ([row for one in part for row in one] for part in zip(*both, strict=True))
    return write(root, runs, layers, "norm-control", "norm-control", "Norm control")


NOISE = {"tail_index": 3.0, "tail_index_block": 1.8, "nuclear_ratio": 0.4, "entry_ratio": 0.6, "batch_slope": -0.45}


def noise_rows(optimizer, tail=3.0, seeds=2, steps=(10, 20), reach=0.25):
    """Runs and scores of one method whose network has a tail index `tail`, known to `reach` of it; layers' are higher.

    Hidden layers of the second block have an index higher by .5 than those of the first.
    """
    runs, scores = [], []
    for seed in range(seeds):
        trial_id = f"{optimizer}-noise-{seed}"
        runs.append(run_row(trial_id, optimizer, 32, 2**-6, seed, 2.0))
        for step in steps:
            for layer in (*(name for name, _, _ in PARAMETERS), "network"):
                index = tail if layer == "network" else tail + 1 + 0.5 * ("blocks.1" in layer)
                for metric, value in (NOISE | {"tail_index": index}).items():
                    if (layer, metric) == ("network", "nuclear_ratio"):
                        continue
                    ends = {"": value, "_low": value - reach * abs(value), "_high": value + reach * abs(value)}
                    scores += [
                        {"trial_id": trial_id, "step": step, "split": "noise", "group": layer, "metric": metric + end,
                         "value": known}
                        for end, known in ends.items()
                        if not (metric == "tail_index_block" and end)
                    ]  # fmt: skip
    return runs, scores


def noise_tables(*parts, **changes):
    """Tables of several methods' noise."""
    runs, scores = ([row for part in parts for row in part[i]] for i in (0, 1))
    return replace(tables_of(runs, [], **changes), given_scores=pd.DataFrame(scores))


def fill_gradient_noise(root):
    """Heavy noise of Adam, light noise of Scion."""
    parts = [noise_rows("adam", 1.5), noise_rows("scion", 4.0)]
    runs, scores = ([row for part in parts for row in part[i]] for i in (0, 1))
    return write(root, runs, [], "gradient-noise", "gradient-noise", "The noise of single gradients", scores=scores)


def transfer_rows(
    optimizer="uscion", in_width=0.0, in_tokens=0.0, widths=(32, 64), budgets=(15, 16, 17), seeds=3, noise=0.005,
    scatter=0.02, offset=0, batches=5, radius=None, rng=None,
):  # fmt: skip
    """Runs whose best rate and batch leave the output layer with a norm 40 · (width/32)^in_width · (T/2^16)^in_tokens.

    Losses are parabolas in log₂ γ and log₂ B about γ* and B*; the norm goes as γ/B about the optimum. `noise` is that
    of a run's loss in nats, `scatter` that of its norm in octaves. `offset` moves the optimum of the smallest width's
    batch by octaves towards the grid's edge.
    """
    rng = rng or np.random.default_rng(0)
    runs, layers = [], []
    for width in widths:
        for budget in budgets:
            best_batch = 4.2 + 0.5 * (budget - 16) + (offset if width == min(widths) else 0)
            for b in range(2, 2 + batches):
                best_lr = -6.3 + 0.5 * (b - 4)
                for x in range(round(best_lr) - 2, round(best_lr) + 3):
                    for seed in range(seeds):
                        trial_id = f"{optimizer}-{width}-{budget}-{b}-{x}-{seed}"
                        loss = 2 + 0.05 * (x - best_lr) ** 2 + 0.03 * (b - best_batch) ** 2 - 0.1 * (budget - 16)
                        row = run_row(trial_id, optimizer, width, 2.0**x, seed, loss + rng.normal(0, noise))
                        spec = {**json.loads(row["spec"]), "tokens": 2**budget, "batch_size": 2**b}
                        row |= {"tokens": 2**budget, "tokens_budget": 2**budget, "batch_size": 2**b, "seq_len": 8}
                        runs.append(row | {"spec": json.dumps(spec)})
                        log_norm = np.log2(40) + in_width * np.log2(width / 32) + in_tokens * (budget - 16)
                        log_norm += (x + 6.3) - 0.5 * (b - 4) - (b - best_batch) + rng.normal(0, scatter)
                        norm = 2**log_norm
                        layers += [
                            layer_row(trial_id, step, "head.weight", "output", norm_name="row", norm=norm * step / 32,
                                      rms_to_max=norm * step / 32, radius=radius)
                            for step in (16, 32)
                        ]  # fmt: skip
    return runs, layers


def fill_norm_transfer(root):
    """Unconstrained Scion, whose norm is transferred, and Adam, whose norm grows with the budget."""
    both = [
        transfer_rows("uscion", radius=64.0, batches=4, seeds=2),
        transfer_rows("adam", in_tokens=0.7, batches=4, seeds=2),
    ]
    runs, layers = ([row for one in part for row in one] for part in zip(*both, strict=True))
    return write(root, runs, layers, "norm-transfer", "norm-transfer", "Norm transfer")


HORIZONS = tuple(2**k for k in range(6, 12))


def convergence_rows(
    optimizer="scion", schedule="constant", data="noise:none", metric=lambda n: 3 * n**-0.5, lr=lambda n: n**-0.5,
    horizons=HORIZONS, seeds=3, noise=0.02, rise=0.0, rng=None,
):  # fmt: skip
    """Runs, layers and curves of one arm: ‖∇f‖_* has the mean metric(n) after the start, and falls evenly to 0.

    `noise` is that of a run in octaves. f falls as 1/k; with `rise` it goes up by that share of f(W⁰) once.
    """
    rng = rng or np.random.default_rng(0)
    runs, layers, curves = [], [], {}
    for steps in horizons:
        for seed in range(seeds):
            trial_id = f"{optimizer}-{schedule}-{data}-{steps}-{seed}"
            row = run_row(trial_id, optimizer, 16, lr(steps), seed, 0.001)
            spec = {**json.loads(row["spec"]), "data": data, "momentum_schedule": schedule}
            own = {
                "steps": steps,
                "steps_done": steps,
                "tokens": steps,
                "tokens_budget": steps,
                "batch_size": 1,
                "schedule": "constant",
            }
            runs.append(
                row
                | own
                | {"data": data, "momentum_schedule": schedule, "model": "quadratic", "spec": json.dumps(spec)}
            )
            level = metric(steps) * 2 ** (rng.normal(0, noise) if noise else 0)
            watched = np.unique(np.linspace(0, steps, 17).astype(int))
            falling = 1 - watched / steps
            duals = level * falling / falling[1:].mean()
            layers += [
                layer_row(trial_id, int(k), "weight", "hidden", norm=0.5, grad_dual=float(dual))
                for k, dual in zip(watched, duals, strict=True)
            ]
            layers += [layer_row(trial_id, int(k), "logits", "model") for k in watched]
            at = np.unique(np.linspace(1, steps, min(steps, 128)).astype(int))
            losses = 0.125 / np.arange(1, len(at) + 1)
            losses[len(at) // 2 :] += 0.125 * rise
            curves[trial_id] = [
                {"step": int(k), "tokens": int(k), "lr": lr(steps), "train_loss": float(loss)}
                for k, loss in zip(at, losses, strict=True)
            ]  # fmt: skip
    return runs, layers, curves


def convergence_tables(*arms, **settings):
    """Tables of several arms of `convergence_rows`."""
    runs = [run for arm in arms for run in arm[0]]
    layers = [row for arm in arms for row in arm[1]]
    curves = [{"trial_id": trial, **row} for arm in arms for trial, rows in arm[2].items() for row in rows]
    return tables_of(runs, layers, curves, settings=json.dumps(settings))


def convergence_arms():
    """The arms of theory, each as theory has it; plain steps rise at the end."""
    return [
        convergence_rows("scion", rise=0.01),
        convergence_rows("uscion", rise=0.02),
        convergence_rows("clipped-scion", metric=lambda n: 2 / n, lr=lambda n: 0.5),
        convergence_rows("scion", "vanishing", "noise:gaussian-0.5", lambda n: 2 * n**-0.25, lambda n: 0.75 * n**-0.75),
        convergence_rows("uscion", data="noise:gaussian-0.5", metric=lambda n: 3 * n**-0.5 + 0.4),
        convergence_rows("almond", data="noise:skewed-0.5", metric=lambda n: n**-0.5 + 0.8),
    ]


def fill_convergence(root):
    """All of them."""
    arms = convergence_arms()
    runs, layers = ([row for arm in arms for row in arm[i]] for i in (0, 1))
    curves = {trial: rows for arm in arms for trial, rows in arm[2].items()}
    return write(root, runs, layers, "convergence", "convergence", "Convergence", curves)
