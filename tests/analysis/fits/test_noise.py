import numpy as np
import pytest
from planted import Law, planted_runs

from analysis.fits.cells import budgets_of, table_of_cells
from analysis.fits.lr_curve import LrCurve
from analysis.fits.noise import measure_noise, near
from analysis.fits.profile import read_budgets
from analysis.fits.reading import read_levels
from analysis.fits.valley import value_at

X = np.arange(-8.0, -1.0)


def read(runs, count=200, seed=0):
    return read_budgets(budgets_of(table_of_cells(runs)), count, np.random.default_rng(seed))


def noise_of(runs):
    budgets = budgets_of(table_of_cells(runs))
    cells = [(cell.curve, i) for i, budget in enumerate(budgets) for cell in budget.cells]
    curves, blocks = zip(*cells, strict=True)
    return measure_noise(curves, blocks, roughness=True)


def curve_of(rng, rest, level=0.0, seeds=3, common=0.0, best=-5.0):
    """A parabola over seven rates, with a seed's level and rests."""
    moves = common + level * rng.standard_normal(seeds)
    losses = 2 + 0.05 * (X - best)[:, None] ** 2 + moves + rest * rng.standard_normal((len(X), seeds))
    return LrCurve(best, X, losses, tuple(range(seeds)))


@pytest.mark.parametrize(("rest", "offset"), [(0.01, 0.01), (0.01, 0.0), (0.0, 0.01)])
@pytest.mark.parametrize("seeds", [2, 3])
def test_planted_noise_is_taken_apart_without_bias(rest, offset, seeds):
    found = [noise_of(planted_runs(Law(), draw, rest, offset, seeds)) for draw in range(8)]
    rests = [np.mean([np.mean(p.variance) * seeds for p in noise.points]) for noise in found]
    levels = [np.mean([pool.sd**2 for pool in noise.levels]) for noise in found]
    # 8 tables have 160 degrees of freedom for levels and 768 for rests (with two seeds): their standard deviations
    # scatter by 6% and 3%. A level is read off three to five rates, whose rests it holds to a third or a fifth.
    assert np.sqrt(np.mean(rests)) == pytest.approx(rest, rel=0.1, abs=1e-9)
    low, high = (np.sqrt(offset**2 + rest**2 / n) for n in (5, 3))
    assert 0.85 * low <= np.sqrt(np.mean(levels)) <= 1.15 * high
    assert {noise.source for noise in found} == {"seeds"}


def test_what_a_seed_has_in_all_curves_of_a_block_is_no_noise():
    runs = planted_runs(Law())
    moved = runs.assign(val_loss=runs["val_loss"] + 0.3 * runs["seed"])
    assert noise_of(moved).size == pytest.approx(noise_of(runs).size, rel=1e-9)
    assert noise_of(runs).paired


def test_blocks_with_other_seeds_are_paired_each_by_itself_and_unequal_seeds_in_one_are_not():
    rng = np.random.default_rng(0)
    curves = [curve_of(rng, 0.001, common=np.array([0.0, 0.3, 0.9])) for _ in range(4)]
    renamed = [LrCurve(c.at, c.x, c.losses, (7, 8, 9)) for c in curves[2:]]
    apart = measure_noise([*curves[:2], *renamed], blocks=[0, 0, 1, 1])
    mixed = measure_noise([*curves[:2], *renamed])
    assert apart.paired
    assert not mixed.paired
    assert max(pool.sd for pool in apart.levels) < 0.01 < min(pool.sd for pool in mixed.levels)


def test_curves_of_a_group_have_noise_of_one_size_and_others_their_own():
    rng = np.random.default_rng(0)
    curves = [curve_of(rng, rest, rest) for rest in (0.001, 0.001, 0.001, 0.03, 0.03, 0.03)]
    grouped = measure_noise(curves, groups=["quiet"] * 3 + ["loud"] * 3)
    assert len(set(grouped.levels)) == 2
    # The middle half of the levels, which is what a seed has in common, holds some of the loud ones'.
    assert grouped.levels[3].sd > 5 * grouped.levels[0].sd
    assert np.sqrt(grouped.points[3].variance * 3).mean() == pytest.approx(0.03, rel=0.35)  # 36 degrees of freedom
    assert np.sqrt(grouped.points[0].variance * 3).mean() == pytest.approx(0.001, rel=0.35)


def sds_of_levels(rng, rests, levels):
    """Standard deviations of a level, of curves that are each a group, with two seeds; (curves,)."""
    curves = [curve_of(rng, rest, level, seeds=2) for rest, level in zip(rests, levels, strict=True)]
    return np.array([pool.sd for pool in measure_noise(curves, groups=range(len(curves))).levels])


def test_two_seeds_tell_a_loud_arm_by_its_rests_where_levels_go_with_them():
    rng, loud_and_quiet = np.random.default_rng(0), (0.03, 0.003) * 6
    sds = np.array([sds_of_levels(rng, loud_and_quiet, loud_and_quiet) for _ in range(50)])
    ratio = np.exp(np.log(sds[:, ::2] / sds[:, 1::2]).mean())
    # One difference of a seed each would draw all arms together: without the rests the ratio is 2 to 3, and it is 10.
    assert 4 < ratio < 12


