import json

import numpy as np
import pytest
from synthetic_layers import RADII, layer_row, norm_rows, tables_of

from analysis.fits.outcomes import Outcome
from analysis.pipeline import _finite
from analysis.studies.norm_control.fit import BAND, fit_norm_control, newton_schulz
from scionlab.errors import UserError

HELD, BROKEN, NO_BOUND = Outcome.HELD, Outcome.DID_NOT_HOLD, Outcome.NO_BOUND


def fit(*parts):
    runs, layers = ([row for one in part for row in one] for part in zip(*parts, strict=True))
    return fit_norm_control(tables_of(runs, layers))


def only(found):
    (method,) = found.methods
    return method


def change(rows, layer, **columns):
    """The rows of one layer with other columns."""
    return [row | columns if row["layer"] == layer else row for row in rows]


def growth_of(method, role):
    return next(growth for growth in method.growths if growth.role == role)


@pytest.mark.parametrize("kind", ["constrained", "unconstrained"])
def test_steps_that_reach_the_bound_but_no_farther_hold_it(kind):
    method = only(fit(norm_rows("scion", kind)))
    assert (method.verdict, method.n_broken, method.n_layers, method.n_runs) == (HELD, 0, 10, 2)
    assert method.closest.ratio == pytest.approx(1)
    assert method.closest.limit == 1  # a layer of Newton-Schulz at 1 is farther from its own limit
    assert method.exact == method.closest
    assert method.closest.step > 0


@pytest.mark.parametrize(("overshoot", "hidden"), [(1.2, HELD), (1.22, BROKEN)])
def test_newton_schulz_may_exceed_the_bound_by_its_band_and_no_more(overshoot, hidden):
    runs, layers = norm_rows("uscion", "unconstrained", overshoot=overshoot, rate=50.0)
    inner = [row for row in layers if row["role"] in ("hidden", "model")]
    method = only(fit((runs, inner)))
    assert method.verdict == hidden
    assert method.closest.limit == BAND
    assert method.closest.ratio == pytest.approx(overshoot, rel=0.002)
    assert method.exact is None


def test_exact_layers_may_not():
    runs, layers = norm_rows("scion", "constrained", overshoot=1.1)
    method = only(fit((runs, layers)))
    assert (method.verdict, method.n_broken) == (BROKEN, 2)
    assert method.closest.layer == "head.weight"
    assert method.closest.ratio == pytest.approx(1.1)
    exact = [row | {"norm_name": "spectral-exact"} if row["norm_name"] == "spectral" else row for row in layers]
    assert only(fit((runs, exact))).n_broken == 10


def test_one_layer_at_one_step_of_one_run_is_found():
    runs, layers = norm_rows("scion", "constrained", overshoot=0.9)
    culprit = next(
        row for row in layers
        if (row["layer"], row["step"], row["trial_id"]) == ("blocks.1.mlp.up.weight", 7, runs[1]["trial_id"])
    )  # fmt: skip
    culprit["norm"] = 5.0
    peak = only(fit((runs, layers))).closest
    assert (peak.layer, peak.step, peak.trial_id) == ("blocks.1.mlp.up.weight", 7, runs[1]["trial_id"])
    assert peak.ratio == pytest.approx(5 / 3)


def test_rounding_is_no_violation():
    runs, layers = norm_rows("scion", "constrained")
    assert only(fit((runs, change(layers, "embed.weight", norm=1.0005, bound=1.0)))).verdict == HELD
    assert only(fit((runs, change(layers, "embed.weight", norm=1.005, bound=1.0)))).verdict == BROKEN


def test_a_weight_of_zero_is_within_a_bound_of_zero_and_others_are_not():
    runs, layers = norm_rows("scion", "constrained")
    assert only(fit((runs, change(layers, "head.weight", norm=0.0, bound=0.0)))).verdict == HELD
    method = only(fit((runs, change(layers, "head.weight", norm=1e-6, bound=0.0))))
    assert (method.verdict, method.closest.ratio) == (BROKEN, np.inf)
    json.dumps(_finite(fit((runs, change(layers, "head.weight", norm=1.0, bound=0.0))).as_dict()), allow_nan=False)


