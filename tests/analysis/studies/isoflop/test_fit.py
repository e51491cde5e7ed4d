import json

import numpy as np
import pandas as pd
import pytest

from analysis.fits.outcomes import Missing, Outcome
from analysis.pipeline import _finite
from analysis.studies.isoflop import page
from analysis.studies.isoflop.figures import FIGURES
from analysis.studies.isoflop.fit import _by_valleys, fit_isoflop
from analysis.studies.isoflop.valleys import budgets_of, envelope, lowest
from analysis.tables.sweep import SweepTables
from scionlab.errors import UserError

A, B, ALPHA, BETA = 480.0, 2100.0, 0.35, 0.45
EXPONENT = BETA / (ALPHA + BETA)
FLOPS = np.geomspace(1e18, 1e22, 7)


def law(n, t):
    return 1.8 + A * n**-ALPHA + B * t**-BETA


def best(flops):
    return (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * (flops / 6) ** EXPONENT


def runs_of(name="one", noise=0.0, flops=FLOPS, around=(0.1, 0.25, 0.5, 0.8, 1.4, 3, 7), scatter=0.0, seed=0):
    """Sizes around each budget's best one; `scatter` moves operations within a budget."""
    rng, rows = np.random.default_rng(seed), []
    for c in flops:
        for factor in around:
            n = best(c) * factor
            t = c * np.exp(scatter * rng.uniform(-1, 1)) / (6 * n)
            rows.append({"n_params": n, "tokens": t, "val_loss": law(n, t) + noise * rng.standard_normal()})
    runs = pd.DataFrame(rows).assign(optimizer=name, status="ok", lr=np.nan)
    return runs.assign(trial_id=[f"{name}{i}" for i in range(len(runs))])


def told(runs, **settings):
    return SweepTables({"settings": json.dumps(settings), "experiment": "x"}, pd.DataFrame(), runs, pd.DataFrame())


def growths(runs, **settings):
    (source,) = fit_isoflop(told(runs, **settings)).sources
    return source, {growth.approach: growth for growth in source.growths}


def test_all_approaches_find_a_planted_law():
    source, found = growths(runs_of(noise=0.002))
    assert source.verdict == Outcome.FOUND
    # Approach 3 has the law's form. The valley is lopsided, so a parabola is off, by what its bias says; Akima's curve
    # between sizes a factor of two apart is off by less than a tenth of an octave.
    law_size = found["3: law"].size
    assert law_size.low < EXPONENT < law_size.high
    for approach in ("2: parabola", "2: akima"):
        size = found[approach].size
        assert size.low < EXPONENT + found[approach].bias < size.high
        assert found[approach].budgets == found[approach].measured == 7
        assert found[approach].tokens.value == pytest.approx(1 - size.value, abs=0.02)


def test_a_parabola_over_sizes_that_are_unequally_spread_is_off_and_its_bias_says_by_how_much():
    # Of small budgets small sizes were run, of large ones large ones: the misfit of the parabola goes with the budget.
    parts = [runs_of(flops=[c], around=np.geomspace(0.15, 1.0, 6) * 10 ** (0.8 * i / 6)) for i, c in enumerate(FLOPS)]
    runs = pd.concat(parts, ignore_index=True).assign(trial_id=range(42))
    _, found = growths(runs)
    parabola = found["2: parabola"]
    assert parabola.size.value - EXPONENT == pytest.approx(parabola.bias, abs=1e-4)  # without noise that is all of it
    assert parabola.bias > 0.003


def test_student_intervals_hold_the_exponent_as_often_as_they_say():
    exact = budgets_of(runs_of().assign(flops=lambda r: 6 * r["n_params"] * r["tokens"]))
    truth = _by_valleys("", [lowest(budget, "parabola") for budget in exact]).size.value
    held = []
    for seed in range(40):
        budgets = budgets_of(runs_of(noise=0.01, seed=seed).assign(flops=lambda r: 6 * r["n_params"] * r["tokens"]))
        size = _by_valleys("", [lowest(budget, "parabola") for budget in budgets]).size
        held.append(size.low < truth < size.high)
    assert np.mean(held) >= 0.85  # 95% of 40; fewer than 34 have a chance of 0.3%


def test_operations_read_off_a_picture_scatter_and_are_one_budget_still():
    source, found = growths(runs_of(scatter=0.08))
    assert len(source.budgets) == 7
    assert 1.05 < source.spread < 1.2
    assert found["2: parabola"].size.value == pytest.approx(EXPONENT, abs=0.05)
    assert "differ by up to" in page.context(told(runs_of()), fit_isoflop(told(runs_of(scatter=0.08))))["notes"][0]


def test_equal_operations_are_one_budget_whatever_their_order():
    frame = runs_of().assign(flops=lambda rows: np.repeat(FLOPS, 7)).sample(frac=1, random_state=0)
    assert [len(budget.log_n) for budget in budgets_of(frame)] == [7] * 7


def test_a_budget_whose_lowest_loss_is_at_an_end_does_not_count_and_says_why():
    runs = pd.concat(
        [runs_of(), runs_of(flops=[1e24], around=(0.05, 0.1, 0.2)), runs_of(flops=[1e25], around=(1, 1.1))]
    )
    runs["trial_id"] = range(len(runs))
    source, found = growths(runs)
    assert [bool(each.why) for each in source.lowest] == [False] * 7 + [True, True]
    assert source.lowest[-2].why == "the lowest point lies beyond the sizes measured"
    assert source.lowest[-1].why == "2 sizes, and 3 are needed"
    assert found["2: parabola"].budgets == 7


@pytest.mark.parametrize(
    ("runs", "missing"),
    [
        (runs_of(flops=FLOPS[:2]), Missing.BUDGETS),
        (runs_of(around=(0.05, 0.1, 0.2)), Missing.SIZES),
    ],
)
def test_too_few_budgets_or_sizes_leave_it_open(runs, missing):
    source, _ = growths(runs)
    assert (source.verdict, source.lacks.missing) == (Outcome.CANNOT_TELL, (missing,))
    assert source.designs == ()


def test_the_envelope_takes_the_lowest_of_training_curves():
    # Thirteen sizes, each at many tokens, as curves are: no two of them at the same number of operations.
    n, t = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e10, 13), np.geomspace(1e8, 1e13, 60)))
    frame = pd.DataFrame({"n_params": n, "tokens": t, "val_loss": law(n, t), "flops": 6 * n * t})
    best_sizes = envelope(frame)
    octaves = np.log2(best_sizes["n_params"] / best(best_sizes["flops"]))
    assert abs(octaves).max() < 0.55  # sizes are 0.83 octaves apart: the nearest is within half of that, and the curve
    assert np.polyfit(np.log(best_sizes["flops"]), np.log(best_sizes["n_params"]), 1)[0] == pytest.approx(
        EXPONENT, abs=0.02
    )
    _, found = growths(frame.assign(optimizer="one", status="ok", lr=np.nan, trial_id=range(len(frame))))
    assert found["1: envelope"].size.value == pytest.approx(EXPONENT, abs=0.02)
    assert found["1: envelope"].size.low is None


def test_designs_spend_the_operations_asked_for_around_the_best_size():
    source, found = growths(runs_of(), flops=[1e23])
    (design,) = source.designs
    assert [6 * n * t for n, t in zip(design.n_params, design.tokens, strict=True)] == pytest.approx([1e23] * 5)
    assert design.n_params[2] == pytest.approx(found["2: parabola"].best(1e23))
    assert design.n_params[2] == pytest.approx(best(1e23), rel=0.2)


def test_figures_page_and_json_of_several_sources():
    tables = told(pd.concat([runs_of("one"), runs_of("two", noise=0.002)]), curve="akima")
    found = fit_isoflop(tables)
    json.dumps(_finite(found.as_dict()), allow_nan=False)
    for name, figure in FIGURES.items():
        data = figure.table(tables, found)
        assert set(data["source"]) == {"one", "two"}, name
        assert figure.draw(data).axes
        assert "two" in figure.alt(data)
    context = page.context(tables, found)
    assert all("read by akima in 7 of 7 budgets" in finding["text"] for finding in context["verdicts"])
    assert {row["source"] for row in context["budgets"]} == {"one", "two"}
    with pytest.raises(UserError, match=r"settings\.curve"):
        fit_isoflop(told(runs_of(), curve="cubic"))
