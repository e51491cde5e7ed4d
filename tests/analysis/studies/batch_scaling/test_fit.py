import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import Law, planted_runs

from analysis.fits.cells import table_of_cells
from analysis.laws.evidence import read_evidence
from analysis.pipeline import _finite
from analysis.studies.batch_scaling import fit as batch_fit
from analysis.studies.batch_scaling import momentum, surface
from analysis.studies.batch_scaling.exponents import RULES
from analysis.studies.batch_scaling.findings import findings
from analysis.studies.batch_scaling.fit import fit_batch_scaling
from scionlab.errors import UserError

BEST, LARGEST, CORNER = (
    "batch size, best batch",
    "batch size, largest without loss",
    "batch size, corner of the surface",
)
ALPHAS = (0.025, 0.05, 0.1, 0.2, 0.4)


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    """Numbers that matter for an interval's last digit only; a fit then takes a tenth of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_fit, "RESAMPLES", 200)
        patch.setattr(momentum, "RESAMPLES", 400)
        patch.setattr(surface, "RESAMPLES", 40)
        patch.setattr(surface, "STARTS", 8)
        yield


def fit(runs, surfaces=0, critical=False, **given):
    """The fit; without what takes nearly all of the time, unless a test is about it.

    Of surfaces it has the last so many: 1 is the one that corner and floor are read off, 4 are all.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_fit, "SURFACES", batch_fit.SURFACES[len(batch_fit.SURFACES) - surfaces :])
        if not critical:
            patch.setattr(batch_fit, "_critical", lambda *_: None)
        return fit_batch_scaling(runs, **given)


def fit_one(runs, surfaces=0, **given):
    (found,) = fit(runs, surfaces, **given).optimizers
    return found


def small(law=None, **planted):
    """Two budgets, four batches, three rates, two seeds: 48 runs."""
    return planted_runs(law or Law(), **{"budgets": (16, 18), "batches": 4, "half": 1, **planted})


def contains(estimate, truth):
    return estimate.low <= truth <= estimate.high


@pytest.fixture(scope="module")
def planted():
    """Laws by name, and the whole fit of one noisy table of each."""
    laws = {
        "maximum": Law(sharpness=None),
        "smooth": Law(),
        "smoother": Law(sharpness=1.0),
        "slow": Law(q=0.45),
    }
    return {name: (law, fit_one(planted_runs(law, seed=1), surfaces=1)) for name, law in laws.items()}


# Planted laws


@pytest.mark.parametrize("name", ["maximum", "smooth", "smoother"])
def test_the_corner_and_the_rate_along_it_are_recovered_and_the_rule_is_inside(planted, name):
    _, found = planted[name]
    for exponent in (found.exponent(CORNER), found.exponent("learning rate, corner of the surface")):
        assert contains(exponent.estimate, exponent.rule), exponent
        assert exponent.verdict == "inside"


def test_a_law_that_grows_more_slowly_puts_the_rule_outside(planted):
    law, found = planted["slow"]
    corner = found.exponent(CORNER)
    assert contains(corner.estimate, law.q)
    assert corner.verdict == "outside"
    assert found.exponent(BEST).verdict == found.exponent(LARGEST).verdict == "outside"
    assert found.exponent(BEST).contains == (0.383,) or found.exponent(BEST).contains == ()
    along = found.exponent("learning rate, corner of the surface")
    assert contains(along.estimate, law.q - 1)
    assert along.verdict == "outside"


@pytest.mark.parametrize("name", ["maximum", "smooth", "smoother", "slow"])
def test_the_plane_of_best_rates_is_recovered(planted, name):
    _, found = planted[name]
    batch, budget = found.exponent("learning rate against batch size"), found.exponent("learning rate against budget")
    assert contains(batch.estimate, 1)
    assert contains(budget.estimate, -1)
    assert (batch.verdict, budget.verdict) == ("inside", "inside")


@pytest.mark.parametrize("q", [2 / 3, 0.45])
def test_the_lowest_loss_of_a_smooth_law_moves_with_six_sevenths_of_its_corner(q):
    exact = fit_one(planted_runs(Law(q=q), noise=0, offset=0, seeds=1, budgets=(16, 18, 20, 22, 24), batches=8))
    # Octaves of batch size: the parabola over five of them leans by up to 0.1 octaves, over eight octaves of budget.
    assert exact.exponent(BEST).estimate.value == pytest.approx(6 / 7 * q, abs=0.02)
    assert exact.exponent("learning rate, best batch").estimate.value == pytest.approx(6 / 7 * q - 1, abs=0.02)


