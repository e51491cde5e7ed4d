import numpy as np
import pandas as pd
import pytest
from synthetic_layers import GROWS, STAYS, coordinate_rows, layer_row, tables_of

from analysis.fits.intervals import Estimate
from analysis.fits.outcomes import Outcome
from analysis.studies.coordinate_check.fit import TOLERANCE, fit_coordinate, judge, layer_sizes
from analysis.tables.watched import kinds
from scionlab.errors import UserError

PASSES, FAILS, CANNOT_TELL = Outcome.PASSES, Outcome.FAILS, Outcome.CANNOT_TELL
WITHIN, BEYOND = Outcome.WITHIN, Outcome.BEYOND


def fit(exponents, **options):
    return fit_coordinate(tables_of(*coordinate_rows(exponents, **options)))


def only(found):
    (method,) = found.methods
    return method


def slope_of(method, kind, quantity="output_change_rms"):
    return next(s for s in method.slopes if (s.kind, s.quantity) == (kind, quantity))


def test_planted_exponents_are_recovered():
    found = fit({"adam": GROWS, "scion": STAYS})
    adam, scion = found.methods
    for method, of_kind in ((adam, GROWS), (scion, STAYS)):
        for kind in ("embed", "attention.q", "mlp.down", "logits"):
            planted = of_kind.get(kind, of_kind[""])
            for quantity, exponent in zip(("output_rms", "output_change_rms"), planted, strict=True):
                slope = slope_of(method, kind, quantity).slope
                assert slope.low - 0.02 <= exponent <= slope.high + 0.02
                assert slope.high - slope.low < 0.1
    assert (adam.verdict, scion.verdict) == (FAILS, PASSES)
    assert abs(adam.worst.slope.value) == pytest.approx(1, abs=0.05)
    assert adam.worst.verdict == BEYOND
    assert (adam.widths, adam.step, adam.n_seeds, adam.lr) == ((32, 64, 128, 256), 4, 3, 2**-6)


@pytest.mark.parametrize("exponent", [0.5, -0.5])
def test_one_layer_whose_change_grows_or_shrinks_is_enough_to_fail(exponent):
    method = only(fit({"scion": {**STAYS, "mlp.up": (0.0, exponent)}}))
    assert method.verdict == FAILS
    assert (method.worst.kind, method.worst.quantity) == ("mlp.up", "output_change_rms")


def test_the_initial_output_may_fade_but_its_change_and_other_layers_may_not():
    assert only(fit({"a": {"": (0, 0), "logits": (-0.5, 0)}})).verdict == PASSES
    for failing in ({"logits": (0.5, 0)}, {"logits": (0, -0.5)}, {"mlp.up": (-0.5, 0)}):
        assert only(fit({"a": {"": (0, 0), **failing}})).verdict == FAILS


def test_noise_as_large_as_the_question_leaves_it_open():
    method = only(fit({"scion": {"": (0.2, 0.2)}}, seeds=2, noise=0.3))
    assert method.verdict == CANNOT_TELL
    assert method.worst.slope.low < TOLERANCE < method.worst.slope.high


def test_one_seed_cannot_tell():
    method = only(fit({"adam": GROWS}, seeds=1))
    assert method.verdict == CANNOT_TELL
    assert method.worst.slope.value == pytest.approx(1, abs=0.1)
    assert all(slope.slope.low is None for slope in method.slopes)


def test_the_worst_slope_of_a_method_that_does_not_fail_is_the_one_whose_interval_reaches_farthest():
    runs, layers = coordinate_rows({"scion": {**STAYS, "mlp.up": (0.0, 0.1)}}, noise=0.01)
    rng = np.random.default_rng(1)
    shaky = [
        row | {"output_rms": row["output_rms"] * 2 ** rng.normal(0, 0.5)} if row["layer"] == "embed.weight" else row
        for row in layers
    ]
    plain, wide = only(fit_coordinate(tables_of(runs, layers))), only(fit_coordinate(tables_of(runs, shaky)))
    assert (plain.verdict, plain.worst.name) == (PASSES, "‖Δh‖ of mlp.up")
    assert (wide.verdict, wide.worst.name) == (CANNOT_TELL, "‖h‖ of embed")
    reach = max(wide.worst.slope.high, -wide.worst.slope.low)
    assert all(max(s.slope.high, -s.slope.low) <= reach for s in wide.slopes if not s.may_shrink)


