import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted_arms import arm_runs, diverge, told
from scipy import stats

from analysis.fits.intervals import CONFIDENCE
from analysis.fits.lr_curve import LrCurve
from analysis.fits.moderation import moderated
from analysis.fits.outcomes import Outcome
from analysis.pipeline import _finite
from analysis.studies.comparison.design import Cell
from analysis.studies.comparison.fit import fit_comparison
from analysis.studies.comparison.tuned import DIVERGED, tune
from scionlab.errors import UserError

HELD, DID_NOT_HOLD, CANNOT_TELL = Outcome.HELD, Outcome.DID_NOT_HOLD, Outcome.CANNOT_TELL
BEST, TIED, WORSE, OPEN = Outcome.BEST, Outcome.TIED, Outcome.WORSE, Outcome.LEFT_OPEN
# Scion is best at 16 and tolerates 64; adam is best at 8 and does not; muon is scion with a hundredth of a nat more.
LEVELS = {
    "scion": {8: 2.00, 16: 1.90, 64: 1.95},
    "adam": {8: 1.95, 16: 2.00, 64: 2.30},
    "muon": {8: 2.01, 16: 1.91, 64: 1.96},
}
ACROSS = {"across": "batch_size"}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    # The end of a 95% interval from 400 scatters by about 5% of the half-width, from 2,000 by 2%.
    monkeypatch.setattr("analysis.studies.comparison.fit.RESAMPLES", 400)


def claim(kind, of=None, than=None, **more):
    return {"kind": kind, **({"of": of} if of else {}), **({"than": than} if than else {}), **more}


def judged(runs, *claims, **settings):
    found = fit_comparison(told(runs, **{**ACROSS, **settings}, claims=list(claims)))
    return found, [each.verdict for each in found.claims]


def cell(found, arm, place):
    return next(c for c in found.cells if (c.arm, c.place) == (arm, place))


# Tuned values


def test_planted_losses_and_rates_are_recovered_without_noise():
    found = fit_comparison(told(arm_runs(LEVELS), **ACROSS))
    for arm, places in LEVELS.items():
        for place, level in places.items():
            got = cell(found, arm, place)
            assert got.value.value == pytest.approx(level, abs=1e-9)
            assert np.log2(got.lr.value) == pytest.approx(-5.3, abs=1e-9)
            assert (got.state, got.n_rates, got.n_seeds, got.n_diverged, np.log2(got.rate)) == ("inside", 7, 2, 0, -5)


def test_arms_are_ranked_at_their_own_best_place_and_at_the_last():
    own, last = fit_comparison(told(arm_runs(LEVELS, noise=0.001), **ACROSS)).rankings
    assert [(rank.arm, rank.place, rank.verdict) for rank in own.ranks] == [
        ("scion", "16", BEST), ("muon", "16", WORSE), ("adam", "8", WORSE),
    ]  # fmt: skip
    assert (own.at, last.at) == ("each at its best batch size", "at batch size 64")
    assert [rank.arm for rank in last.ranks] == ["scion", "muon", "adam"]
    assert last.ranks[2].difference.value == pytest.approx(0.35, abs=0.005)
    assert last.ranks[0].difference is None


def test_one_place_needs_no_axis():
    found = fit_comparison(told(arm_runs({"scion": {0: 1.9}, "adam": {0: 2.0}}, across=None)))
    (ranking,) = found.rankings
    assert [(rank.arm, rank.place) for rank in ranking.ranks] == [("scion", ""), ("adam", "")]
    assert "batch_size" not in found.frame()


def test_one_rate_is_compared_as_it_is():
    runs = arm_runs(LEVELS, rates=[-5], noise=0.001)
    found, verdicts = judged(runs, claim("better", "scion", "adam"))
    means = runs.groupby(["optimizer", "batch_size"])["val_loss"].mean()
    assert {c.state for c in found.cells} == {"one rate"}
    for c in found.cells:
        assert c.value.value == pytest.approx(means[c.arm, c.place])
    assert verdicts == [HELD]


# Claims


CLAIMS = [
    (claim("better", "scion", "adam"), HELD),
    (claim("better", "adam", "scion"), DID_NOT_HOLD),
    (claim("better", "adam", "scion", at=8), HELD),
    (claim("better", "scion", "adam", at=8), DID_NOT_HOLD),
    (claim("flatter", "scion", "adam"), HELD),
    (claim("flatter", "adam", "muon"), DID_NOT_HOLD),
    (claim("no-worse", "muon", "scion", margin=0.02), HELD),
    (claim("no-worse", "muon", "scion", margin=0.005), DID_NOT_HOLD),
    (claim("no-worse", "adam", "scion", at=64), DID_NOT_HOLD),
]


@pytest.mark.parametrize("seeds", [2, 3])
def test_claims_are_judged_by_the_planted_numbers(seeds):
    runs = arm_runs(LEVELS, noise=0.001, offset=0.001, common=0.05, seeds=seeds)
    found, verdicts = judged(runs, *(each for each, _ in CLAIMS))
    assert verdicts == [expected for _, expected in CLAIMS]
    differences = [-0.05, 0.05, -0.05, 0.05, 0.05 - 0.35, 0.35 - 0.05, 0.01, 0.01, 0.35]
    for each, difference in zip(found.claims, differences, strict=True):
        assert each.estimate.value == pytest.approx(difference, abs=0.005)
        assert each.estimate.low <= difference <= each.estimate.high
        assert each.estimate.text("+.3f") in each.text