@pytest.mark.parametrize("name", ["maximum", "smooth", "smoother"])
def test_the_lowest_loss_is_held_against_what_the_rule_implies_for_it(planted, name):
    # It moves as T^(4/7) where the corner moves as T^(2/3): held against 2/3, tables that obey the rule lay outside.
    _, found = planted[name]
    best = found.exponent(BEST)
    assert best.implied == (4 / 7, 2 / 3)
    assert best.verdict != "outside"
    assert found.exponent("learning rate, best batch").implied == pytest.approx((-3 / 7, -1 / 3))
    assert found.exponent(CORNER).implied == (2 / 3, 2 / 3)


@pytest.mark.parametrize("budgets", [(16, 17, 18, 19), (16, 18, 20, 22)], ids=["x8", "x64"])
@pytest.mark.parametrize("sharpness", [1.0, 2.0])
@pytest.mark.parametrize(("q", "wrong"), [(0.5, "inside"), (2 / 3, "outside")])
def test_no_reading_of_realistic_tables_gives_a_wrong_verdict(q, wrong, sharpness, budgets):
    law = Law(q=q, sharpness=sharpness, log2_lr=-7.3)
    tables = {"noise": 0.003, "offset": 0.002, "seeds": 3, "batches": 8, "centre": 6.0 if sharpness == 1 else 7.0}
    for draw in range(2):
        found = fit_one(planted_runs(law, draw, budgets=budgets, **tables), surfaces=1)
        readings = [e for e in found.exponents if not e.kind.startswith("plane")]
        assert len(readings) == 6
        assert wrong not in {e.verdict for e in readings}, [e for e in readings if e.verdict == wrong]
        assert {found.exponent(BEST).verdict, wrong} == {"inside", "outside"}
        # Between what the lowest loss and what the corner move as, to what octaves of batch size leave open.
        assert 6 / 7 * q - 0.03 < found.exponent(LARGEST).estimate.value < q + 0.03


def test_the_noise_of_the_table_is_reported(planted):
    _, found = planted["smooth"]
    assert found.noise_source == "seeds"
    assert found.noise == pytest.approx(0.005 * np.sqrt(2), rel=0.2)  # 20 degrees of freedom for offsets, 96 for rests
    assert found.n_seeds == 2


@pytest.mark.parametrize("name", ["maximum", "smooth", "slow"])
def test_the_rates_of_all_cells_are_the_laws(planted, name):
    law, found = planted[name]
    inside = [contains(cell.lr, law.best_lr(cell.tokens, cell.batch_tokens)) for cell in found.cells]
    assert all(cell.resolved for cell in found.cells)
    assert np.mean(inside) > 0.8  # 24 nominal 95% intervals: 80% is three binomial errors below


# What a fit does not depend on


def test_the_same_seed_gives_the_same_fit_and_another_only_other_intervals():
    runs = small()
    assert fit(runs, surfaces=4) == fit(runs, surfaces=4)
    one, other = fit_one(runs), fit_one(runs, seed=1)
    assert [e.estimate.value for e in one.exponents if e.estimate] == [
        e.estimate.value for e in other.exponents if e.estimate
    ]
    assert one != other


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_the_order_of_the_rows_does_not_matter(order):
    runs = pd.concat([small(), small().assign(momentum=0.2)])
    assert fit(runs.sample(frac=1, random_state=order)) == fit(runs)


@pytest.mark.parametrize(("tokens", "batch", "lr"), [(4, 1, 1), (1, 8, 1), (1, 1, 2**-5), (1024, 64, 0.5)])
def test_other_units_of_tokens_batch_and_rate_move_optima_but_no_exponent(tokens, batch, lr):
    runs = small()
    scaled = runs.assign(tokens=runs["tokens"] * tokens, batch_size=runs["batch_size"] * batch, lr=runs["lr"] * lr)
    one, other = fit_one(runs), fit_one(scaled)
    for before, after in zip(one.budgets, other.budgets, strict=True):
        # Rounding of logarithms, through parabolas.
        assert after.batch.value == pytest.approx(before.batch.value * batch, rel=1e-9)
        assert after.largest.value == pytest.approx(before.largest.value * batch, rel=1e-9)
        assert after.lr.value == pytest.approx(before.lr.value * lr, rel=1e-9)
    for before, after in zip(one.exponents, other.exponents, strict=True):
        assert after.estimate.value == pytest.approx(before.estimate.value, abs=1e-9)
        assert (after.estimate.low, after.verdict) == (pytest.approx(before.estimate.low, abs=1e-9), before.verdict)


