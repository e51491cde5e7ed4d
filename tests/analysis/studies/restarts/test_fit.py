import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.fits.intervals import CONFIDENCE, student
from analysis.pipeline import _finite
from analysis.studies.restarts.fit import TUNED_SMALL, fit_restarts, setting_text
from analysis.tables.sweep import SweepTables
from scionlab.errors import UserError

SMALL, LARGE = {"batch_size": 2, "seq_len": 64, "lr": 2**-7}, {"batch_size": 8, "seq_len": 64, "lr": 2**-8}
ONCE = [{"from_tokens": 2**16, **LARGE}]
TWICE = [{"from_tokens": 2**15, "batch_size": 4, "seq_len": 64, "lr": 2**-7.5}, *ONCE]
LEVELS = {"small": 2.30, "old step": 2.25, "rule's step": 2.20, "restarted": 2.10, "twice": 2.15}


def way(name, setting, stages=None, seeds=3, offsets=(0.0, 0.05, -0.02), wobble=(0.002, -0.001, 0.004), **changes):
    """Rows of one way: its level, plus an offset that a seed has in every way, plus a wobble of its own."""
    return [
        {
            "trial_id": f"{name}-{seed}", "optimizer": "scion", "status": "ok", "seed": seed, "tokens_budget": 2**18,
            "stages": json.dumps(stages) if stages else None, **setting,
            "val_loss": LEVELS[name] + offsets[seed] + wobble[seed], **changes,
        }
        for seed in range(seeds)
    ]  # fmt: skip


def five_ways():
    return [
        *way("old step", {**LARGE, "lr": SMALL["lr"]}, wobble=(0, 0.001, 0.001)),
        *way("restarted", SMALL, ONCE, wobble=(0.003, 0.001, 0)),
        *way("rule's step", LARGE),
        *way("small", SMALL, wobble=(0, 0, 0)),
        *way("twice", SMALL, TWICE),
    ]


def fit(rows):
    runs = pd.DataFrame(rows)
    return fit_restarts(SweepTables({"trial_ids": list(runs["trial_id"])}, pd.DataFrame(), runs, pd.DataFrame()))


def by_name(found):
    return {each.name: each for each in found.ways}


def test_ways_are_named_from_where_restarts_begin_and_end_and_come_best_first():
    found = fit(five_ways())
    assert [each.name for each in found.ways] == [
        "restarted", "restarted 2 times", "large, the rule's step", "large, old step", TUNED_SMALL,
    ]  # fmt: skip
    assert (found.reference, found.tokens) == (TUNED_SMALL, 2**18)
    assert setting_text(by_name(found)["restarted"]) == "2 × 64, 0.0078 → 8 × 64, 0.0039"
    assert by_name(found)["restarted"].stages[1][0] == 2**16


def test_other_settings_are_named_by_what_they_are():
    odd = [*way("old step", {**LARGE, "lr": 0.5}), *way("rule's step", {"batch_size": 3, "seq_len": 32, "lr": 0.25})]
    names = set(by_name(fit([*odd, *way("restarted", SMALL, ONCE)])))
    assert names == {"large, lr 0.5", "batch 3 × 32, lr 0.25", "restarted"}


def test_means_and_paired_differences_have_students_interval():
    rows = five_ways()
    losses = {name: np.array([r["val_loss"] for r in rows if r["trial_id"].startswith(name)]) for name in LEVELS}
    found = by_name(fit(rows))
    for name, called in (("restarted", "restarted"), ("rule's step", "large, the rule's step")):
        for estimate, values in (
            (found[called].loss, losses[name]),
            (found[called].difference, losses[name] - losses["small"]),
        ):
            half = stats.t.ppf((1 + CONFIDENCE) / 2, 2) * values.std(ddof=1) / np.sqrt(3)
            assert estimate.value == pytest.approx(values.mean())
            assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert found[TUNED_SMALL].difference is None


def test_an_offset_that_a_seed_has_in_every_way_widens_no_difference():
    plain = fit(five_ways())
    moved = [{**row, "val_loss": row["val_loss"] + 0.7 * row["seed"]} for row in five_ways()]
    for before, after in zip(plain.ways, fit(moved).ways, strict=True):
        assert after.name == before.name
        if before.difference:
            assert (after.difference.low, after.difference.high) == pytest.approx(
                (before.difference.low, before.difference.high)
            )