def test_sentences_name_arms_places_and_numbers():
    found, _ = judged(arm_runs(LEVELS), *(each for each, _ in CLAIMS[:1] + CLAIMS[4:5]))
    better, flatter = found.claims
    assert better.claim == "scion ends better than adam"
    assert better.text == (
        "The validation loss is 1.900 [1.900, 1.900] nats with scion at batch size 16 and 1.950 [1.950, 1.950] nats "
        "with adam at batch size 8: a difference of -0.050 [-0.050, -0.050] nats."
    )
    assert flatter.text == (
        "Change of the validation loss from the best batch size to 64: scion +0.050 [+0.050, +0.050] nats (from 16), "
        "adam +0.350 [+0.350, +0.350] nats (from 8); a difference of -0.300 [-0.300, -0.300] nats."
    )


def test_arms_that_do_the_same_cannot_be_told_apart():
    same = {arm: {8: 2.0, 16: 1.9, 64: 1.95} for arm in ("scion", "adam")}
    claims = [
        claim("better", "scion", "adam"),
        claim("better", "adam", "scion", at=64),
        claim("flatter", "scion", "adam"),
    ]
    apart, unlike = np.zeros(3), 0
    for seed in range(30):
        runs = arm_runs(same, noise=0.01, offset=0.01, seed=seed)
        found, verdicts = judged(runs, *claims)
        apart += [verdict != CANNOT_TELL for verdict in verdicts]
        alone = judged(runs, claims[0])[1]
        unlike += (found.rankings[0].ranks[1].verdict == TIED) != (alone == [CANNOT_TELL])
    assert unlike <= 2  # a ranking of two and a claim of its own differ at the border: one interval is symmetric
    assert apart.max() <= 3  # of 30, where 0.5 is expected of an interval at 1 − 5%/3


def test_one_seed_has_no_interval_and_cannot_tell():
    found, verdicts = judged(arm_runs(LEVELS, seeds=1), *(each for each, _ in CLAIMS))
    assert set(verdicts) == {CANNOT_TELL}
    assert not found.noise_known
    assert all(c.value.low is None and c.lr.low is None for c in found.cells)
    assert all("One seed: there is no measure of seed noise." in each.text for each in found.claims)
    assert all(each.estimate.low is None for each in found.claims)
    assert {rank.verdict for rank in found.rankings[0].ranks[1:]} == {TIED}


def test_several_claims_are_judged_together():
    runs = arm_runs(LEVELS, noise=0.01, offset=0.01, seeds=3)
    one, _ = judged(runs, claim("better", "muon", "adam"))
    four, _ = judged(runs, *[claim("better", "muon", "adam")] * 4)
    ends = [(each.claims[0].estimate.low, each.claims[0].estimate.high) for each in (one, four)]
    assert ends[1][0] < ends[0][0] < ends[0][1] < ends[1][1]
    assert (one.as_dict()["claims_confidence"], four.as_dict()["claims_confidence"]) == (0.95, pytest.approx(0.9875))
    assert one.summaries()[0][0] == "Claims"
    assert four.summaries()[0][0] == "Claims (4 claims are judged together: each interval is at 1 − 5%/4)"
    assert list(four.frames()["comparison_claims"]["confidence"]) == pytest.approx([0.9875] * 4)
    assert [cell.value for cell in four.cells] == [cell.value for cell in one.cells]  # what is not claimed stays


def test_of_claims_that_are_all_false_few_pages_have_one_that_is_decided():
    levels, decided = {f"arm{i}": {8: 1.9} for i in range(6)}, 0
    claims = [claim("better", f"arm{i}", f"arm{i + 1}") for i in range(5)]
    for seed in range(20):
        found = fit_comparison(told(arm_runs(levels, noise=0.01, offset=0.01, seeds=3, seed=seed), claims=claims))
        decided += any(each.verdict != CANNOT_TELL for each in found.claims)
    assert decided <= 4  # of 20; at 5% a page more than 4 come in 3 of 1,000 tries, at 5% a claim 4.5 are expected


def test_what_was_not_run_is_said():
    claims = [
        claim("better", "shampoo", "adam"),
        claim("better", "scion", "adam", at=32),
        claim("flatter", "scion", "sgd"),
    ]
    found, verdicts = judged(arm_runs(LEVELS), *claims)
    assert verdicts == [CANNOT_TELL] * 3
    assert [each.text for each in found.claims] == [
        "There are no runs of shampoo.", "There are no runs of both at batch size 32.", "There are no runs of sgd.",
    ]  # fmt: skip


def test_a_claim_may_have_words_of_its_own():
    found, _ = judged(arm_runs(LEVELS), claim("better", "scion", "adam", text="the constraint pays"))
    assert found.claims[0].claim == "the constraint pays"


# What a grid leaves open