def test_losses_in_bits_have_the_exponents_and_verdicts_of_losses_in_nats():
    runs = planted_runs(Law())
    one, other = (fit_one(runs.assign(val_loss=runs["val_loss"] * unit), surfaces=1) for unit in (1, 1 / np.log(2)))
    for name in (BEST, LARGEST):
        before, after = one.exponent(name), other.exponent(name)
        # The surface's floor depends on Huber's loss, which turns at 0.01 nats.
        assert after.estimate.value == pytest.approx(before.estimate.value, abs=2e-3)
        assert (after.verdict, after.contains) == (before.verdict, before.contains)
    bits = [b.tolerance * np.log(2) for b in other.budgets]
    assert bits == pytest.approx([b.tolerance for b in one.budgets], rel=0.01)


def test_without_a_floor_the_largest_batch_gets_no_verdict():
    found = fit_one(planted_runs(Law()))
    assert (found.exponent(LARGEST).verdict, found.surfaces) == ("cannot tell", ())
    assert "no floor of the loss" in found.exponent(LARGEST).note


@pytest.mark.parametrize("rates", [[-7.0], [-8.0, -7.0]])
def test_a_sweep_whose_rates_end_at_the_best_one_has_no_best_batch(rates):
    runs = planted_runs(Law(), seeds=3)
    found = fit_one(runs[np.isin(np.log2(runs["lr"]), rates)], surfaces=1)
    for name in (BEST, LARGEST):
        exponent = found.exponent(name)
        assert (exponent.estimate, exponent.verdict) == (None, "cannot tell")
        assert "at a grid's edge" in exponent.note
    assert {e.verdict for e in found.exponents} <= {"cannot tell"}
    assert found.plan.at_edge


def test_an_interval_that_contains_rivals_the_rule_does_not_imply_says_nothing_for_it():
    found = [fit_one(planted_runs(Law(), noise=noise, seeds=3)).exponent(BEST) for noise in (0.002, 0.03)]
    assert [e.verdict for e in found] == ["inside", "cannot tell"]
    assert set(found[1].contains) & {0.45, 0.383}
    assert not set(found[0].contains) & {0.45, 0.383}


def test_a_constant_added_to_every_loss_moves_no_optimum_and_no_regret():
    runs = small()
    one, other = fit_one(runs), fit_one(runs.assign(val_loss=runs["val_loss"] + 1))
    for before, after in zip(one.exponents, other.exponents, strict=True):
        assert after.estimate.value == pytest.approx(before.estimate.value, abs=1e-9)
    for before, after in zip(one.forward.scores, other.forward.scores, strict=True):
        assert (after.rule, after.regret.value) == (before.rule, pytest.approx(before.regret.value, abs=1e-9))


# One experiment at a time


def test_optimizers_and_network_sizes_are_fitted_apart():
    runs = pd.concat(
        [
            small(),
            small(seed=1).assign(optimizer="adam", n_params=100),
            small(seed=2).assign(optimizer="adam", n_params=2000),
        ]
    )
    found = fit(runs).optimizers
    assert [of.optimizer for of in found] == ["adam, 100 parameters", "adam, 2,000 parameters", "planted"]
    assert found[2].budgets == fit_one(small()).budgets
    assert found[1].budgets == fit_one(small(seed=2)).budgets


def test_runs_that_share_a_cell_are_refused():
    with pytest.raises(UserError, match="several runs of 'planted' have budget 65536, batch_size"):
        fit(pd.concat([small(), small().iloc[:1]]))


@pytest.mark.parametrize("column", ["data_sha256", "width", "schedule"])
def test_runs_of_several_experiments_are_refused(column):
    runs = small()
    mixed = runs.assign(**{column: np.where(runs["tokens"] == 2**16, "a", "b")})
    with pytest.raises(UserError, match=rf"{column} of 'planted' takes several values \(a, b\)"):
        fit(mixed)
    assert fit(runs.assign(**{column: "a"})) == fit(runs)


