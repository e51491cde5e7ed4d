import json

import numpy as np
import pandas as pd
import pytest

from analysis.fits.outcomes import Missing, Outcome
from analysis.laws.points import points_of
from analysis.pipeline import _finite
from analysis.studies.scaling_law import page
from analysis.studies.scaling_law.figures import FIGURES
from analysis.studies.scaling_law.fit import fit_scaling_laws
from analysis.tables.sweep import SweepTables
from scionlab.errors import UserError

SIZES, BUDGETS = np.geomspace(1e7, 1e10, 6), np.geomspace(1e9, 1e12, 6)


def law(n, t, floor=1.8):
    return floor + 480 * n**-0.35 + 2100 * t**-0.37


def runs_of(name="one", noise=0.003, floor=1.8, sizes=SIZES, budgets=BUDGETS, seed=0, **fixed):
    n, t = (grid.ravel() for grid in np.meshgrid(sizes, budgets))
    loss = law(n, t, floor) * np.exp(noise * np.random.default_rng(seed).standard_normal(len(n)))
    return pd.DataFrame(
        {"optimizer": name, "n_params": n, "tokens": t, "val_loss": loss, "status": "ok", "lr": np.nan} | fixed
    ).assign(trial_id=[f"{name}{i}" for i in range(len(n))])


def told(runs, **settings):
    return SweepTables({"settings": json.dumps(settings), "experiment": "x"}, pd.DataFrame(), runs, pd.DataFrame())


def test_every_source_has_its_law_its_allocations_and_its_verdict():
    tables = told(pd.concat([runs_of("one"), runs_of("two", floor=2.5, seed=1)]))
    found = fit_scaling_laws(tables)
    assert [each.name for each in found.laws] == ["one", "two"]
    for each, floor in zip(found.laws, (1.8, 2.5), strict=True):
        assert each.verdict == Outcome.DETERMINED
        e, size = each.law.parameters["E"], each.exponents[0]
        assert e.low < floor < e.high
        assert size.low < 0.37 / 0.72 < size.high
        assert each.exponents[1].value == pytest.approx(1 - size.value)
        assert [best.flops for best in each.allocations] == pytest.approx([6e22, 6e23, 6e24])
    frames = found.frames()
    assert len(frames["scaling_law_points"]) == 72
    assert len(frames["scaling_law_allocations"]) == 6
    assert set(frames["scaling_law"]["source"]) == {"one", "two"}
    json.dumps(_finite(found.as_dict()), allow_nan=False)
    for name, figure in FIGURES.items():
        data = figure.table(tables, found)
        assert set(data["source"]) == {"one", "two"}, name
        assert figure.draw(data).axes
        assert "one" in figure.alt(data)
    context = page.context(tables, found)
    assert [finding["verdict"] for finding in context["verdicts"]] == ["determined", "determined"]


def test_sizes_and_tokens_that_grow_in_one_proportion_do_not_determine_a_law():
    n = np.geomspace(1e7, 1e10, 30)
    runs = runs_of(sizes=[1e8], budgets=n).assign(n_params=n, tokens=20 * n, val_loss=law(n, 20 * n))
    (each,) = fit_scaling_laws(told(runs)).laws
    assert (each.verdict, each.lacks.missing) == (Outcome.CANNOT_TELL, (Missing.SIZES,))
    assert each.allocations == ()
    assert "do not determine" in page.context(told(runs), fit_scaling_laws(told(runs)))["verdicts"][0]["text"]


def test_settings_hold_e_and_name_operations():
    (each,) = fit_scaling_laws(told(runs_of(), floor=1.8, flops=[1e24, 1e21])).laws
    assert each.law.floor == 1.8
    assert [best.flops for best in each.allocations] == [1e21, 1e24]
    with pytest.raises(UserError, match=r"settings\.flop: no such field"):
        fit_scaling_laws(told(runs_of(), flop=[1e21]))


def test_no_number_is_moved_and_none_merged():
    runs = runs_of(noise=0.0)
    near = runs.assign(tokens=1.01 * runs["tokens"], val_loss=law(runs["n_params"], 1.01 * runs["tokens"]))
    (points,) = points_of(pd.concat([runs, near]))
    assert len(points.frame) == 72
    assert set(points.frame["tokens"]) == {*runs["tokens"], *near["tokens"]}
    (each,) = fit_scaling_laws(told(pd.concat([runs, near]))).laws
    # Exact points give the exact law: budgets that were merged would leave 1% of T in it.
    assert each.law.parameters["B"].value == pytest.approx(2100, rel=1e-3)


def test_of_runs_with_rates_the_lowest_of_every_size_and_budget_counts_at_its_own_tokens():
    best, worse = runs_of(noise=0.0, lr=0.1), runs_of(noise=0.0, lr=0.2)
    worse = worse.assign(val_loss=worse["val_loss"] + 0.1, tokens=1.02 * worse["tokens"])
    (points,) = points_of(pd.concat([best, worse], ignore_index=True))
    assert sorted(points.frame["tokens"]) == sorted(best["tokens"])
    assert points.left_out == {"are not the best of their size and budget": 36}


def test_runs_that_are_no_points_are_counted_and_none_at_all_is_refused():
    runs = runs_of()
    some = runs.assign(
        status=["diverged", "ok", *["ok"] * 34], n_params=[1e7, np.nan, *runs["n_params"].iloc[2:]],
        val_loss=[np.nan, *runs["val_loss"].iloc[1:]],
    )  # fmt: skip
    (points,) = points_of(some)
    assert points.left_out == {"did not train to their end": 1, "do not say their size": 1}
    with pytest.raises(UserError, match="none says how many parameters"):
        points_of(runs.assign(n_params=np.nan))
    with pytest.raises(UserError, match="none of 36 trained"):
        points_of(runs.assign(status="diverged"))