def test_methods_without_balls_have_no_bound_but_a_growth():
    method = only(fit(norm_rows("adam", "free", seeds=1)))
    assert (method.verdict, method.closest, method.exact) == (NO_BOUND, None, None)
    for role in ("input", "hidden"):
        growth = growth_of(method, role)
        assert growth.ratio == pytest.approx(1.05**20)
        assert (growth.start, growth.radius) == (pytest.approx(RADII[role]), None)
        assert growth.n_layers == {"input": 1, "hidden": 8}[role]


def test_growth_has_the_extremes_over_runs_and_layers():
    growth = growth_of(only(fit(norm_rows("adam", "free", seeds=3))), "hidden")
    per_seed = [(1.05 * (1 + 0.01 * seed)) ** 20 for seed in range(3)]
    assert (growth.lowest, growth.highest) == (pytest.approx(per_seed[0]), pytest.approx(per_seed[2]))
    assert growth.ratio == pytest.approx(np.prod(per_seed) ** (1 / 3))


def test_a_layer_that_starts_at_zero_has_no_ratio():
    growth = growth_of(only(fit(norm_rows("uscion", "unconstrained", rate=0.1))), "output")
    assert (growth.start, growth.ratio, growth.radius) == (0, None, 64)
    assert growth.end == pytest.approx(20 * 0.1 * 64)


def test_methods_are_judged_apart_and_diverged_runs_left_out():
    good, bad = norm_rows("scion", "constrained"), norm_rows("uscion", "unconstrained", overshoot=1.5)
    assert [m.verdict for m in fit(good, bad).methods] == [HELD, BROKEN]
    lost = [run | {"status": "diverged", "val_loss": None} if i else run for i, run in enumerate(good[0])]
    wild = [row | ({"norm": 1e9} if row["trial_id"] == lost[1]["trial_id"] and row["norm"] else {}) for row in good[1]]
    method = only(fit((lost, wild)))
    assert (method.verdict, method.n_diverged, method.n_runs) == (HELD, 1, 1)


def test_which_norms_go_by_newton_schulz():
    names = ("spectral", "spectral-max", "conv", "conv-max", "conv1d", "flat:spectral")
    assert all(map(newton_schulz, names))
    others = ("spectral-exact", "spectral-max-exact", "flat:spectral-exact", "column", "row", "sign", "bias")
    others += ("flat:sign", "schatten-inf", "euclidean")
    assert not any(map(newton_schulz, others))


def test_the_band_is_the_one_the_geometry_states():
    from scionlab.geometry.orthogonalize import BAND as MEASURED

    assert MEASURED[1] == BAND


def test_tables_without_norms_are_refused():
    runs, layers = norm_rows("scion", "constrained")
    with pytest.raises(UserError, match="none of them watched"):
        fit_norm_control(tables_of(runs, []))
    with pytest.raises(UserError, match="columns bound are missing"):
        fit_norm_control(tables_of(runs, [{k: v for k, v in row.items() if k != "bound"} for row in layers]))
    again = layer_row("again", 0, "embed.weight", "input", norm_name="column", norm=1.0)
    with pytest.raises(UserError, match="several runs of 'scion' have width 32, lr"):
        fit_norm_control(tables_of([*runs, runs[0] | {"trial_id": "again"}], [*layers, again]))


def test_what_is_written_has_a_row_for_every_method_and_role():
    found = fit(norm_rows("adam", "free"), norm_rows("scion", "constrained"))
    frames = found.frames()
    assert list(frames["norm_control"]["verdict"]) == [NO_BOUND, HELD]
    assert len(frames["norm_growth"]) == 6
    ((_, summary),) = found.summaries()
    assert list(summary["largest ‖W‖/bound"]) == ["–", "1.000"]
    assert "output 0 → " in summary["growth"][1]