def test_the_specs_of_the_trials_are_compared_where_they_are_known():
    runs = small()
    specs = [
        {"lr": lr, "tokens": tokens, "options": {"radius": 1}}
        for lr, tokens in zip(runs["lr"], runs["tokens"], strict=True)
    ]
    fit(runs.assign(spec=[json.dumps(spec) for spec in specs]))
    specs[3]["options"] = {"radius": 10}
    with pytest.raises(UserError, match="options of 'planted' takes several values"):
        fit(runs.assign(spec=[json.dumps(spec) for spec in specs]))


def test_an_optimizer_that_never_trained_is_reported_beside_one_that_did(tmp_path):
    runs = small().assign(n_params=1000)
    dead = runs.assign(optimizer="dead", status="diverged", val_loss=np.nan)
    found = fit(pd.concat([runs, dead]))
    assert found.optimizers[0].optimizer == "dead"
    assert (found.optimizers[0].cells, found.optimizers[0].plan) == ((), None)
    assert found.optimizers[1] == fit_one(runs)
    assert {law.optimizer for law in found.laws} == {"planted"}
    assert set(found.frames()["batch_scaling_cells"]["optimizer"]) == {"planted"}
    with pytest.raises(UserError, match="none of its settings trained"):
        read_evidence(written(found, tmp_path), "dead")


# Edges, divergence, missing noise


def test_a_best_batch_at_the_edge_is_flagged_left_out_and_no_base():
    runs = planted_runs(Law())
    cut = fit_one(runs[(runs["tokens"] < 2**19) | (runs["batch_size"] * 32 <= 64)])
    assert [budget.batch_at_edge for budget in cut.budgets] == [False, False, False, True]
    assert cut.budgets[3].batch.low is None
    best = cut.exponent(BEST)
    assert best.n_points == 3
    assert "without 524,288 tokens" in best.note
    without = fit_one(runs[runs["tokens"] < 2**19]).exponent(BEST)
    # The curves of all budgets share a shape, so that one budget more moves the others' optima by a hundredth of their
    # noise, and the exponent by less than 0.001.
    assert best.estimate.value == pytest.approx(without.estimate.value, abs=1e-3)
    assert (cut.plan.base["tokens"], cut.plan.at_edge) == (2**18, False)
    assert cut.plan.tokens_max == 2**19


def test_the_first_line_of_the_sensitivity_is_what_is_reported():
    runs = planted_runs(Law())
    for table in (runs, runs[(runs["tokens"] < 2**19) | (runs["batch_size"] * 32 <= 64)]):
        found = fit_one(table)
        first = found.sensitivity[0]
        assert first.choice == "as reported"
        assert first.batch == found.exponent(BEST).estimate
        assert first.lr == found.exponent("learning rate, best batch").estimate
        same = next(line for line in found.sensitivity if line.choice == "largest batch within 0.03 of what is left")
        assert same.batch == found.exponent(LARGEST).estimate


def test_rates_beside_divergence_are_flagged_and_have_no_exponent():
    law, runs = Law(), planted_runs(Law())
    best = np.log2(law.best_lr(runs["tokens"], runs["batch_size"] * 32))
    runs.loc[np.log2(runs["lr"]) > best + 0.6, ["status", "val_loss"]] = ["diverged", np.nan]
    found = fit_one(runs)
    assert not any(cell.resolved for cell in found.cells)
    assert all(cell.lr.low is None for cell in found.cells)
    assert {cell.n_diverged for cell in found.cells} == {4}  # two rates, two seeds
    along = found.exponent("learning rate, best batch")
    assert (along.estimate, along.verdict) == (None, "cannot tell")
    assert "beside a divergence" in along.note
    assert (found.plan.resolved, found.plan.power_law) == (False, None)
    assert [e.name for e in found.exponents if e.kind.startswith("plane")] == []


@pytest.mark.parametrize("seeds", [2, 3])
def test_an_interval_that_a_grid_cuts_off_says_nothing(seeds):
    # The lowest cell is next to the last; the last is higher by less than the noise.
    runs = planted_runs(Law(sharpness=None, corner1=6, corner2=9), noise=0.01, offset=0.01, seeds=seeds)
    found = fit_one(runs)
    cut = [e for e in found.exponents if "an interval ends where the grid does" in e.note]
    assert found.exponent(BEST) in cut or found.exponent(BEST).estimate is None
    assert {e.verdict for e in cut} <= {"cannot tell"}


