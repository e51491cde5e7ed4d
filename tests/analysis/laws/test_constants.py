import json
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.laws import constants
from analysis.laws.constants import PROBE, fit_constants, huber_line, probes_of

SEQ = 64


@dataclass(frozen=True)
class Planted:
    """The constants of a made-up landscape: ‖∇f‖_* = μ(f − floor), variance = σ⋆²/(bᵛ sʷ), κ = κ₁ bᵏ, and L."""

    mu: float = 0.5
    floor: float = 1.5
    smoothness: float = 3.0
    kappa: float = 4.0
    kappa_exponent: float = 0.2
    noise: float = 7.0
    in_batch: float = 1.0
    in_seq: float = 1.0

    @property
    def kappa_at(self):
        return lambda b: self.kappa * b**self.kappa_exponent

    def variance(self, b, s):
        return self.noise / (b**self.in_batch * s**self.in_seq)


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "RESAMPLES", 60)
        yield


def table(law=None, budgets=(2**16, 2**18), probes=12, scatter=0.0, seed=0, batch_size=8):
    """A run per budget, and its curve: plain rows, and probe rows for b = 1 … 8 and windows of S, S/2 and S/4."""
    law, rng = law or Planted(), np.random.default_rng(seed)
    runs, curves = [], []
    for budget in budgets:
        trial = f"run-{budget}"
        runs.append(
            {"trial_id": trial, "tokens": budget, "batch_size": batch_size, "seq_len": SEQ, "lr": 0.01, "status": "ok"}
        )
        for i in range(1, probes + 1):
            loss = 2.0 + 3.5 * 0.75**i
            common = {"trial_id": trial, "step": 10 * i, "tokens": budget * i // probes, "lr": 0.01}
            curves.append({**common, "train_loss": loss})
            for s in (SEQ, SEQ // 2, SEQ // 4):
                for b in (1, 2, 4, 8):
                    wobble = np.exp(scatter * rng.standard_normal(3))
                    curves.append(
                        {
                            **common,
                            "probe_batch_size": b,
                            "probe_seq_len": s,
                            "probe_loss": loss + 0.3 * np.log2(SEQ / s),
                            "grad_dual": law.mu * (loss - law.floor) * (SEQ / s) ** 0.1,
                            "grad_variance": law.variance(b, s) * wobble[0],
                            "norm_ratio": law.kappa_at(b) * wobble[1],
                            "smoothness": law.smoothness * wobble[2] if (b, s) == (1, SEQ) else np.nan,
                        }
                    )
    return pd.DataFrame(runs), pd.DataFrame(curves)


def fitted(law=None, measured=None, floor=None, **how):
    return fit_constants(*table(law, **how), measured or {}, floor)


def contains(estimate, truth):
    return estimate.low <= truth <= estimate.high


# One run's constants


def test_planted_constants_are_found_exactly_without_scatter():
    law = Planted()
    for run in fitted(law).runs:
        # Means and straight lines: rounding only.
        assert run.smoothness == pytest.approx(law.smoothness)
        assert run.mu.value == pytest.approx(law.mu)
        assert run.norm_ratio == pytest.approx(law.kappa_at(8))
        assert run.noise == pytest.approx(law.noise)
        drive = law.mu * law.kappa_at(8) * np.sqrt(law.noise) / law.smoothness
        assert run.drive == pytest.approx(drive)


def test_they_are_those_of_the_probed_batch_nearest_to_the_runs_own():
    law = Planted(in_batch=0.9)
    (run,) = fitted(law, budgets=(2**16,), batch_size=32).runs
    assert run.batch_size == 32
    assert run.norm_ratio == pytest.approx(law.kappa_at(8))
    assert run.noise == pytest.approx(law.variance(8, SEQ) * 8 * SEQ)


def test_only_the_late_probes_count():
    law, (runs, curves) = Planted(), table(budgets=(2**16,))
    probes = curves["probe_loss"].notna()
    losses = curves.loc[probes & (curves["probe_seq_len"] == SEQ), "probe_loss"]
    early = curves["step"].isin(curves.loc[losses.index[losses > (losses.iloc[0] + losses.iloc[-1]) / 2], "step"])
    assert 0 < early[probes].mean() < 0.5
    curves.loc[early & probes, "smoothness"] *= 100
    curves.loc[early & probes, "grad_dual"] = 17.0
    curves.loc[early & probes, "norm_ratio"] *= 5
    (run,) = fit_constants(runs, curves, {}).runs
    assert (run.smoothness, run.mu.value) == (pytest.approx(law.smoothness), pytest.approx(law.mu))
    assert run.norm_ratio == pytest.approx(law.kappa_at(8))


def test_a_probe_is_late_with_all_its_windows_or_not_at_all():
    probes = probes_of(*table())
    assert (probes.groupby(["trial_id", "step"])["late"].nunique() == 1).all()
    assert probes.groupby("trial_id")["late"].agg(["any", "all"]).to_numpy().tolist() == [[True, False]] * 2


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_rows_that_are_not_finite_do_not_count(broken):
    clean = fitted()
    runs, curves = table()
    for i, column in enumerate(("norm_ratio", "grad_variance", "grad_dual", "probe_loss")):
        curves = pd.concat([curves, curves[curves["probe_loss"].notna()].iloc[i::7].assign(**{column: broken})])
    first = curves.index[curves["smoothness"].notna()][-1]
    curves = pd.concat([curves, curves.loc[[first]].assign(smoothness=broken)])
    found = fit_constants(runs, curves, {})
    for before, after in zip(clean.runs, found.runs, strict=True):
        assert after.smoothness == pytest.approx(before.smoothness)
        assert after.norm_ratio == pytest.approx(before.norm_ratio)
        assert after.drive == pytest.approx(before.drive)


def test_without_probes_there_are_no_constants():
    runs, curves = table()
    plain = curves[curves["probe_loss"].isna()]
    assert fit_constants(runs, plain, {}) is None
    assert fit_constants(runs, plain.drop(columns=list(PROBE)), {}) is None
    assert fit_constants(runs, pd.DataFrame(), {}) is None
    assert fit_constants(runs.assign(status="diverged"), curves, {}) is None
    assert fit_constants(runs.assign(trial_id="other"), curves, {}) is None


def test_few_probes_give_what_they_can():
    (run,) = fitted(budgets=(2**16,), probes=1).runs
    assert (run.mu, run.drive) == (None, None)
    assert run.smoothness == pytest.approx(Planted().smoothness)


def test_a_gradient_that_does_not_grow_with_the_loss_gives_no_corner():
    (run,) = fitted(Planted(mu=-0.5, floor=9.0), budgets=(2**16,)).runs
    assert run.mu.value == pytest.approx(-0.5)
    assert run.drive is None


def test_where_the_slope_is_unsure_the_line_through_the_floor_is_taken():
    falling = Planted(mu=-0.5, floor=9.0)
    (run,) = fitted(falling, budgets=(2**16,), floor=1.2).runs
    assert not run.mu_rises
    assert run.mu_at_floor > 0
    assert run.drive == pytest.approx(run.mu_at_floor * run.norm_ratio * np.sqrt(run.noise) / run.smoothness)
    (rising,) = fitted(Planted(floor=1.5), budgets=(2**16,), floor=1.5).runs
    assert rising.mu_rises
    assert rising.mu_at_floor == pytest.approx(rising.mu.value)
    (above,) = fitted(budgets=(2**16,), floor=3.0).runs
    assert above.mu_at_floor is None


# Lines and laws


@given(slope=st.floats(-5, 5), intercept=st.floats(-5, 5), outlier=st.floats(-100, 100), at=st.integers(0, 19))
@settings(deadline=None)
def test_one_outlier_hardly_moves_the_robust_line(slope, intercept, outlier, at):
    x = np.linspace(1, 3, 20)
    y = slope * x + intercept + 1e-3 * np.cos(5 * np.arange(20))
    y[at] += outlier
    # The scale is that of the residuals from least squares, which the outlier tilts: robust, but not wholly so.
    ordinary = np.abs(np.polyfit(x, y, 1) - [slope, intercept])
    assert (np.abs(np.subtract(huber_line(x, y), [slope, intercept])) <= 0.4 * ordinary + 2e-3).all()


def test_the_variance_law_is_recovered_in_batch_and_length():
    law = Planted(in_batch=0.9, in_seq=1.1)
    exact = fitted(law).variance
    assert (exact.batch.value, exact.seq.value) == (pytest.approx(0.9), pytest.approx(1.1))
    assert exact.coefficient == pytest.approx(law.noise)
    noisy = fitted(law, scatter=0.2, seed=1).variance
    assert contains(noisy.batch, 0.9)
    assert contains(noisy.seq, 1.1)
    assert noisy.batch.high - noisy.batch.low < 0.2


def test_levels_of_the_runs_do_not_enter_the_exponents():
    runs, curves = table(Planted(in_batch=0.9))
    curves.loc[curves["trial_id"] == "run-65536", "grad_variance"] *= 50
    assert fit_constants(runs, curves, {}).variance.batch.value == pytest.approx(0.9)


@pytest.mark.parametrize("exponent", [0.0, 0.2, -0.1])
def test_the_exponent_of_kappa_is_recovered(exponent):
    exact = fitted(Planted(kappa_exponent=exponent))
    assert exact.kappa_batch_exponent == pytest.approx(exponent, abs=1e-9)
    noisy = fitted(Planted(kappa_exponent=exponent), scatter=0.1)
    assert contains(noisy.norm_ratio_exponent, exponent)


def test_one_batch_size_or_one_length_says_nothing_of_its_exponent():
    runs, curves = table()
    one_length = curves[curves["probe_seq_len"].isna() | (curves["probe_seq_len"] == SEQ)]
    assert fit_constants(runs, one_length, {}).variance.seq is None
    one_batch = curves[curves["probe_batch_size"].isna() | (curves["probe_batch_size"] == 1)]
    found = fit_constants(runs, one_batch, {})
    assert (found.variance, found.norm_ratio_exponent, found.kappa_batch_exponent) == (None, None, None)


# What they predict


def test_a_prediction_is_theory_times_one_constant():
    law = Planted()
    drive = law.mu * law.kappa_at(8) * np.sqrt(law.noise) / law.smoothness
    measured = {tokens: 3.0 * (tokens * drive) ** (2 / 3) for tokens in (2**16, 2**17, 2**18)}
    found = fitted(law, measured)
    assert len(found.predictions) == 2
    for prediction in found.predictions:
        assert prediction.constant == pytest.approx(3.0)
        assert prediction.error == pytest.approx(0, abs=1e-9)
        assert dict(zip(prediction.tokens, prediction.batch_tokens, strict=True)) == pytest.approx(measured)


def test_batches_that_follow_another_exponent_leave_an_error():
    measured = {2.0**x: 2.0 ** (0.3 * x) for x in (14, 16, 18)}
    # Two octaves of budget apart, 2/3 − 0.3 off: deviations of −0.73, 0, 0.73 octaves.
    for prediction in fitted(measured=measured).predictions:
        assert prediction.error == pytest.approx((2 / 3 - 0.3) * 2 * np.sqrt(2 / 3))


def test_the_shared_prediction_takes_every_runs_own_constants():
    runs, curves = table(budgets=(2**16, 2**18))
    big = curves["trial_id"] == f"run-{2**18}"
    curves.loc[big, "smoothness"] *= 8  # BS₂ ∝ (T/L)^(2/3): four times the budget, an eighth of the rest
    measured = {2.0**16: 100.0, 2.0**18: 100.0 * (4 / 8) ** (2 / 3)}
    found = fit_constants(runs, curves, measured)
    assert found.shared.error == pytest.approx(0, abs=1e-9)
    assert found.shared.batch_tokens == pytest.approx(tuple(measured.values()))
    assert all(prediction.error > 0.5 for prediction in found.predictions)


def test_budgets_are_those_the_sweep_merged():
    runs, curves = table(budgets=(2**16 - 64, 2**18))
    merged = runs.assign(budget=[2.0**16, 2.0**18])
    found = fit_constants(merged, curves, {2.0**16: 100.0, 2.0**18: 200.0})
    assert [run.tokens for run in found.runs] == [2**16, 2**18]
    assert found.shared is not None


def test_nothing_measured_means_nothing_to_hold_a_prediction_against():
    found = fitted()
    assert (found.predictions, found.shared) == ((), None)


def test_the_order_of_the_rows_does_not_matter_and_all_is_reproducible():
    runs, curves = table(scatter=0.2)
    one = fit_constants(runs, curves, {2.0**16: 100.0})
    other = fit_constants(runs.iloc[::-1], curves, {2.0**16: 100.0})
    assert one == other
    shuffled = fit_constants(runs, curves.sample(frac=1, random_state=0), {2.0**16: 100.0})
    for before, after in zip(one.runs, shuffled.runs, strict=True):
        for field in fields(before):
            if isinstance(getattr(before, field.name), float):
                assert getattr(after, field.name) == pytest.approx(getattr(before, field.name))
    assert shuffled.variance.batch.value == pytest.approx(one.variance.batch.value)
    json.dumps([run.drive for run in one.runs])