def test_an_arm_whose_every_rate_diverges_is_said_so():
    runs = arm_runs(LEVELS, noise=0.001)
    gone = diverge(runs, (runs["optimizer"] == "adam") & (runs["batch_size"] == 64))
    claims = [
        claim("better", "scion", "adam", at=64),
        claim("flatter", "scion", "adam"),
        claim("better", "scion", "adam"),
    ]
    found, verdicts = judged(gone, *claims)
    got = cell(found, "adam", 64)
    assert (got.state, got.value, got.lr, got.n_diverged) == ("diverged", None, None, 14)
    # Lower rates than those of the grid might train.
    assert verdicts == [CANNOT_TELL, CANNOT_TELL, HELD]
    for each in found.claims[:2]:
        assert "Every learning rate of adam at batch size 64 diverges." in each.text
    assert "diverged with adam at batch size 64: one of them diverges." in found.claims[0].text
    last = found.rankings[1].ranks[-1]
    assert (last.arm, last.value, last.verdict) == ("adam", None, DIVERGED)


def test_at_one_rate_by_design_divergence_is_worse_than_anything():
    runs = arm_runs(LEVELS, rates=[-5])
    gone = diverge(runs, runs["optimizer"] == "adam")
    assert judged(gone, claim("better", "scion", "adam"), claim("better", "adam", "scion"))[1] == [HELD, DID_NOT_HOLD]


def test_a_rate_at_which_most_seeds_diverge_is_never_best():
    runs = arm_runs(LEVELS, noise=0.001, seeds=3)
    gone = diverge(runs, (runs["lr"] == 2**-5) & (runs["seed"] > 0))
    for got in fit_comparison(told(gone, **ACROSS)).cells:
        assert (np.log2(got.rate), got.state, got.n_diverged) == (-6, "beside divergence", 2)
        assert got.lr.low is None
    once = diverge(runs, (runs["lr"] == 2**-5) & (runs["seed"] == 1))
    for got in fit_comparison(told(once, **ACROSS)).cells:
        assert (np.log2(got.rate), got.state, got.n_diverged) == (-5, "inside", 1)


def test_a_best_rate_at_the_grids_edge_can_only_strengthen_a_verdict():
    runs = arm_runs(LEVELS, best={"scion": -5.3, "adam": -5.3, "muon": 0.0}, noise=0.0005)
    claims = [
        claim("better", "scion", "muon"),  # muon may go lower beyond its grid
        claim("better", "muon", "adam", at=64),  # it is lower already
        claim("better", "adam", "muon", at=64),
        claim("no-worse", "muon", "adam", at=64),
        claim("no-worse", "muon", "scion", margin=0.001),  # higher, but may go lower
    ]
    runs.loc[runs["optimizer"] == "muon", "val_loss"] -= 0.05  # 2.21 − 0.05 at its last rate, against 2.30 and 1.95
    found, verdicts = judged(runs, *claims)
    assert verdicts == [CANNOT_TELL, HELD, DID_NOT_HOLD, HELD, CANNOT_TELL]
    assert cell(found, "muon", 64).state == "grid's edge"
    assert (
        "The best learning rate of muon at batch size 16 ends its grid, so there may be better ones."
        in found.claims[0].text
    )
    assert "ends its grid" not in found.claims[1].text
    assert [rank.verdict for rank in found.rankings[1].ranks] == [BEST, OPEN, WORSE]


# Growth


def momenta(slope, places=(0.05, 0.1, 0.2, 0.4, 0.8), noise=0.0005, **more):
    """Three batch sizes whose best momentum goes as the batch size to the `slope`, from 0.1 at batch size 4."""
    parts = []
    for size in (4, 8, 16):
        top = np.log2(0.1 * (size / 4) ** slope)
        levels = {"scion": {place: 2 + 0.02 * (np.log2(place) - top) ** 2 for place in places}}
        parts.append(arm_runs(levels, across="momentum", batch_size=size, noise=noise, seed=size, **more))
    runs = pd.concat(parts, ignore_index=True)
    return runs.assign(trial_id=[f"t{i}" for i in range(len(runs))])


GROWS = {"kind": "grows", "with": "batch_size"}


@pytest.mark.parametrize(("slope", "verdict"), [(0.5, HELD), (-0.0, CANNOT_TELL), (1.0, HELD)])
@pytest.mark.parametrize("of", [None, "8", "scion, batch 4"])
def test_the_growth_of_the_best_place_is_recovered(slope, verdict, of):
    arms = ["optimizer", "batch_size"] if of == "scion, batch 4" else ["batch_size"]
    labels = {"scion, 4": "scion, batch 4"}
    runs = momenta(slope, noise=0.002 if slope == 0 else 0.0005)
    found = fit_comparison(
        told(runs, arms=arms, across="momentum", labels=labels, claims=[GROWS | ({"of": of} if of else {})])
    )
    (growth,) = found.claims
    assert growth.verdict == verdict
    # The parabola through three points of a parabola has its vertex, but for the noise.
    assert growth.estimate.value == pytest.approx(slope, abs=0.1)
    assert growth.estimate.low <= slope <= growth.estimate.high
    assert "octaves per octave of batch size." in growth.text