def test_one_seed_reads_the_noise_off_the_curves_and_is_careful():
    one, two = fit_one(planted_runs(Law(), seeds=1)), fit_one(planted_runs(Law(), seeds=2))
    assert (one.noise_source, two.noise_source) == ("roughness", "seeds")
    widths = [e.exponent(LARGEST).estimate for e in (one, two)]
    assert widths[0].high - widths[0].low > widths[1].high - widths[1].low


def test_without_a_measure_of_noise_there_are_no_intervals_and_no_verdicts():
    found = fit_one(planted_runs(Law(), seeds=1, batches=3, half=1, budgets=(16, 19)))
    assert (found.noise_source, found.noise) == ("none", 0.0)
    assert {e.verdict for e in found.exponents} == {"cannot tell"}
    assert all(e.estimate is None or e.estimate.low is None for e in found.exponents)
    assert {cell.tied for cell in found.cells} == {None}
    assert found.forward.winner is None


def test_one_budget_one_cell_and_one_run_are_fits_with_nothing_to_say():
    runs = planted_runs(Law(), budgets=(16,))
    for table in (runs, runs[runs["batch_size"] == 4], runs.iloc[:1]):
        found = fit_one(table, surfaces=4)
        assert all(e.estimate is None for e in found.exponents)
        assert (found.forward, found.surfaces) == (None, ())
        assert found.plan.power_law is None
        json.dumps(_finite(fit(table).as_dict()), allow_nan=False)


def test_with_too_few_cells_for_the_free_corner_none_is_reported():
    runs = small(batches=3)  # six cells: enough for the maximum with the theory's exponent, which is no estimate
    found = fit_one(runs, surfaces=4)
    assert [(s.form, s.free_exponent) for s in found.surfaces] == [("max", False)]
    assert CORNER not in [e.name for e in found.exponents]


# Momentum


def fit_momenta_of(runs):
    """The momenta alone."""
    return momentum.fit_momenta(table_of_cells(runs), np.random.default_rng(0))


def with_momenta(best_alpha, bend=0.05, noise=0.003, draw=0, **planted):
    """Runs at several α, whose loss rises with the square of octaves from `best_alpha`(tokens)."""
    parts = []
    for i, alpha in enumerate(ALPHAS):
        runs = small(seed=100 * draw + i, noise=noise, offset=noise, **planted)
        off = np.log2(alpha / runs["tokens"].map(best_alpha))
        parts.append(runs.assign(momentum=alpha, val_loss=runs["val_loss"] + bend * off**2))
    return pd.concat(parts)


@pytest.mark.parametrize("best", [0.1, 0.07])
def test_a_planted_momentum_is_found_and_one_alone_stays(best):
    found = fit_one(with_momenta(lambda tokens: best, half=2)).momenta
    assert len(found.optima) == 8
    inside = [contains(o.best, best) for o in found.optima]
    assert sum(inside) >= 6  # of 8 nominal 95% intervals: three miss with a chance of 0.6%
    assert all(not o.at_edge and o.momenta == ALPHAS for o in found.optima)
    # At 0.07 two momenta are equally far: neither is best alone.
    assert found.verdict == ("stays put" if best == 0.1 else "cannot tell")


def test_a_momentum_that_moves_with_the_budget_is_said_to_move():
    found = fit_one(with_momenta(lambda tokens: 0.05 if tokens == 2**16 else 0.2)).momenta
    assert found.verdict == "moves"
    assert {round(np.log2(o.best.value / 0.1)) for o in found.optima} == {-1, 1}


def test_a_momentum_that_hardly_matters_or_is_tried_once_allows_no_verdict():
    # Eight cells, each of which loses any one of five equal momenta by chance: that is no move. An error of 5% gives
    # one false "moves" in ten with a chance of 32%, and two or more with 9%.
    equal = [with_momenta(lambda tokens: 0.1, bend=0, noise=0.02, draw=draw) for draw in range(10)]
    verdicts = [fit_momenta_of(runs).verdict for runs in equal]
    assert verdicts.count("moves") <= 1
    assert "stays put" not in verdicts
    one_cell = with_momenta(lambda tokens: 0.1)
    one_cell = one_cell[(one_cell["momentum"] == 0.1) | (one_cell["batch_size"] == 4) & (one_cell["tokens"] == 2**16)]
    found = fit_one(one_cell)
    assert len(found.momenta.optima) == 1
    assert found.momenta.verdict == "cannot tell"
    assert found.momentum == 0.1
    assert fit_one(small()).momenta is None


