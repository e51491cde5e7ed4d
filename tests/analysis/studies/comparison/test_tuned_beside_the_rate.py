"""What is tuned beside the learning rate: every arm has the best value at every place."""

import numpy as np
import pandas as pd
import pytest
from planted_arms import arm_runs, told

from analysis.fits.advice import TO_A_FILE, Source, advise
from analysis.fits.outcomes import Missing, Outcome
from analysis.studies.comparison.figures import arms, comparison_curves
from analysis.studies.comparison.fit import fit_comparison
from analysis.studies.comparison.tuned import LAST, _ends
from scionlab.errors import UserError

# Best momentum by arm and place; one that is an octave off costs 0.04 nats.
BEST = {"scion": {8: 0.2, 64: 0.4}, "adam": {8: 0.2, 64: 0.2}}
LEVELS = {"scion": {8: 2.0, 64: 2.0}, "adam": {8: 2.0, 64: 2.1}}
MOMENTA = (0.1, 0.2, 0.4, 0.8)
SETTINGS = {"across": "batch_size", "tuned": ["momentum"]}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr("analysis.studies.comparison.fit.RESAMPLES", 400)


def runs(momenta=MOMENTA, **noise):
    parts = []
    for i, momentum in enumerate(momenta):
        off = {a: {p: 0.04 * np.log2(momentum / best) ** 2 for p, best in of.items()} for a, of in BEST.items()}
        levels = {a: {p: level + off[a][p] for p, level in places.items()} for a, places in LEVELS.items()}
        parts.append(arm_runs(levels, seed=i, **noise).assign(momentum=momentum))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(trial_id=[f"t{i}" for i in range(len(table))])


def test_every_arm_has_its_best_value_at_every_place():
    found = fit_comparison(told(runs(), **SETTINGS))
    assert {(c.arm, c.place): c.choice["momentum"] for c in found.cells} == {
        (arm, place): best for arm, places in BEST.items() for place, best in places.items()
    }
    for cell in found.cells:
        assert cell.value.value == pytest.approx(LEVELS[cell.arm][cell.place], abs=1e-9)
        assert cell.state == "inside"
    frame = found.frame()
    assert list(frame["momentum"]) == [c.choice["momentum"] for c in found.cells]


def test_the_best_of_several_is_not_favoured_by_more_than_its_noise():
    # Equal arms, one of which has four momenta of equal loss to choose from: called worse in no more than its share.
    level = {8: 2.0}
    verdicts = []
    for seed in range(24):
        parts = [
            arm_runs({"scion": level, "adam": level}, noise=0.01, offset=0.01, seeds=3, seed=seed).assign(momentum=0.1)
        ]
        parts += [arm_runs({"scion": level}, noise=0.01, offset=0.01, seeds=3, seed=100 * i + seed).assign(momentum=m)
                  for i, m in enumerate((0.2, 0.4, 0.8), start=1)]  # fmt: skip
        table = pd.concat(parts, ignore_index=True)
        table["trial_id"] = [f"t{i}" for i in range(len(table))]
        ranking = fit_comparison(told(table, **SETTINGS)).rankings[0]
        verdicts.append(any(rank.verdict == Outcome.WORSE for rank in ranking.ranks))
    # The lowest of four looks lower by one standard deviation of a level (0.006 of 0.01/√3), which its resamples do,
    # too: 5% may become 10%, of which 24 draws have more than five in one of a hundred tests.
    assert np.sum(verdicts) <= 5


def test_a_value_at_the_end_of_its_list_leaves_open_what_lies_beyond():
    found = fit_comparison(told(runs(momenta=(0.1, 0.2)), **SETTINGS))
    states = {(c.arm, c.place): c.state for c in found.cells}
    assert set(states.values()) == {"another grid's edge"}
    one = fit_comparison(told(runs(momenta=(0.2,)), **SETTINGS))
    assert {c.state for c in one.cells} == {"inside"}


def test_a_value_beyond_which_there_are_none_leaves_nothing_open():
    momenta = [0.1, 0.3, 1.0]
    assert _ends(1.0, momenta, None)
    assert not _ends(1.0, momenta, LAST["momentum"])
    assert _ends(0.1, momenta, LAST["momentum"])
    assert not _ends(0.3, momenta, None)


def test_it_is_the_momentum_that_is_said_to_end_its_grid_and_no_more_rates_are_asked_for():
    claims = [{"kind": "better", "of": "adam", "than": "scion", "at": 8}]
    found = fit_comparison(told(runs(momenta=(0.1, 0.2), noise=0.001), claims=claims, **SETTINGS))
    (claim,) = found.claims
    assert "The best momentum of adam at batch size 8 and scion at batch size 8 ends its grid" in claim.text
    assert "learning rate" not in claim.text
    missing = {kind for judgement in found.judgements() for kind in judgement.missing}
    assert missing - {Missing.SEEDS} == {Missing.VALUES_BEYOND}
    advice = advise(found.judgements(), Source("run", ("batch-tolerance",), "batch-tolerance", "laptop"))
    assert not any("rates" in command for command in advice.commands)
    assert advice.note == TO_A_FILE


def test_figures_draw_the_chosen_values():
    tables = told(runs(), **SETTINGS)
    fit = fit_comparison(tables)
    drawn = arms.placed(tables, fit)
    for (arm, place), rows in drawn.groupby(["arm", "place"]):
        name, at = fit.design.arms[arm].name, fit.design.places[place]
        assert set(rows["momentum"]) == {BEST[name][at]}
    assert comparison_curves.table(tables, fit).empty  # there are no curves


def test_without_being_told_several_values_are_refused():
    with pytest.raises(UserError, match="momentum of 'scion' takes several values"):
        fit_comparison(told(runs(), across="batch_size"))
    with pytest.raises(UserError, match="tuned: 'batch_size' is not allowed: it is among arms or across"):
        fit_comparison(told(runs(), across="batch_size", tuned=["batch_size"]))
    with pytest.raises(UserError, match="'seed' is not allowed"):
        fit_comparison(told(runs(), across="batch_size", tuned=["momentum", "seed"]))