def test_a_best_place_that_shrinks_fell_and_did_not_grow():
    runs = momenta(-0.5, places=(0.0125, 0.025, 0.05, 0.1, 0.2))
    claims = [GROWS, GROWS | {"kind": "falls"}]
    grown, fallen = fit_comparison(told(runs, arms=["batch_size"], across="momentum", claims=claims)).claims
    assert (grown.verdict, fallen.verdict) == (DID_NOT_HOLD, HELD)
    assert grown.estimate == fallen.estimate
    assert "falls with the batch size" in fallen.claim


def test_a_best_place_at_its_grids_lower_end_leaves_a_fall_standing():
    runs = momenta(-0.5, places=(0.05, 0.1, 0.2))  # of the largest batch, the best lies at the end or beyond
    (fallen,) = fit_comparison(
        told(runs, arms=["batch_size"], across="momentum", claims=[GROWS | {"kind": "falls"}])
    ).claims
    assert fallen.verdict == HELD


def test_a_best_place_at_its_grids_end_leaves_growth_open_only_where_it_matters():
    # The largest batch's best momentum lies beyond the grid: growth is at least what is seen.
    told_ = {"arms": ["batch_size"], "across": "momentum", "claims": [GROWS]}
    (beyond,) = fit_comparison(told(momenta(1.0, places=(0.05, 0.1, 0.2)), **told_)).claims
    assert beyond.verdict == HELD
    # The smallest batch was tried up to 0.1, where it is best: it may have been as large as the others'.
    runs = momenta(0.5)
    (short,) = fit_comparison(told(runs[(runs["batch_size"] > 4) | (runs["momentum"] <= 0.1)], **told_)).claims
    assert short.verdict == CANNOT_TELL
    assert "The best momentum of batch size 4 may lie beyond its grid." in short.text


def test_a_family_of_one_arm_says_nothing():
    runs = momenta(0.5)
    settings = {"arms": ["batch_size"], "across": "momentum"}
    (alone,) = fit_comparison(told(runs[runs["batch_size"] == 4], **settings, claims=[GROWS])).claims
    claims = [GROWS | {"of": ["4", "8"]}, GROWS | {"of": ["4", "32"]}]
    two, lost = fit_comparison(told(runs, **settings, claims=claims)).claims
    assert (two.verdict, lost.verdict) == (HELD, CANNOT_TELL)
    assert (alone.verdict, alone.text) == (CANNOT_TELL, "There are fewer than two values of batch size to compare.")


# Noise


def test_what_a_seed_has_in_common_everywhere_widens_nothing():
    quiet = judged(arm_runs(LEVELS, noise=0.004, seeds=3), *(each for each, _ in CLAIMS))[0]
    runs = arm_runs(LEVELS, noise=0.004, seeds=3)
    moved = judged(runs.assign(val_loss=runs["val_loss"] + 0.5 * runs["seed"]), *(each for each, _ in CLAIMS))[0]
    assert quiet.paired
    for one, other in zip(quiet.claims, moved.claims, strict=True):
        assert other.estimate.low == pytest.approx(one.estimate.low, abs=1e-9)


def test_arms_with_other_seeds_are_not_paired():
    runs = arm_runs(LEVELS, noise=0.004, common=0.02, seeds=3)
    other = runs["optimizer"] == "adam"
    apart, _ = judged(runs.assign(seed=runs["seed"].where(~other, runs["seed"] + 7)), claim("better", "scion", "adam"))
    paired, _ = judged(runs, claim("better", "scion", "adam"))
    width = [c.estimate.high - c.estimate.low for c in (*apart.claims, *paired.claims)]
    assert not apart.paired
    assert width[0] > 2 * width[1]


def one_rate(losses, arm):
    losses = np.asarray(losses, dtype=float)[None]
    curve = LrCurve(0.0, np.array([-5.0]), losses, tuple(range(losses.shape[1])))
    return Cell(arm, 0, curve, curve)


def test_the_difference_of_two_arms_at_one_rate_has_students_paired_interval():
    rng = np.random.default_rng(3)
    losses = 2 + 0.1 * rng.standard_normal((1, 4)) + 0.01 * rng.standard_normal((2, 4))
    cells = [one_rate(row, arm) for arm, row in enumerate(losses)]
    first, second = tune(cells, 200_000, np.random.default_rng(0)).tuned
    difference = (first.cost - second.cost).estimate()
    paired = stats.ttest_rel(*losses).confidence_interval(CONFIDENCE)
    # Quantiles of 200,000 draws of Student's t with three degrees of freedom scatter by about 1% of the half-width.
    half = (paired.high - paired.low) / 2
    assert difference.value == pytest.approx(np.mean(losses[0] - losses[1]))
    assert (difference.low, difference.high) == (
        pytest.approx(paired.low, abs=0.04 * half), pytest.approx(paired.high, abs=0.04 * half),
    )  # fmt: skip