def test_a_best_momentum_at_its_grids_edge_is_flagged():
    found = fit_one(with_momenta(lambda tokens: 0.9)).momenta
    assert all(o.at_edge and o.best.value == ALPHAS[-1] for o in found.optima)


def test_the_slopes_of_a_planted_theory_are_found():
    # The best rate goes with α·T^(-1/4), as stationarity has it; and the best α with B·T^(-1/2).
    parts = []
    for alpha in 0.1 * 2.0 ** np.arange(-4, 5):
        runs = planted_runs(Law(), budgets=(16, 20), batches=2, half=2, noise=0.001, offset=0.001)
        t, b = np.log2(runs["tokens"]) - 16, np.log2(runs["batch_size"] * 32) - 7
        best = np.log2(0.1) + b - t / 2
        away = np.log2(alpha) - best
        # The grid's best rate is γ ∝ B/T; moved to γ ∝ α·T^(-1/4).
        move = np.log2(alpha / 0.1) - t / 4 - (b - t)
        loss = runs["val_loss"] + 0.05 * away**2
        parts.append(runs.assign(momentum=alpha, lr=runs["lr"] * 2**move, val_loss=loss))
    momenta = fit_momenta_of(pd.concat(parts)[lambda runs: runs["momentum"] <= 1])
    slopes = momenta.slopes
    assert (slopes.rate.value, slopes.momentum.value) == pytest.approx((-1 / 4, -1 / 2), abs=0.01)
    assert (slopes.outcome, slopes.theory) == ("inside", "stationarity")
    assert [o.lr_resolved for o in momenta.optima] == [True] * len(momenta.optima)


def test_the_fit_is_that_of_the_usual_momentum():
    runs = small()
    other = small(seed=5).assign(momentum=0.3)
    mixed = pd.concat([runs, other[other["tokens"] == 2**16]])
    assert fit_one(mixed).budgets == fit_one(runs).budgets


# What is written


def written(found, folder):
    """Results folder with the fit's JSON, as the pipeline writes it."""
    (folder / "fits" / "batch").mkdir(parents=True)
    (folder / "fits" / "batch" / "batch_scaling.json").write_text(json.dumps(_finite(found.as_dict()), allow_nan=False))
    return folder


def test_a_plan_reads_back_what_was_fitted(tmp_path):
    found = fit(planted_runs(Law()), surfaces=1)
    (scaling,) = found.optimizers
    evidence = read_evidence(written(found, tmp_path), None)
    last = scaling.budgets[-1]
    assert evidence.base.tokens == 2**19
    assert evidence.base.batch_tokens == pytest.approx(last.batch.value)
    assert (evidence.base.lr, evidence.base.momentum) == (pytest.approx(last.lr.value), 0.1)
    assert (evidence.resolved, evidence.at_edge, evidence.tokens) == (True, False, (2**16, 2**19))
    law, exponent = evidence.power_law, scaling.exponent(BEST).estimate
    assert law.batch_exponent == pytest.approx(exponent.value)
    assert law.lr_exponent == pytest.approx(scaling.exponent("learning rate, best batch").estimate.value)
    # Least squares through four optima: the mean of its logarithms is theirs.
    fitted = [
        np.log2([law.batch_tokens(evidence.base, b.tokens), law.learning_rate(evidence.base, b.tokens, 0)])
        for b in scaling.budgets
    ]
    assert np.mean(fitted, axis=0) == pytest.approx(
        np.mean([np.log2([b.batch.value, b.lr.value]) for b in scaling.budgets], axis=0)
    )
    drawn = evidence.resampled
    assert len(drawn.batch_exponent) == 200
    assert np.quantile(drawn.batch_exponent, 0.5) == pytest.approx(exponent.value, abs=exponent.high - exponent.low)
    assert np.median(drawn.at_batch_tokens) == pytest.approx(law.at_batch_tokens, rel=0.1)
    assert np.median(drawn.at_lr) == pytest.approx(law.at_lr, rel=0.1)


def test_a_table_without_momentum_has_none_in_its_plan(tmp_path):
    found = fit(small().drop(columns="momentum"))
    assert read_evidence(written(found, tmp_path), "planted").base.momentum is None