@pytest.mark.parametrize(
    ("low", "high", "may_shrink", "says"),
    [
        (-0.1, 0.1, False, WITHIN), (-0.25, 0.25, False, WITHIN), (0.26, 0.4, False, BEYOND),
        (-0.9, -0.3, False, BEYOND), (0.2, 0.3, False, CANNOT_TELL), (-0.3, -0.2, False, CANNOT_TELL),
        (-0.9, -0.3, True, WITHIN), (-0.3, 0.3, True, CANNOT_TELL), (0.3, 0.4, True, BEYOND),
        (None, None, True, CANNOT_TELL),
    ],
)  # fmt: skip
def test_what_an_interval_says(low, high, may_shrink, says):
    assert judge(Estimate(0.0, low, high), may_shrink) == says


def test_a_run_that_diverged_takes_the_pass_away_but_not_the_failure():
    for exponents, verdict in ((STAYS, CANNOT_TELL), (GROWS, FAILS)):
        runs, layers = coordinate_rows({"adam": exponents})
        runs[-1] |= {"status": "diverged", "val_loss": None}
        method = only(fit_coordinate(tables_of(runs, layers)))
        assert (method.verdict, method.n_diverged) == (verdict, 1)


def test_the_rows_of_a_run_that_diverged_are_in_no_slope():
    runs, layers = coordinate_rows({"adam": STAYS})
    runs[-1] |= {"status": "diverged", "val_loss": None}
    for row in layers:
        if row["trial_id"] == runs[-1]["trial_id"]:
            row["output_change_rms"] = 1e9
    found = fit_coordinate(tables_of(runs, layers))
    assert runs[-1]["trial_id"] not in set(found.sizes["trial_id"])
    assert abs(slope_of(only(found), "mlp.up").slope.value) < 0.05


def test_a_method_of_which_every_run_diverged_is_said():
    runs, layers = coordinate_rows({"adam": GROWS, "scion": STAYS})
    for run in runs[:12]:
        run |= {"status": "diverged", "val_loss": None}
    adam, scion = fit_coordinate(tables_of(runs, layers)).methods
    assert (adam.verdict, adam.worst, adam.n_diverged, scion.verdict) == (CANNOT_TELL, None, 12, PASSES)


@pytest.mark.parametrize(("value", "why"), [(0.0, "is 0 in some run"), (np.nan, "was not measured")])
def test_a_layer_that_does_not_move_or_was_not_measured_leaves_the_verdict_open(value, why):
    runs, layers = coordinate_rows({"scion": STAYS})
    for row in layers:
        if row["layer"] == "embed.weight" and row["trial_id"] == "scion-64-1":
            row["output_change_rms"] = value
    method = only(fit_coordinate(tables_of(runs, layers)))
    assert method.verdict == CANNOT_TELL
    (unknown,) = method.unknown
    assert (unknown.kind, unknown.quantity) == ("embed", "output_change_rms")
    assert why in unknown.why
    assert slope_of(method, "embed", "output_rms").slope is not None


def test_a_layer_that_is_nowhere_measured_takes_no_part():
    runs, layers = coordinate_rows({"scion": STAYS})
    for row in layers:
        if row["layer"] == "embed.weight":
            row["output_rms"] = row["output_change_rms"] = np.nan
    method = only(fit_coordinate(tables_of(runs, layers)))
    assert method.verdict == PASSES
    assert "embed" not in {slope.kind for slope in method.slopes}


def test_the_last_step_counts_and_the_heads_raw_output_does_not():
    runs, layers = coordinate_rows({"scion": STAYS}, noise=0)
    for row in layers:
        if row["role"] == "output" or row["step"] == 3:
            row["output_change_rms"] = 1e6
    found = fit_coordinate(tables_of(runs, layers))
    assert only(found).verdict == PASSES
    assert "head" not in set(found.sizes["kind"])
    assert set(found.sizes["step"]) == {4}