def test_a_loud_arm_does_not_drown_the_others():
    loud, levels = {"scion": 0.002, "muon": 0.002, "adam": 0.04}, {8 * 2**i: 2.0 for i in range(5)}
    parts = [arm_runs({arm: levels}, noise=sd, offset=sd, seed=i) for i, (arm, sd) in enumerate(loud.items())]
    found = fit_comparison(told(pd.concat(parts, ignore_index=True).drop(columns="trial_id"), **ACROSS))
    width = {arm: cell(found, arm, 8).value.high - cell(found, arm, 8).value.low for arm in loud}
    assert width["adam"] > 5 * width["scion"]
    assert width["adam"] > 5 * width["muon"]


def groups(count, freedom, d0, seed=0):
    """Sums of squares of groups whose variances come from a scaled inverse χ² distribution of scale 1."""
    rng = np.random.default_rng(seed)
    variances = d0 / rng.chisquare(d0, count)
    return variances * rng.chisquare(freedom, count), np.full(count, float(freedom))


def test_moderated_variances_find_how_much_the_groups_differ():
    squares, freedoms = groups(2000, 3, d0=5.0)
    variances, freedom = moderated(squares, freedoms)
    # Smyth's estimates from 2000 groups: d₀ to about 10%, s₀² to about 5%.
    assert freedom == pytest.approx(3 + 5.0, rel=0.15)
    assert (variances * freedom - squares) / (freedom - 3) == pytest.approx(1.0, rel=0.1)


def test_groups_that_do_not_differ_are_one():
    rng = np.random.default_rng(1)
    squares, freedoms = rng.chisquare(3, 8), np.full(8, 3.0)
    variances, freedom = moderated(squares, freedoms)
    assert variances == pytest.approx(squares.sum() / 24)
    assert set(freedom) == {24.0}


def test_unusual_groups_have_a_variance_too():
    assert [list(part) for part in moderated(np.zeros(2), np.zeros(2))] == [[0, 0], [0, 0]]
    assert [list(part) for part in moderated(np.zeros(2), np.ones(2))] == [[0, 0], [2, 2]]
    assert [list(part) for part in moderated(np.array([6.0]), np.array([3.0]))] == [[2], [3]]
    squares, freedoms = groups(50, 2, d0=3.0)
    squares[0], (squares[1], freedoms[1]) = 0.0, (0.0, 0.0)  # two that agree to the last digit, one without seeds
    variances, freedom = moderated(squares, freedoms)
    assert np.isfinite(variances).all()
    assert variances.min() > 0
    assert freedom[1] == pytest.approx(freedom[0] - 2)


@pytest.mark.parametrize("seeds", [2, 3])
def test_intervals_of_differences_cover_the_truth(seeds):
    # Simulated tables of three arms at three places, five rates an octave apart, with noise at both levels and a larger
    # one in common; the first arm's valley is a fifth as steep as the others'. The binomial spread of 60 tables at 95%
    # is ±2.8%, three of which are allowed; `benchmarks/coverage_comparison.py` has more of them.
    rng, count, truth, inside = np.random.default_rng(seeds), 200, -0.05, []
    x = np.arange(-2.0, 3.0)
    for _ in range(60):
        common, cells = 0.03 * rng.standard_normal(seeds), []
        for arm in range(3):
            for place in range(3):
                valley = (0.01 if arm == 0 else 0.05) * (x - 0.3 * place) ** 2 - (0.05 if arm == 0 else 0.0)
                noise = common + 0.01 * rng.standard_normal((1, seeds)) + 0.01 * rng.standard_normal((5, seeds))
                curve = LrCurve(place, x, 2 + valley[:, None] + noise, tuple(range(seeds)))
                cells.append(Cell(arm, place, curve, curve))
        tuned = tune(cells, count, rng).tuned
        difference = (tuned[0].cost - tuned[4].cost).estimate()
        inside.append(difference.low <= truth <= difference.high)
    assert np.mean(inside) >= 0.867


def test_the_order_of_the_rows_changes_no_number():
    runs = arm_runs(LEVELS, noise=0.005)
    tables = told(runs, **ACROSS)
    one, other = fit_comparison(tables), fit_comparison(replace(tables, runs=runs.sort_values("val_loss")))
    pd.testing.assert_frame_equal(one.frame(), other.frame())
    assert [rank.arm for rank in one.rankings[0].ranks] == [rank.arm for rank in other.rankings[0].ranks]


def test_an_unfinished_seed_bends_no_curve():
    runs = arm_runs(LEVELS, seeds=3, noise=0.002)
    runs.loc[runs["seed"] == 2, "val_loss"] += 0.3
    partial = runs[(runs["seed"] < 2) | (runs["lr"] > 2**-5)]
    whole = fit_comparison(told(runs[runs["seed"] < 2], **ACROSS))
    # Its rests count, its level does not: values move within the noise of 0.002, not by the seed's 0.3.
    for got, expected in zip(fit_comparison(told(partial, **ACROSS)).cells, whole.cells, strict=True):
        assert got.value.value == pytest.approx(expected.value.value, abs=0.004)
        assert np.log2(got.lr.value) == pytest.approx(np.log2(expected.lr.value), abs=0.1)


