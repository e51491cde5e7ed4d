"""Laws, studies and plans from Python: planted truths, the command's numbers, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from synthetic import fill
from typer.testing import CliRunner

from scionlab import RunStore, ScalingLawFit, UserError, fit, fit_scaling_law, import_table, plan
from scionlab.cli import app

E, A, B, ALPHA, BETA = 1.8, 480.0, 2000.0, 0.35, 0.37
BASE = {"tokens": 1.337e9, "batch_size": 256, "seq_len": 1024, "lr": 3.6e-4}


def points(noise=0.0, **columns):
    """Points of the law at 7 × 6 sizes and tokens, as a frame."""
    n, t = (grid.ravel() for grid in np.meshgrid(np.geomspace(3e7, 8e9, 7), np.geomspace(1e9, 4e11, 6)))
    loss = (E + A * n**-ALPHA + B * t**-BETA) * np.exp(np.random.default_rng(0).normal(0, noise, len(n)))
    return pd.DataFrame({"n_params": n, "tokens": t, "val_loss": loss}).assign(**columns)


@pytest.fixture(scope="module")
def law():
    return fit_scaling_law(points(noise=0.002))


def test_a_planted_law_is_found_under_its_own_names(law):
    for name, truth in {"E": E, "alpha": ALPHA, "beta": BETA, "size_exponent": BETA / (ALPHA + BETA)}.items():
        found = getattr(law, name)
        assert found.value == pytest.approx(truth, abs=0.02), name
        assert found.low < found.value < found.high, name
    assert law.status == "ok"
    assert law.determined
    assert law.tokens_exponent.value == pytest.approx(1 - law.size_exponent.value)
    assert set(law.profiles()) == {"E", "alpha", "beta"}
    assert len(law.points) == 42


def test_it_predicts_numbers_and_arrays(law):
    one = law.predict(1e9, 1e10)
    assert np.ndim(one) == 0
    assert float(one) == pytest.approx(E + A * 1e9**-ALPHA + B * 1e10**-BETA, rel=0.005)
    assert law.predict([[1e9], [2e9]], [1e10, 1e11, 1e12]).shape == (2, 3)


def test_its_best_network_is_where_the_law_is_lowest(law):
    best = law.compute_optimal(1e21)
    sizes = np.geomspace(1e8, 1e11, 2001)
    losses = law.predict(sizes, 1e21 / (6 * sizes))
    assert best.n_params.value == pytest.approx(sizes[np.argmin(losses)], rel=0.01)
    assert 6 * best.n_params.value * best.tokens.value == pytest.approx(1e21)
    assert best.n_params.low < best.n_params.value < best.n_params.high


def test_it_is_a_frame_and_json(law):
    frame = law.frame().set_index("parameter")
    assert frame.loc["alpha", "value"] == law.alpha.value
    assert json.loads(json.dumps(law.as_dict()))["parameters"]["E"]["low"] == law.E.low


def test_the_study_finds_the_same_and_the_command_too(law, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = points(noise=0.002)
    frame.to_csv("points.csv", index=False)
    (source,) = fit("scaling-law", import_table("points.csv")).laws
    assert CliRunner().invoke(app, ["import", "points.csv"]).exit_code == 0
    done = CliRunner().invoke(app, ["fit", "points", "--json"])
    assert source.law.parameters["a"].value == pytest.approx(law.alpha.value, rel=1e-6)
    assert json.loads(done.stdout)["fit"]["laws"][0]["parameters"]["a"]["value"] == source.law.parameters["a"].value
    stored = fit_scaling_law(RunStore("results").imports("points"), resamples=0)
    assert stored.alpha.value == source.law.parameters["a"].value
    assert stored.alpha.low is None
    assert stored.compute_optimal(1e21).n_params.low is None


def test_a_floor_is_held():
    held = fit_scaling_law(points(), floor=1.8, resamples=0)
    assert held.E.value == 1.8
    assert held.A.value == pytest.approx(A, rel=1e-3)


def test_each_source_has_a_law_of_its_own():
    both = pd.concat([points(group="one"), points(group="two").eval("val_loss = val_loss + 1")])
    with pytest.raises(UserError, match=r"source: the table has several, one, two; name one"):
        fit_scaling_law(both)
    with pytest.raises(UserError, match=r"source: 'three' is not known"):
        fit_scaling_law(both, source="three")
    assert fit_scaling_law(both, source="two", resamples=0).E.value == pytest.approx(E + 1, abs=0.01)
    assert [each.name for each in fit("scaling-law", both).laws] == ["one", "two"]


def test_points_that_determine_nothing_say_so_and_allocate_nothing():
    n = np.geomspace(1e7, 1e10, 12)
    line = pd.DataFrame({"n_params": n, "tokens": 20 * n, "val_loss": E + A * n**-ALPHA + B * (20 * n) ** -BETA})
    found = fit_scaling_law(line)
    assert isinstance(found, ScalingLawFit)
    assert not found.determined
    with pytest.raises(UserError, match=r"the points do not determine it \(collinear\), so no network is best by it"):
        found.compute_optimal(1e21)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit("isoflopp", points()), "study: 'isoflopp' is not known (did you mean 'isoflop'?)"),
        (lambda: fit("isoflop", points(), curve="spline"), "settings.curve: 'spline' is not allowed"),
        (lambda: fit("isoflop", points(), curv="akima"), "settings.curv: no such field"),
        (lambda: fit("isoflop"), "runs: is missing; give runs, or results to take them from"),
        (lambda: fit("isoflop", points(), results="results"), "runs: results are given, too; give one of them"),
        (lambda: fit("isoflop", points(), preset="full"), "experiment: 'full' chooses among the runs of results"),
        (lambda: fit("isoflop", results="nowhere"), "results: no sweep in 'nowhere/runs'"),
        (lambda: fit_scaling_law(points(), floor=9), "floor: 9.0 is not allowed"),
        (lambda: fit_scaling_law(import_table(points()), where="tokens<1e9"), "these runs are imported already"),
    ],
)
def test_mistakes_are_one_sentence(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        call()
    assert message in str(refused.value)


def test_runs_of_the_store_are_fitted_as_the_command_fits_them(tmp_path):
    store = fill(tmp_path / "results" / "runs")
    of_results = fit(results=tmp_path / "results")
    of_rows = fit("lr-transfer", RunStore(tmp_path / "results").runs())
    assert of_rows.frames().keys() == of_results.frames().keys()
    for name, frame in of_results.frames().items():
        pd.testing.assert_frame_equal(of_rows.frames()[name], frame)
    assert len(store.tidy()) == len(store.runs())
    with pytest.raises(UserError, match="there is nothing to fit"):
        fit("lr-transfer", store.runs().iloc[:0])


def test_a_results_folder_is_its_runs_folder(tmp_path):
    store = fill(tmp_path / "results" / "runs")
    for root in ("results", "results/runs"):
        assert len(RunStore(tmp_path / root).runs()) == len(store.runs())
    assert repr(RunStore(tmp_path / "results")) == repr(store)
    assert RunStore(tmp_path / "empty").runs().empty


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ([], {}),
        (["--round", "floor:32", "--params", "5e8"], {"multiple": 32, "down": True, "n_params": 5e8}),
        (
            ["--kappa-batch-exponent", "0.1", "--kappa-batch-shift", "-9.4", "--grow-seq"],
            {"kappa_batch_exponent": 0.1, "kappa_batch_shift": -9.4, "grow_seq": True},
        ),
        (["--mu-ratio", "0.9", "--l-ratio", "1.4", "--kappa-ratio", "1.7"],
         {"mu_ratio": 0.9, "l_ratio": 1.4, "kappa_ratio": 1.7}),
    ],
)  # fmt: skip
def test_a_plan_is_the_commands(options, arguments):
    told = ["--tokens", "5.348e9", "--base-tokens", "1.337e9", "--base-batch", "256", "--base-seq", "1024"]
    done = CliRunner().invoke(app, ["plan", *told, "--base-lr", "3.6e-4", "--json", *options])
    assert json.loads(done.stdout) == plan(5.348e9, BASE, **arguments).as_dict()


def test_a_plan_asks_about_a_momentum_of_pytorchs_kind():
    *_, warning = plan(2e9, BASE | {"momentum": 0.9}).warnings
    assert "momentum 0.9 is taken as the weight of the new gradient" in warning


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": 0.0}, "tokens: 0.0 is not allowed; it must be a finite number above 0"),
        ({"tokens": "1e9"}, "tokens: '1e9' is not allowed; it must be a finite number above 0"),
        ({"base": None}, "base: tokens is missing; give all of tokens, batch_size, seq_len and lr of `base`, or"),
        ({"base": BASE | {"batch": 3}}, "base: 'batch' is not known (did you mean 'batch_size'?)"),
        ({"base": BASE | {"lr": -1}}, "base: lr: -1 is not allowed"),
        ({"base": BASE | {"momentum": 2}}, "base: momentum 2 is not allowed"),
        ({"multiple": 1.5}, "multiple: 1.5 is not allowed; it must be a positive whole number"),
        ({"n_params": 0}, "n_params: 0 is not allowed"),
        ({"optimizer": "scion"}, "optimizer: 'scion' chooses among the fits of `results`, which is not given"),
        ({"kappa_batch_shift": 1.0}, "kappa_batch_shift: 1 says nothing without kappa_batch_exponent"),
        ({"results": "nowhere"}, "results: there is no batch_scaling.json"),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused(arguments, message):
    with pytest.raises(UserError) as refused:
        plan(**{"tokens": 2e9, "base": BASE} | arguments)
    assert message in str(refused.value)