def test_layers_of_one_kind_count_as_their_root_mean_square_and_a_module_once():
    rows = pd.DataFrame(
        {
            "trial_id": "t", "optimizer": "a", "width": 8, "seed": 0, "step": 1,
            "layer": ["blocks.0.up.weight", "blocks.0.up.bias", "blocks.1.up.weight", "head.weight", "head.bias"],
            "role": ["hidden", "bias", "hidden", "output", "bias"],
            "output_rms": [3.0, 3.0, 4.0, 9.0, 9.0], "output_change_rms": [1.0, 1.0, 7.0, 9.0, 9.0],
        }
    )  # fmt: skip
    (row,) = layer_sizes(rows).to_dict("records")
    assert row["kind"] == "up"
    assert (row["output_rms"], row["output_change_rms"]) == pytest.approx((12.5**0.5, 5.0))


def test_layers_are_called_by_their_place_in_a_block():
    names = {
        "embed.weight": ("input", "embed"), "blocks.10.attention.q.weight": ("hidden", "attention.q"),
        "encoder.layers.0.self_attn.in_proj_weight": ("hidden", "self_attn"),
        "stages.1.blocks.0.conv2.weight": ("hidden", "conv2"), "layers.0.weight": ("input", "layers (input)"),
        "layers.2.weight": ("hidden", "layers (hidden)"), "4.weight": ("output", "output"),
        "logits": ("model", "logits"), "weight": ("hidden", "weight"),
    }  # fmt: skip
    rows = pd.DataFrame({"layer": list(names), "role": [role for role, _ in names.values()]}, index=range(5, 14))
    assert dict(zip(rows["layer"], kinds(rows), strict=True)) == {layer: kind for layer, (_, kind) in names.items()}


def test_the_order_of_the_rows_changes_no_number():
    runs, layers = coordinate_rows({"adam": GROWS, "scion": STAYS})
    one = fit_coordinate(tables_of(runs, layers))
    other = fit_coordinate(tables_of(runs[::-1], sorted(layers, key=lambda row: row["trial_id"])))
    assert [m.verdict for m in one.methods] == [m.verdict for m in other.methods]
    for mine, theirs in zip(one.methods, other.methods, strict=True):
        for slope in mine.slopes:
            assert slope_of(theirs, slope.kind, slope.quantity).slope.value == pytest.approx(slope.slope.value)


def test_tables_that_are_no_coordinate_check_are_refused():
    runs, layers = coordinate_rows({"adam": GROWS})
    with pytest.raises(UserError, match="none of them watched"):
        fit_coordinate(tables_of(runs, []))
    with pytest.raises(UserError, match="output_change_rms are missing"):
        fit_coordinate(tables_of(runs, pd.DataFrame(layers).drop(columns="output_change_rms")))
    with pytest.raises(UserError, match="all have width 32"):
        fit({"adam": GROWS}, widths=(32,))
    with pytest.raises(UserError, match="several runs of 'adam' have width 32, seed 0"):
        fit_coordinate(
            tables_of(
                [*runs, runs[0] | {"trial_id": "again", "lr": 0.5}], [*layers, {**layers[0], "trial_id": "again"}]
            )
        )
    with pytest.raises(UserError, match="lr of 'adam' takes several values"):
        fit_coordinate(tables_of([run | {"lr": 1 / run["width"]} for run in runs], layers))
    longer = layer_row(runs[0]["trial_id"], 5, "logits", "model", output_rms=1.0, output_change_rms=1.0)
    with pytest.raises(UserError, match=r"different numbers of steps \(4, 5\)"):
        fit_coordinate(tables_of(runs, [*layers, longer]))
    with pytest.raises(UserError, match="trained to its end"):
        fit_coordinate(tables_of([run | {"status": "diverged"} for run in runs], layers))


def test_what_is_written_has_a_row_for_every_slope():
    found = fit({"adam": GROWS, "scion": STAYS})
    frame = found.frames()["coordinate"]
    assert len(frame) == sum(len(method.slopes) for method in found.methods) == 2 * 6 * 2
    assert found.as_dict()["tolerance"] == TOLERANCE
    ((title, summary),) = found.summaries()
    assert list(summary["verdict"]) == [FAILS, PASSES]
    assert "±0.25" in title