@pytest.mark.parametrize(
    ("arms", "seeds", "noise"),
    [(12, 3, [0.01]), (5, 2, [0.01]), (6, 3, [0.03, 0.01, 0.003]), (12, 2, [0.03, 0.01, 0.003])],
)
def test_of_equal_arms_none_is_called_worse(arms, seeds, noise):
    # Comparing each with whichever came first called one of twelve equal arms worse in 65% of such sweeps.
    worse = 0
    for sweep in range(20):
        parts = [
            arm_runs({f"arm{i}": {8: 1.9}}, noise=noise[i % len(noise)], offset=0.01, seeds=seeds, seed=100 * sweep + i)
            for i in range(arms)
        ]
        runs = pd.concat(parts, ignore_index=True)
        runs["trial_id"] = [f"t{i}" for i in range(len(runs))]
        worse += any(rank.verdict == WORSE for rank in fit_comparison(told(runs)).rankings[0].ranks)
    assert worse <= 4  # of 20; at 5% a sweep more than 4 come in 3 of 1,000 tries


def test_an_arm_that_is_worse_by_far_more_than_the_noise_is_found_among_many():
    levels = {f"arm{i}": {8: 1.9 + 0.1 * (i == 7)} for i in range(8)}
    ranks = fit_comparison(told(arm_runs(levels, noise=0.01, offset=0.01, seeds=3))).rankings[0].ranks
    assert {rank.arm for rank in ranks if rank.verdict == WORSE} == {"arm7"}


@pytest.mark.parametrize(("arms", "seeds", "least"), [(5, 2, 8), (5, 3, 16), (8, 3, 16)])
def test_an_arm_that_is_worse_by_five_times_the_noise_is_found_most_often(arms, seeds, least):
    # Of 100 sweeps each: 66, 97 and more. A median in common made one arm of an odd number noiseless with two seeds,
    # and its variance so unlike the others' that one sweep in 100 was left.
    levels, found = {f"arm{i}": {8: 1.9 + 0.05 * (i == arms - 1)} for i in range(arms)}, 0
    for sweep in range(20):
        runs = arm_runs(levels, noise=0.01, offset=0.01, seeds=seeds, seed=sweep)
        ranks = fit_comparison(told(runs)).rankings[0].ranks
        found += {rank.arm: rank.verdict for rank in ranks}[f"arm{arms - 1}"] == WORSE
    assert found >= least


# Arms and places


def specs(runs, fields):
    """The runs with specs: `fields(row)` beside what every spec has."""
    return runs.assign(
        spec=[
            json.dumps({"optimizer": row["optimizer"], "lr": row["lr"], "seed": row["seed"], **fields(row)})
            for row in runs.to_dict("records")
        ]
    )


def test_arms_of_several_keys_are_joined_and_labelled():
    clip = {"a": {}, "b": {"step_rule": "clipped"}, "c": {"step_rule": "lmo"}}
    runs = arm_runs({"a": {8: 2.0}, "b": {8: 1.8}, "c": {8: 1.9}})
    runs = specs(runs, lambda row: {"options": clip[row["optimizer"]], "batch_size": 8})
    runs["optimizer"] = runs["optimizer"].map({"a": "adam", "b": "scion", "c": "scion"})
    arms = {"arms": ["optimizer", "options.step_rule"], "across": "batch_size"}
    found = fit_comparison(told(runs, **arms, claims=[claim("better", "scion, clipped", "adam")]))
    assert [rank.arm for rank in found.rankings[0].ranks] == ["scion, clipped", "scion, lmo", "adam"]
    assert found.claims[0].verdict == HELD
    named = {"labels": {"scion, clipped": "short step", "lmo": "plain", "8": "eight"}}
    found = fit_comparison(
        told(runs, **arms, **named, claims=[claim("better", "short step", "scion, lmo", at="eight")])
    )
    assert [rank.arm for rank in found.rankings[0].ranks] == ["short step", "scion, plain", "adam"]
    assert (found.claims[0].verdict, found.rankings[0].ranks[0].place) == (HELD, "eight")
    with pytest.raises(UserError, match="labels: two arms have the same name"):
        fit_comparison(told(runs, **arms, labels={"scion, clipped": "adam"}))


def test_text_places_keep_the_order_of_the_grid():
    norms = ("sign", "column", "row")
    runs = arm_runs({"scion": dict.fromkeys(norms, 2.0)}, across="norm")
    found = fit_comparison(told(runs, across="norm"))
    assert found.design.places == norms
    assert len(found.rankings) == 1
    with pytest.raises(UserError, match=r"across: 'norm' is not of numbers \(sign, column, row\); a claim 'flatter'"):
        fit_comparison(told(runs, across="norm", claims=[claim("flatter", "scion", "scion")]))


# Other metrics


def test_accuracies_are_made_large():
    runs = arm_runs({"scion": {8: -0.9}, "adam": {8: -0.8}}, noise=0.001)
    runs = runs.assign(val_accuracy=-runs["val_loss"], val_loss=1.0)
    found, verdicts = judged(runs, claim("better", "scion", "adam"), metric="val_accuracy")
    assert verdicts == [HELD]
    best = cell(found, "scion", 8)
    assert best.value.value == pytest.approx(0.9, abs=0.002)
    assert best.value.low <= best.value.value <= best.value.high
    assert found.claims[0].estimate.value == pytest.approx(0.1, abs=0.003)
    assert found.claims[0].text.startswith("The validation accuracy is 0.9")
    assert "nats" not in found.claims[0].text