def test_ways_are_compared_on_the_seeds_they_share():
    rows = [*way("small", SMALL, seeds=2), *way("restarted", SMALL, ONCE, seeds=3)]
    restarted = by_name(fit(rows))["restarted"]
    shared = [rows[2 + i]["val_loss"] - rows[i]["val_loss"] for i in range(2)]
    assert restarted.difference.value == pytest.approx(np.mean(shared))
    assert (restarted.n_seeds, restarted.loss.value) == (3, pytest.approx(np.mean([r["val_loss"] for r in rows[2:]])))


def test_without_the_tuned_small_way_another_fixed_one_is_the_reference():
    found = fit([*way("restarted", SMALL, ONCE), *way("rule's step", LARGE)])
    assert found.reference == "large, the rule's step"
    only = fit(way("restarted", SMALL, ONCE))
    assert (only.reference, only.ways[0].difference) == ("restarted", None)


def test_a_way_that_diverged_comes_last_and_has_no_loss():
    rows = five_ways()
    rows[3] |= {"status": "diverged", "val_loss": np.nan}
    found = fit(rows)
    last = found.ways[-1]
    assert (last.name, last.loss, last.difference, last.n_diverged) == ("restarted", None, None, 1)
    row = found.frames()["restarts"].iloc[-1]
    assert np.isnan(row["loss"])
    assert dict(found.summaries()[0][1].iloc[-1]) == {
        "way": "restarted", "batch × length, lr": "2 × 64, 0.0078 → 8 × 64, 0.0039", "loss": "diverged",
        "difference": "–", "seeds": "3",
    }  # fmt: skip


def test_a_reference_that_diverged_leaves_no_differences():
    rows = [*way("small", SMALL, status="diverged", val_loss=np.nan), *way("restarted", SMALL, ONCE)]
    found = by_name(fit(rows))
    assert found["restarted"].loss is not None
    assert found["restarted"].difference is None


def test_a_seed_that_diverged_in_both_ways_is_not_left_out_of_their_difference():
    rows = [*way("small", SMALL), *way("restarted", SMALL, ONCE)]
    for row in (rows[1], rows[4]):
        row |= {"status": "diverged", "val_loss": np.nan}
    assert by_name(fit(rows))["restarted"].difference is None


def test_one_seed_has_no_interval():
    found = by_name(fit([*way("small", SMALL, seeds=1), *way("restarted", SMALL, ONCE, seeds=1)]))
    assert found["restarted"].difference.value == pytest.approx(-0.2)
    assert (found["restarted"].difference.low, found["restarted"].loss.low) == (None, None)


def test_students_interval_of_unusual_samples():
    assert student(pd.Series([], dtype=float)) is None
    assert student(pd.Series([1.0, np.inf])) is None
    same = student(pd.Series([1.5, 1.5, 1.5]))
    assert (same.value, same.low, same.high) == (1.5, 1.5, 1.5)


def test_failed_runs_do_not_count():
    rows = [*five_ways(), *way("small", SMALL, seeds=1, status="error", val_loss=np.nan)]
    assert by_name(fit(rows))[TUNED_SMALL].n_seeds == 3


def test_tables_without_stages_or_with_several_experiments_are_refused():
    with pytest.raises(UserError, match="none of them has stages"):
        fit(way("small", SMALL))
    with pytest.raises(UserError, match="none of them has stages"):
        fit([{k: v for k, v in row.items() if k != "stages"} for row in way("small", SMALL)])
    for change in ({"optimizer": "adam"}, {"tokens_budget": 2**19}):
        with pytest.raises(UserError, match="one optimizer and one token budget"):
            fit([*way("restarted", SMALL, ONCE), *way("small", SMALL, **change)])


def test_two_runs_of_one_way_and_seed_are_refused():
    with pytest.raises(UserError, match="several runs of 'tuned small' have seed 0"):
        fit([*way("restarted", SMALL, ONCE), *way("small", SMALL), *way("small", SMALL, momentum=0.5)])


def test_the_order_of_the_rows_changes_no_number():
    one, other = fit(five_ways()), fit(five_ways()[::-1])
    for before, after in zip(one.ways, other.ways, strict=True):
        assert (after.name, after.stages, set(after.trial_ids)) == (before.name, before.stages, set(before.trial_ids))
        assert after.loss.value == pytest.approx(before.loss.value)
        assert after.loss.low == pytest.approx(before.loss.low)


def test_what_is_written_is_json_with_a_row_for_each_way():
    found = fit(five_ways())
    written = json.loads(json.dumps(_finite(found.as_dict()), allow_nan=False))
    assert len(written["ways"]) == len(found.frames()["restarts"]) == 5
    assert written["confidence"] == CONFIDENCE