def test_every_table_has_a_row_for_each_of_its_things():
    runs = with_momenta(lambda tokens: 0.1).assign(n_params=1000)
    found = fit(runs, surfaces=4, critical=True)
    (scaling,) = found.optimizers
    counts = {name.removeprefix("batch_scaling_"): len(frame) for name, frame in found.frames().items()}
    n_scores = sum(len(contest.scores) for contest in scaling.contests)
    assert counts == {
        "cells": 8,
        "budgets": 2,
        "exponents": len(scaling.exponents),
        "surfaces": len(scaling.surfaces),
        "sensitivity": len(scaling.sensitivity),
        "momentum": 8,
        "momentum_slopes": 1,
        "critical": len(scaling.critical.frame()),
        "laws": sum(len(law.law.frame()) for law in found.laws),
        "rules": n_scores,
        "sizes": 0,  # one size is held out from none
    }
    for frame in found.frames().values():
        assert frame.empty or set(frame["optimizer"]) == {"planted"}
    rules = found.frames()["batch_scaling_rules"]
    assert list(rules["held_out_tokens"]) == [c.tokens for c in scaling.contests for _ in c.scores]
    exponents = found.frames()["batch_scaling_exponents"]
    assert {"estimate", "estimate_low", "estimate_high", "verdict"} <= set(exponents)
    assert set(exponents["rule"]) == set(RULES.values())


def test_one_budget_answers_with_its_best_setting_and_what_is_tied_with_it():
    runs = planted_runs(Law(log2_lr=-7.5), budgets=(16,), half=3)  # the best rate lies between two of the grid
    found = fit(runs)
    ((title, frame),) = found.summaries()
    assert title == "planted: best settings"
    (row,) = frame.to_dict("records")
    (budget,) = found.optimizers[0].budgets
    assert row["best batch"].startswith(f"{budget.batch.value / 32:.4g} [")
    assert float(row["in tokens"]) == pytest.approx(budget.batch.value, abs=0.5)
    low, high = budget.tied_lrs
    assert high == 2 * low
    lowest = min(found.optimizers[0].cells, key=lambda cell: cell.loss.value)
    assert low < lowest.lr.value < high
    assert row["tied lrs"] == f"{low:.3g}, {high:.3g}"
    (finding,) = findings(found.optimizers[0])
    assert finding["verdict"] == "found"
    assert row["best batch"] in finding["text"]
    assert row["best lr"] in finding["text"]


def test_summaries_are_tables_of_text():
    found = fit(planted_runs(Law()))
    titles = [title for title, _ in found.summaries()]
    assert titles[:2] == ["planted: best settings", "planted: exponents"]
    assert "rules at 524,288 tokens" in titles[2]
    for _, frame in found.summaries():
        assert frame.map(lambda cell: isinstance(cell, str)).all(axis=None)


def test_rates_and_momenta_equal_but_for_rounding_are_one():
    runs = planted_runs(Law(), budgets=(16, 17), batches=3, half=1)
    rounded = runs.assign(lr=np.where(runs["seed"] == 1, np.float32(runs["lr"] * 1.0003), runs["lr"]))
    rounded.loc[::2, "momentum"] = 1 - 0.9
    found = fit_one(rounded)
    assert found.momentum == pytest.approx(0.1)
    assert [(c.n_seeds, c.lr.value) for c in found.cells] == [
        (2, pytest.approx(c.lr.value, rel=1e-3)) for c in fit_one(runs).cells
    ]


@pytest.mark.parametrize(("apart", "seed"), [(3e-8, 1), (1e-3, 0), (0.03, 0), (0.03, 1)])
def test_one_more_rate_beside_another_is_no_crash_and_no_other_law(apart, seed):
    """A single third difference is all that is known of the noise."""
    runs = planted_runs(Law(), budgets=(16, 18), batches=3, half=1, seeds=1)
    more = runs.iloc[[4]].assign(
        lr=runs["lr"].iloc[4] * (1 + apart), seed=seed, val_loss=runs["val_loss"].iloc[4] + 0.004
    )
    found, expected = fit_one(pd.concat([runs, more], ignore_index=True), surfaces=1), fit_one(runs, surfaces=1)
    assert [c.loss.value for c in found.cells] == pytest.approx([c.loss.value for c in expected.cells], abs=0.01)