def test_the_training_loss_is_tuned_on_itself():
    runs = arm_runs(LEVELS)
    runs["train_loss"] = 1 + 0.1 * (np.log2(runs["lr"]) + 4.2) ** 2
    got = cell(fit_comparison(told(runs, **ACROSS, metric="train_loss")), "adam", 64)
    assert (got.value.value, np.log2(got.lr.value)) == (pytest.approx(1), pytest.approx(-4.2))


def test_losses_of_other_orders_of_magnitude_are_told_apart_by_their_ratio():
    """Arms a factor of two apart, at places a thousand times apart, with noise of a twentieth of each loss."""
    levels = {"adam": {8: 0.0, 16: -10.0}, "scion": {8: -1.0, 16: -11.0}}
    runs = arm_runs(levels, noise=0.07, offset=0.0, seeds=4)
    runs["val_loss"] = 2.0 ** runs["val_loss"]
    told = [claim("better", "scion", "adam", at=8), claim("better", "scion", "adam", at=16)]
    found, verdicts = judged(runs, *told, metric="log2_loss", across="batch_size")
    assert set(verdicts) == {HELD}
    for judgement in found.claims:
        assert judgement.estimate.low < -1 < judgement.estimate.high
        assert judgement.text.startswith("The log₂ of the validation loss is -")
        assert judgement.text.endswith(" octaves.")
    with pytest.raises(UserError, match="'log2_loss' is not allowed: a validation loss is -1, not above 0"):
        judged(runs.assign(val_loss=-1.0), *told, metric="log2_loss", across="batch_size")


def test_the_gap_is_read_where_the_validation_loss_is_lowest():
    runs = arm_runs(LEVELS, noise=0.001, seeds=3)
    gap = np.where(runs["optimizer"] == "adam", 0.3, 0.1) + 0.2 * (np.log2(runs["lr"]) + 5)
    runs["train_loss"] = runs["val_loss"] - gap - 0.01 * runs["seed"]
    found, verdicts = judged(runs, claim("better", "scion", "adam"), metric="gap")
    got = cell(found, "adam", 16)
    assert got.value.value == pytest.approx(0.3 + 0.01, abs=1e-9)  # at 2^-5, though lower rates have smaller gaps
    assert np.log2(got.lr.value) == pytest.approx(-5.3, abs=0.05)
    assert verdicts == [HELD]
    assert found.claims[0].text.startswith("The gap between validation and training loss is 0.110")


# Refusals


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"arm": "optimizer"}, "settings.arm: no such field"),
        ({"arms": []}, r"settings.arms: \[\] is not allowed"),
        ({"metric": "loss"}, "settings.metric: 'loss' is not allowed"),
        ({"across": "optimizer"}, "settings.across: 'optimizer' is not allowed: it is one of arms"),
        ({"across": "lr"}, "'lr' is not allowed: it is tuned or averaged over"),
        ({"claims": [claim("best", "a", "b")]}, "settings.claims.0.kind: 'best' is not allowed"),
        ({"claims": [claim("better", ["a", "b"], "c")]}, "of: several arms are not allowed"),
        ({"claims": [claim("better", "a")]}, "than: is missing in a claim of the kind 'better'"),
        ({"claims": [claim("better", "a", "b", at=3)]}, "needs places: name their key in across"),
        ({"claims": [claim("flatter", "a", "b")]}, "needs places: name their key in across"),
        ({**ACROSS, "claims": [claim("flatter", "a", "b", at=3)]}, "at: says nothing in a claim of the kind 'flatter'"),
        ({**ACROSS, "claims": [claim("grows", "a")]}, "with: is missing in a claim of the kind 'grows'"),
        ({**ACROSS, "claims": [claim("grows", **{"with": "depth"})]}, "with 'depth' is not allowed: it must be one of"),
        ({"claims": [claim("no-worse", "a", "b", margin=-1)]}, "settings.claims.0.margin: -1 is not allowed"),
    ],
)
def test_settings_that_make_no_sense_are_one_sentence(settings, expected):
    with pytest.raises(UserError, match=expected):
        fit_comparison(told(arm_runs(LEVELS), **settings))