def test_levels_of_one_size_stay_nearly_so_however_unequal_rests_are():
    rng = np.random.default_rng(0)
    sds = np.array([sds_of_levels(rng, (0.03, 0.003) * 6, (0.03,) * 12) for _ in range(50)])
    ratio = np.exp(np.log(sds[:, ::2] / sds[:, 1::2]).mean())
    assert 0.8 < ratio < 2  # read off five rates, a level holds a fifth of the rests, too: 1.1 is so


def test_a_run_that_diverged_is_none_of_those_that_a_mean_is_taken_over():
    curve = curve_of(np.random.default_rng(0), 0.01, seeds=2)
    losses = curve.losses.copy()
    losses[4, 1] = np.inf  # one of two: the rate still trains
    broken = LrCurve(curve.at, X, losses, (0, 1))
    found = measure_noise([broken]).points[0]
    one_run = found.variance * broken.counts
    assert broken.counts.tolist() == [2, 2, 2, 2, 1, 2, 2]
    # Neighbours share their variances, so those of one run differ little: the mean over one run has twice that of two.
    assert found.variance[4] > 1.5 * found.variance[[3, 5]].mean()
    assert one_run.max() < 2 * one_run.min()


def test_one_seed_shows_its_noise_in_the_roughness_of_the_curves():
    found = noise_of(planted_runs(Law(), noise=0.01, offset=0, seeds=1))
    assert found.source == "roughness"
    # 24 curves with two third differences each; a parabola has none of its own.
    assert np.sqrt(np.mean([p.variance.mean() for p in found.points])) == pytest.approx(0.01, rel=0.25)
    # The U over batch sizes is no parabola, which counts as noise: wide, never narrow.
    assert found.size > 0.01


def test_rates_that_are_not_octaves_apart_make_no_noise_of_a_parabola():
    x = np.log2(np.arange(1, 7) * 1e-4)  # evenly spaced in the rate itself
    bent = 2 + 0.05 * (x + 11.7) ** 2
    quiet = measure_noise([LrCurve(32.0, x, bent[:, None], (0,))], roughness=True)
    assert quiet.source == "roughness"
    assert quiet.size < 1e-12  # rounding of losses of order 1
    rng = np.random.default_rng(0)
    loud = [LrCurve(32.0, x, (bent + 0.01 * rng.standard_normal(6))[:, None], (0,)) for _ in range(40)]
    found = measure_noise(loud, blocks=range(40), roughness=True)
    assert found.size == pytest.approx(0.01, rel=0.25)  # 40 curves with two or three differences each


def test_one_seed_on_few_rates_and_batches_has_no_noise_to_measure():
    found, readings = read(planted_runs(Law(), seeds=1, budgets=(16,), batches=3, half=1))
    assert found.source == "none"
    assert found.size == 0
    assert all(reading.drawn is None for reading in readings[0])


def test_one_seed_has_no_noise_where_its_roughness_is_not_asked_for():
    assert measure_noise([curve_of(np.random.default_rng(0), 0.01, seeds=1)]).source == "none"


@pytest.mark.parametrize("seeds", [2, 4])
def test_drawn_curves_move_as_wholes_by_the_level_of_a_mean_over_seeds(seeds):
    rng = np.random.default_rng(0)
    curves = [curve_of(rng, 0.01, 0.03, seeds) for _ in range(6)]
    noise = measure_noise(curves, groups=[0] * 6)
    for curve, reading, pool in zip(curves, read_levels(curves, noise, 4000, rng), noise.levels, strict=True):
        nodes, draws, mean = reading.valley.nodes, reading.valley.draws, reading.valley.mean
        rates = X[near(curve)]
        moved = [value_at(nodes, draws, np.full(4000, x)) - value_at(nodes, mean[None], np.array([x])) for x in rates]
        # Of Student's t with so many degrees of freedom; 4,000 draws scatter by 1.1%, three times.
        expected = pool.sd / np.sqrt(seeds) * np.sqrt(pool.freedom / (pool.freedom - 2))
        assert np.std(np.mean(moved, axis=0)) == pytest.approx(expected, rel=0.035 + 1 / pool.freedom)
        # Rests bend a curve: at one rate it moves by more than its level.
        assert np.std(moved[0]) > np.std(np.mean(moved, axis=0))


def test_rates_that_do_not_train_are_in_no_drawn_curve():
    runs = planted_runs(Law(), budgets=(16,))
    wall = runs["lr"] == runs["lr"].max()
    runs.loc[wall, ["status", "val_loss"]] = ["diverged", np.nan]
    for reading in read(runs)[1][0]:
        trained = reading.curve.x[reading.curve.finite]
        assert reading.valley.nodes[[0, -1]].tolist() == [trained[0], trained[-1]]
        assert np.isfinite(reading.valley.draws).all()