def test_runs_that_fit_no_design_are_refused():
    runs = arm_runs(LEVELS)
    mixed = runs.assign(momentum=np.where(runs["lr"] > 2**-5, 0.5, 0.1))
    with pytest.raises(UserError, match=r"momentum of 'scion' takes several values \(0.1, 0.5\); name what differs"):
        fit_comparison(told(mixed, **ACROSS))
    with pytest.raises(UserError, match="batch_size of 'scion' takes several values"):
        fit_comparison(told(runs))
    with pytest.raises(UserError, match="several runs of 'scion' share place, lr and seed"):
        fit_comparison(told(pd.concat([runs, runs]), **ACROSS))
    with pytest.raises(UserError, match="across: 'batchsize' is in none of the runs"):
        fit_comparison(told(runs, across="batchsize"))
    with pytest.raises(UserError, match="metric: 'train_loss' is not allowed: not every run has a train_loss"):
        fit_comparison(told(runs.assign(train_loss=np.nan), **ACROSS, metric="train_loss"))
    with pytest.raises(UserError, match="columns val_accuracy are missing; metric 'val_accuracy' needs them"):
        fit_comparison(told(runs, **ACROSS, metric="val_accuracy"))
    with pytest.raises(UserError, match="none of 126 trained to its end"):
        fit_comparison(told(runs.assign(status="diverged"), **ACROSS))
    only = specs(
        runs, lambda row: {"options": {"p": 2} if row["optimizer"] == "scion" else {}, "batch_size": row["batch_size"]}
    )
    with pytest.raises(UserError, match=r"across: 'options.p' is not allowed: runs of adam, muon have no such value"):
        fit_comparison(told(only, arms=["optimizer", "batch_size"], across="options.p"))
    with pytest.raises(UserError, match=r"claims: 'optimizer' is not of numbers above 0 \(scion, adam, muon\)"):
        fit_comparison(told(runs, **ACROSS, claims=[{"kind": "grows", "with": "optimizer"}]))


@pytest.mark.parametrize("field", ["data_sha256", "device", "dtype"])
@pytest.mark.parametrize("known", ["always", "mostly", "without specs"])
def test_two_data_sets_or_machines_are_not_two_seeds(field, known):
    runs = arm_runs(LEVELS, seeds=3).assign(data_sha256="a", device="cpu", dtype="float32")
    if known != "without specs":
        runs = specs(runs, lambda row: {"batch_size": row["batch_size"], "data": f"path:{row['seed']}"})
    fit_comparison(told(runs, **ACROSS))  # one data set by several names
    runs.loc[runs["seed"] == 1, field] = "b"
    if known == "mostly":
        runs.loc[runs["seed"] == 2, field] = None
    with pytest.raises(
        UserError, match=rf"runs: {field} of 'scion' takes several values \((a|cpu|b), (b|cpu|float32)\)"
    ):
        fit_comparison(told(runs, **ACROSS))


def test_data_sets_may_be_what_is_compared():
    runs = arm_runs({"scion": {"text:a": 1.9, "text:b": 2.9}}, across="data")
    runs["data_sha256"] = runs["data"].str[-1]
    (ranking,) = fit_comparison(told(runs, across="data")).rankings
    assert [rank.place for rank in ranking.ranks] == ["text:a"]


# What is written


def test_what_is_written_has_a_row_for_each_of_its_things():
    runs = arm_runs(LEVELS, noise=0.01)
    gone = diverge(runs, (runs["optimizer"] == "adam") & (runs["batch_size"] == 64))
    found, _ = judged(gone, *(each for each, _ in CLAIMS))
    written = json.loads(json.dumps(_finite(found.as_dict()), allow_nan=False))
    frames = found.frames()
    assert len(written["cells"]) == len(frames["comparison"]) == 9
    assert len(written["claims"]) == len(frames["comparison_claims"]) == len(CLAIMS)
    assert len(frames["comparison_ranking"]) == 6
    assert list(frames["comparison"].columns[:6]) == [
        "arm", "optimizer", "batch_size", "val_loss", "val_loss_low", "val_loss_high",
    ]  # fmt: skip
    for _, texts in found.summaries():
        assert texts.map(lambda value: isinstance(value, str)).all(axis=None)
    assert [title for title, _ in found.summaries()] == [
        "Claims (9 claims are judged together: each interval is at 1 − 5%/9)",
        "Arms by validation loss (nats), each at its best batch size",
        "Arms by validation loss (nats), at batch size 64",
    ]  # fmt: skip


def few_and_many_steps(noise, draw):
    """Three equal arms at places that are noisier where there are fewer steps, in the levels of seeds and the rests."""
    parts = [
        arm_runs({arm: {place: 2.0}}, noise=sd, offset=sd, seeds=3, seed=1000 * draw + 97 * i + place)
        for i, arm in enumerate(("adam", "muon", "scion"))
        for place, sd in noise.items()
    ]
    runs = pd.concat(parts, ignore_index=True)
    runs["trial_id"] = [f"t{i}" for i in range(len(runs))]
    claims = [{"kind": "better", "of": "adam", "than": "scion", "at": place} for place in noise]
    return [claim.estimate for claim in fit_comparison(told(runs, claims=claims, across="batch_size")).claims]


def test_runs_of_few_steps_do_not_make_those_of_many_noisy():
    found = [few_and_many_steps({8: 0.3, 16: 0.03, 64: 0.01}, draw) for draw in range(6)]
    widths = np.median([[estimate.high - estimate.low for estimate in claims] for claims in found], axis=0)
    # Thirty times the noise is 30 times the width where much is known; 2 degrees of freedom a level are little, and
    # draw the places towards each other. With one size for all places the widths are all about 1.2 nats.
    assert widths[2] < widths[1] < widths[0] / 4
    # The arms are equal. Of 18 intervals at 98.3% three or more miss with a chance of 0.3%.
    assert sum(not estimate.low < 0 < estimate.high for claims in found for estimate in claims) <= 2
