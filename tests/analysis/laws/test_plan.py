import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from analysis.laws.choice import choose_rules
from analysis.laws.evidence import read_evidence
from analysis.laws.kappa import KappaBst
from analysis.laws.plan import Target, make_plan
from analysis.laws.rules import (
    NO_CHANGE,
    OPTIMAL_NORM,
    RULES,
    STEP_LAW,
    AbsoluteStepLaw,
    Point,
    PowerLaw,
    bst,
)
from scionlab.cli import app
from scionlab.cli.numbers import number
from scionlab.errors import UserError, unknown

BASE = Point(1.3e9, 256, 1024, 3.6e-4)
T1 = 10.6e9
WORKED = ["plan", "--tokens", "10.6e9", "--base-tokens", "1.3e9", "--base-batch", "256", "--base-seq", "1024"]
WORKED += ["--base-lr", "3.6e-4"]

# Every rule that starts from the base, and so must give it back at its own budget.
ANCHORED = [*RULES.values(), KappaBst(exponent=0.4, shift=16.0), KappaBst(exponent=-0.5), KappaBst(exponent=1.4)]
anchored = pytest.mark.parametrize("rule", ANCHORED, ids=lambda rule: f"{rule.name}")

points = st.builds(
    Point,
    st.floats(1e5, 1e12),
    st.floats(1, 1e5),
    st.sampled_from([1, 64, 1024]),
    st.floats(1e-6, 1),
    st.floats(0.01, 1),
)
ratios = st.floats(1e-3, 1e3)


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def refused(*arguments):
    """The message of the UserError that a command ends with."""
    done = invoke(*arguments)
    assert isinstance(done.exception, UserError), done.output
    assert "\n" not in str(done.exception)
    return str(done.exception)


def rows(*arguments):
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.exception
    return {row["rule"]: row for row in json.loads(done.stdout)["rules"]}


# Rules


@anchored
@settings(deadline=None)
@given(base=points)
def test_the_same_budget_gives_the_base_back(rule, base):
    setting = rule.predict(base, base.tokens)
    assert setting.batch_tokens == pytest.approx(base.batch_tokens, rel=1e-9)
    assert setting.lr == pytest.approx(base.lr, rel=1e-9)


@anchored
@settings(deadline=None)
@given(base=points, first=ratios, second=ratios)
def test_two_steps_are_one(rule, base, first, second):
    middle, end = base.tokens * first, base.tokens * first * second
    setting = rule.predict(base, middle)
    assume(setting.batch_tokens < 1e15)
    there = Point(middle, setting.batch_tokens / base.seq_len, base.seq_len, setting.lr)
    direct, composed = rule.predict(base, end), rule.predict(there, end)
    assert composed.batch_tokens == pytest.approx(direct.batch_tokens, rel=1e-6)
    assert composed.lr == pytest.approx(direct.lr, rel=1e-6)


@anchored
def test_resampled_base_points_give_resampled_settings(rule):
    batch, lr = np.array([128.0, 256.0, 512.0]), np.array([1e-4, 2e-4, 4e-4])
    setting = rule.predict(Point(1e9, batch, 1024, lr), 4e9)
    for i in range(3):
        alone = rule.predict(Point(1e9, batch[i], 1024, lr[i]), 4e9)
        assert setting.batch_tokens[i] == pytest.approx(alone.batch_tokens)
        assert setting.lr[i] == pytest.approx(alone.lr)


def test_bst_with_constants_is_its_formula():
    setting = bst(mu_ratio=1.5, l_ratio=2.0).predict(BASE, T1)
    growth = (T1 / 1.3e9 * 1.5 / 2.0) ** (2 / 3)
    assert setting.batch_tokens == pytest.approx(256 * 1024 * growth)
    assert setting.lr == pytest.approx(3.6e-4 * growth / (T1 / 1.3e9))


@settings(deadline=None)
@given(base=points, ratio=ratios, exponent=st.floats(-2, 1.3), shift=st.floats(0, 1e4), constants=st.floats(0.1, 10))
def test_kappa_solves_its_fixed_point(base, ratio, exponent, shift, constants):
    rule = KappaBst(exponent=exponent, shift=shift, constants=constants)
    setting = rule.predict(base, ratio * base.tokens)
    batch = setting.batch_tokens / base.seq_len
    kappa = ((batch + shift) / (base.batch_size + shift)) ** exponent
    assert setting.batch_tokens == pytest.approx(base.batch_tokens * (ratio * constants * kappa) ** (2 / 3), rel=1e-6)
    assert setting.lr == pytest.approx(base.lr * setting.batch_tokens / base.batch_tokens / ratio, rel=1e-6)


def test_kappa_without_shift_is_a_power_law():
    # b = (r bᵍ)^(2/3), so b = r^(2/3 / (1 - 2g/3)).
    growth = KappaBst(exponent=0.6).predict(BASE, 8 * BASE.tokens).batch_tokens / BASE.batch_tokens
    assert growth == pytest.approx(8 ** ((2 / 3) / (1 - 0.4)))
    flat = KappaBst(exponent=0.0, shift=3.0).predict(BASE, T1)
    assert flat.batch_tokens == pytest.approx(bst().predict(BASE, T1).batch_tokens)


@pytest.mark.parametrize(("exponent", "shift"), [(1.5, 0.0), (2.0, 5.0), (float("nan"), 0.0), (0.1, float("nan"))])
def test_kappa_without_one_solution_is_refused(exponent, shift):
    with pytest.raises(UserError, match=r"kappa_batch_(exponent|shift): .* is not allowed"):
        KappaBst(exponent=exponent, shift=shift)


def test_published_exponents():
    r = 16.0
    norm, step = OPTIMAL_NORM.predict(BASE, r * BASE.tokens), STEP_LAW.predict(BASE, r * BASE.tokens)
    assert norm.batch_tokens == pytest.approx(BASE.batch_tokens * r**0.45)
    assert norm.lr == pytest.approx(BASE.lr * r ** (0.62 * 0.45 - 0.56))
    assert step.batch_tokens == pytest.approx(BASE.batch_tokens * r**0.571)
    assert step.lr == pytest.approx(BASE.lr * r**0.307)
    absolute = AbsoluteStepLaw(n_params=1e9).predict(BASE, 1e11)
    assert absolute.batch_tokens == pytest.approx(0.58 * 1e11**0.571)
    assert absolute.lr == pytest.approx(1.79 * 1e9**-0.713 * 1e11**0.307)
    assert RULES["sqrt"].predict(BASE, r * BASE.tokens).lr == pytest.approx(BASE.lr * r ** (1 / 3))


def test_a_planted_power_law_is_recovered_with_and_without_resamples():
    tokens = np.array([1e6, 2e6, 4e6, 8e6])
    batch, lr = 3.0 * tokens**0.6, 5.0 * tokens**-0.3
    law = PowerLaw.fit(tokens, batch, lr)
    assert (law.batch_exponent, law.lr_exponent) == (pytest.approx(0.6), pytest.approx(-0.3))
    setting = law.predict(BASE, 1e9)
    assert setting.batch_tokens == pytest.approx(3.0 * 1e9**0.6)
    assert setting.lr == pytest.approx(5.0 * 1e9**-0.3)
    many = PowerLaw.fit(tokens, np.stack([batch, 2 * batch]), np.stack([lr, 2 * lr])).predict(BASE, 1e9)
    assert many.batch_tokens == pytest.approx(np.array([1.0, 2.0]) * setting.batch_tokens)
    assert many.lr == pytest.approx(np.array([1.0, 2.0]) * setting.lr)
    deep = np.ones((2, 3, 1)) * batch
    assert np.shape(PowerLaw.fit(tokens, deep, deep).predict(BASE, 1e9).lr) == (2, 3)


def test_a_power_law_needs_two_budgets():
    with pytest.raises(UserError, match=r"power-law: 1 token budget is not enough"):
        PowerLaw.fit(np.array([1e6, 1e6]), np.ones(2), np.ones(2))


# Plans


def test_the_worked_example():
    found = rows(*WORKED)
    rule = found["bst"]
    assert rule["growth"] == pytest.approx(4.05, abs=0.005)
    assert rule["exact"]["batch_size"] == pytest.approx(1037, abs=0.5)
    assert rule["exact"]["lr"] == pytest.approx(1.8e-4, rel=0.01)
    assert (rule["rounded"]["batch_size"], rule["rounded"]["seq_len"]) == (1024, 1024)
    assert rule["rounded"]["lr"] == pytest.approx(3.6e-4 * 4 / (10.6 / 1.3))
    assert rule["rounded"]["steps"] == round(10.6e9 / 2**20)
    assert found["no-change"]["rounded"]["lr"] == 3.6e-4
    assert {row["rounded"]["momentum"] for row in found.values()} == {0.1}
    assert list(found) == ["bst", "no-change", "sqrt", "norm", "steplaw"]


def test_the_worked_example_with_a_longer_sequence():
    rule = rows(*WORKED, "--grow-seq")["bst"]
    assert (rule["rounded"]["batch_size"], rule["rounded"]["seq_len"]) == (512, 2048)
    assert rule["rounded"]["lr"] == rows(*WORKED)["bst"]["rounded"]["lr"]


@pytest.mark.parametrize(("growth", "seq_len"), [(0.1, 64), (1, 64), (3.99, 64), (4, 128), (15.9, 128), (16, 256)])
def test_the_sequence_takes_half_of_the_growth(growth, seq_len):
    assert Target(1e9, grow_seq=True).seq_len(Point(1e6, 8, 64, 0.1), growth) == seq_len
    assert Target(1e9).seq_len(Point(1e6, 8, 64, 0.1), growth) == 64


@pytest.mark.parametrize(
    ("multiple", "batch_size", "rounded"),
    [(None, 1037, 1024), (None, 1449, 2048), (None, 0.2, 1), (24, 1037, 1032), (24, 5, 24), (1, 7.4, 7)],
)
def test_rounding(multiple, batch_size, rounded):
    assert Target(1e9, multiple).rounded(batch_size) == rounded


@settings(deadline=None)
@given(base=points, ratio=ratios, multiple=st.sampled_from([None, 1, 24]), grow=st.booleans())
def test_momentum_stays_and_the_rate_is_the_rules_at_the_rounded_batch(base, ratio, multiple, grow):
    tokens = base.tokens * ratio
    kappa = KappaBst(exponent=0.3, shift=2.0)
    plan = make_plan(base, Target(tokens, multiple, grow), choose_rules(n_params=1e8, kappa=kappa))
    for p in plan.proposals:
        assert p.exact.momentum == p.rounded.momentum == base.momentum
        assert p.rounded.lr == pytest.approx(p.rule.learning_rate(base, tokens, p.rounded.batch_tokens))
        assert p.exact.batch_tokens == pytest.approx(p.growth * base.batch_tokens)
        assert p.rounded.steps == max(1, round(tokens / p.rounded.batch_tokens))
        if p.rule.name.startswith("bst"):
            expected = base.lr * p.rounded.batch_tokens / base.batch_tokens / ratio
            assert p.rounded.lr == pytest.approx(expected)


@settings(deadline=None)
@given(base=points)
def test_a_whole_batch_that_does_not_change_is_not_rounded(base):
    base = replace(base, batch_size=float(round(base.batch_size) or 1))
    plan = make_plan(base, Target(base.tokens), choose_rules())
    assert all(p.rounded.batch_size == base.batch_size for p in plan.proposals)
    assert all(p.rounded.lr == pytest.approx(base.lr) for p in plan.proposals)


def test_constants_move_bst_and_the_square_root_rule_and_no_other():
    plain, moved = rows(*WORKED), rows(*WORKED, "--mu-ratio", "2", "--l-ratio", "4")
    changed = {name for name in plain if plain[name]["growth"] != moved[name]["growth"]}
    assert changed == {"bst", "sqrt"}
    assert moved["bst"]["growth"] == pytest.approx(plain["bst"]["growth"] / 2 ** (2 / 3))


def test_more_is_known_more_rules():
    found = rows(*WORKED, "--kappa-batch-exponent", "0.2", "--kappa-batch-shift", "8", "--params", "124M")
    assert list(found) == ["bst", "bst-kappa", "no-change", "sqrt", "norm", "steplaw", "steplaw-absolute"]
    assert found["bst-kappa"]["growth"] > found["bst"]["growth"]


def test_what_to_distrust_is_said():
    done = invoke(*WORKED)
    assert "steplaw was measured for AdamW" in done.stderr
    assert "bst" in done.stdout
    assert "warning" not in done.stdout
    far = invoke("plan", "--tokens", "1e12", *WORKED[3:])
    assert "1e+12 tokens are 769 times the largest budget measured (1.3e+09)" in far.stderr
    near = invoke("plan", "--tokens", "1e5", *WORKED[3:])
    assert "1e+05 tokens are 13000 times less than the smallest budget measured" in near.stderr
    assert "no-change: one step of 2.621e+05 tokens is more than the whole budget of 1e+05" in near.stderr
    tiny = invoke(*WORKED, "--tokens", "1000", "--base-batch", "2", "--base-tokens", "1e9")
    assert "bst: the batch is 0.0002 of a sequence" in tiny.stderr


def test_json_is_all_that_is_on_stdout():
    done = invoke(*WORKED, "--json")
    content = json.loads(done.stdout)
    assert done.stderr == ""
    assert content["tokens"] == 10600000000
    assert content["growth_of_tokens"] == pytest.approx(10.6 / 1.3)
    assert content["base"]["batch_size"] == 256
    assert any("AdamW" in text for text in content["warnings"])
    assert {"title", "source", "note", "growth", "exact", "rounded", "interval"} <= set(content["rules"][0])


# From a fit


def entry(optimizer="scion", **changes):
    rng = np.random.default_rng(0)
    q, p = 0.6, -0.3
    log_batch, log_lr = np.log2(16 * 64), -6.0
    samples = [q, log_batch, p, log_lr] + 0.02 * rng.standard_normal((500, 4))
    plan = {
        "base": {"tokens": 2**20, "batch_size": 16.0, "seq_len": 64.0, "lr": 2**-6, "momentum": 0.2},
        "at_edge": False,
        "resolved": True,
        "tokens_min": 2**17,
        "tokens_max": 2**20,
        "samples": samples.tolist(),
        "power_law": {
            "batch_exponent": q,
            "lr_exponent": p,
            "log2_batch_at_base": log_batch,
            "log2_lr_at_base": log_lr,
        },
    }
    return {"optimizer": optimizer, "plan": plan | changes, "constants": None}


@pytest.fixture
def results(tmp_path):
    def write(*entries, experiment="batch"):
        (tmp_path / "fits" / experiment).mkdir(parents=True, exist_ok=True)
        fit = {"experiment": experiment, "confidence": 0.95, "optimizers": list(entries)}
        (tmp_path / "fits" / experiment / "batch_scaling.json").write_text(json.dumps(fit))
        return tmp_path

    return write


def test_a_fit_gives_base_power_law_and_intervals(results):
    found = rows("plan", "--tokens", 2**23, "--results", results(entry()))
    assert found["bst"]["exact"]["batch_size"] == pytest.approx(16 * 4)
    assert found["bst"]["rounded"]["momentum"] == 0.2
    law = found["power-law"]
    assert law["exact"]["batch_size"] == pytest.approx(16 * 8**0.6)
    assert law["exact"]["lr"] == pytest.approx(2**-6 * 8**-0.3)
    interval = law["interval"]
    assert interval["batch_size_low"] < law["exact"]["batch_size"] < interval["batch_size_high"]
    assert interval["lr_low"] < law["exact"]["lr"] < interval["lr_high"]
    # log₂ of either at T has the standard deviation 0.02·√(1 + log₂(r)²).
    width = np.log2(interval["batch_size_high"] / interval["batch_size_low"])
    assert width == pytest.approx(2 * 1.96 * 0.02 * np.sqrt(1 + 9), rel=0.15)
    assert found["bst"]["interval"] is None
    text = invoke("plan", "--tokens", 2**23, "--results", results(entry())).stdout
    assert "power-law: 95% interval: batch size" in text


def test_without_resamples_there_is_no_interval_and_without_a_law_no_rule(results):
    assert rows("plan", "--tokens", 2**23, "--results", results(entry(samples=[])))["power-law"]["interval"] is None
    done = invoke("plan", "--tokens", 2**23, "--results", results(entry(samples=[], power_law=None)))
    assert "power-law" not in done.stdout
    assert "the fit of 'scion' has no free power law" in done.stderr


def test_given_base_options_replace_the_fitted_ones_but_not_the_law(results):
    plain = rows("plan", "--tokens", 2**23, "--results", results(entry()))
    given = rows("plan", "--tokens", 2**23, "--results", results(entry()), "--base-batch", 32, "--base-momentum", 0.5)
    assert given["no-change"]["rounded"]["batch_size"] == 32
    assert given["no-change"]["rounded"]["momentum"] == 0.5
    assert given["power-law"]["exact"]["batch_tokens"] == plain["power-law"]["exact"]["batch_tokens"]


def test_momentum_may_be_unknown(results):
    base = entry()["plan"]["base"] | {"momentum": None}
    found = rows("plan", "--tokens", 2**23, "--results", results(entry(base=base)))
    assert found["bst"]["rounded"]["momentum"] is None


def test_the_optimizer_is_chosen(results):
    folder = results(entry("scion"), entry("adam"))
    assert refused("plan", "--tokens", "1e7", "--results", folder).endswith("choose one of adam, scion")
    message = refused("plan", "--tokens", "1e7", "--results", folder, "--only-optimizer", "scoin")
    assert "only-optimizer: 'scoin' is not known (did you mean 'scion'?)" in message
    done = invoke("plan", "--tokens", "1e7", "--results", folder, "--only-optimizer", "adam")
    assert "AdamW:" not in done.stderr


def test_the_optimizer_was_called_otherwise_before(results):
    folder = results(entry("scion"), entry("adam"))
    command = ("plan", "--tokens", "1e7", "--results", folder, "--json")
    today, before = (invoke(*command, option, "scion").stdout for option in ("--only-optimizer", "--optimizer"))
    assert before == today != invoke(*command, "--only-optimizer", "adam").stdout
    both = refused(*command, "--only-optimizer", "scion", "--optimizer", "adam")
    assert both == "only-optimizer: 'scion' and --optimizer 'adam' are two; name one"
    said = invoke("plan", "--help").stdout
    assert ("--only-optimizer" in said, " --optimizer" in said) == (True, False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"at_edge": True, "resolved": False}, "the base point of 'scion' lies at the edge of its grid"),
        ({"resolved": False}, "the base point of 'scion' is not resolved"),
        ({"tokens_max": 2**19}, "8.389e+06 tokens are 16 times the largest budget measured (5.243e+05)"),
    ],
)
def test_a_weak_fit_is_said(results, changes, expected):
    assert expected in invoke("plan", "--tokens", 2**23, "--results", results(entry(**changes))).stderr


def test_measured_constants_are_used_and_unusable_ones_said(results):
    measured = {"kappa_batch_exponent": 0.3, "kappa_batch_shift": 4.0}
    found = rows("plan", "--tokens", 2**23, "--results", results(entry() | {"constants": measured}))
    expected = KappaBst(exponent=0.3, shift=4.0).predict(Point(2**20, 16, 64, 2**-6), 2**23)
    assert found["bst-kappa"]["exact"]["batch_tokens"] == pytest.approx(expected.batch_tokens)
    done = invoke(
        "plan",
        "--tokens",
        2**23,
        "--results",
        results(entry() | {"constants": measured | {"kappa_batch_exponent": 1.6}}),
    )
    assert done.exit_code == 0
    assert "bst-kappa is left out for the measured κ(B): kappa-batch-exponent: 1.6 is not allowed" in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "there is no batch_scaling.json in a folder of"),
        ("not JSON", "is not a batch-scaling fit"),
        ("[]", "is not a batch-scaling fit"),
        ('{"optimizers": []}', "holds no optimizer"),
        ('{"optimizers": [{"optimizer": "scion", "plan": null}]}', "has no base point for 'scion'"),
        ('{"optimizers": [{"optimizer": "scion", "plan": {"base": {}}}]}', "the entry of 'scion' in"),
    ],
)
def test_a_file_that_is_no_fit_is_named(text, expected, tmp_path):
    (tmp_path / "fits" / "batch").mkdir(parents=True)
    if text is not None:
        (tmp_path / "fits" / "batch" / "batch_scaling.json").write_text(text)
    with pytest.raises(UserError, match=expected):
        read_evidence(tmp_path, None)


def test_several_experiments_are_told_apart_by_optimizer_or_name(results):
    results(entry(), entry("adam"))
    folder = results(entry("muon"), experiment="batch-muon")
    assert read_evidence(folder, "muon").optimizer == "muon"
    assert read_evidence(folder, "adam").optimizer == "adam"
    assert read_evidence(folder, None, "batch-muon").optimizer == "muon"
    with pytest.raises(UserError, match=r"experiment: .* holds several fits; choose one of batch, batch-muon"):
        read_evidence(folder, None)
    with pytest.raises(UserError, match=r"'.*fits/bacth/batch_scaling.json' cannot be read: No such file"):
        read_evidence(folder, None, "bacth")


# Input


@pytest.mark.parametrize(
    ("text", "value"),
    {
        "10.6e9": 10.6e9,
        "10.6B": 10.6e9,
        "300M": 3e8,
        "124m": 1.24e8,
        "2^20": 2**20,
        "2**20": 2**20,
        "1T": 1e12,
        "16k": 16e3,
        " 1_000 ": 1000,
        "3.6e-4": 3.6e-4,
        ".5": 0.5,
        "-2": -2,
    }.items(),
)
def test_numbers_are_read(text, value):
    assert number("tokens", text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "text", ["", "many", "1e9X", "1,000", "2^", "2^^3", "0x10", "9^999", "1.2.3", "inf", "nan", "1e999"]
)
def test_what_is_no_number_is_refused(text):
    with pytest.raises(UserError, match=r"tokens: .* is not a (finite )?number"):
        number("tokens", text)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--tokens", "0"], "tokens: '0' is not allowed; it must be above 0"),
        (["--tokens", "-1e9"], "tokens: '-1e9' is not allowed; it must be above 0"),
        (["--tokens", "inf"], "tokens: 'inf' is not a finite number"),
        (["--tokens", "lots"], "tokens: 'lots' is not a number; write it like 10.6e9, 10.6B, 300M or 2^33"),
        (["--base-batch", "0"], "base-batch: '0' is not allowed"),
        (["--base-seq", "x"], "base-seq: 'x' is not a number"),
        (["--base-lr", "-1"], "base-lr: '-1' is not allowed"),
        (["--base-momentum", "1.5"], "base-momentum: 1.5 is not allowed; the weight of the new gradient is at most 1"),
        (["--round", "0"], "round: '0' is not allowed; it must be pow2 or a positive whole number, or floor: and"),
        (["--round", "floor:0"], "round: 'floor:0' is not allowed; it must be pow2 or a positive whole number"),
        (["--round", "floor:"], "round: 'floor:' is not allowed; it must be pow2 or a positive whole number"),
        (["--round", "floor:floor:8"], "round: 'floor:floor:8' is not allowed"),
        (["--round", "ceil:8"], "round: 'ceil:8' is not allowed"),
        (["--round", "pow3"], "round: 'pow3' is not allowed"),
        (["--mu-ratio", "0"], "mu-ratio: '0' is not allowed"),
        (["--params", "-1"], "params: '-1' is not allowed"),
        (["--kappa-batch-exponent", "1.5"], "kappa-batch-exponent: 1.5 is not allowed"),
        (
            ["--kappa-batch-exponent", "1", "--kappa-batch-shift", "-90"],
            "kappa-batch-shift: -90 is not allowed for a",
        ),
        (
            ["--kappa-batch-exponent", "0.1", "--kappa-batch-shift", "-256"],
            "kappa-batch-shift: -256 is not allowed for a base of 256 sequences; it must be above -238.9",
        ),
        (
            ["--kappa-batch-exponent", "0.1", "--kappa-batch-shift", "-200", "--tokens", "1e5"],
            "kappa-batch-shift: -200 is not allowed for 1e+05 tokens; it must be nearer to 0, or the tokens above",
        ),
        (["--kappa-batch-exponent", "0.1", "--kappa-batch-shift", "x"], "kappa-batch-shift: 'x' is not a number"),
        (["--kappa-ratio", "0"], "kappa-ratio: '0' is not allowed; it must be above 0"),
        (["--kappa-batch-shift", "1"], "kappa-batch-shift: 1 says nothing without kappa-batch-exponent"),
        (["--kappa-batch-exponent", "1.4999", "--tokens", "1e30"], "is out of reach of rule 'bst-kappa'"),
        (["--only-optimizer", "scion"], "only-optimizer: 'scion' chooses among the fits of --results"),
        (["batch"], "experiment: 'batch' chooses among the fits of --results"),
        (["--results", "nowhere"], "results: there is no batch_scaling.json in a folder of 'nowhere/fits'"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, expected):
    assert expected in refused(*WORKED, *arguments)


def test_the_experiment_and_the_results_have_two_names_each(results):
    folder, tokens = results(entry()), ("--tokens", 2**23)
    results(entry(plan=None), experiment="other")
    expected = rows("plan", "batch", *tokens, "--results", folder)
    assert rows("plan", "batch", *tokens, "--from", folder) == expected
    assert rows("plan", "--experiment", "batch", *tokens, "--results", folder) == expected
    assert refused("plan", *tokens, "--results", folder).endswith("choose one of batch, other")


def test_fits_of_runs_in_a_bucket_are_read_where_they_were_written(results, tmp_path, monkeypatch):
    folder = results(entry())
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "results" / "s3" / "bucket" / "prefix"
    elsewhere.mkdir(parents=True)
    (folder / "fits").rename(elsewhere / "fits")
    assert (
        invoke("plan", "--tokens", 2**23, "--results", "s3://bucket/prefix?region=us-east-1", "--json").exit_code == 0
    )


def test_a_base_point_is_needed():
    assert refused(*WORKED[:-2]).startswith("base-lr: is missing; give all of")


def test_from_the_shell(clean_environment, tmp_path):
    def scionlab(*arguments):
        command = [sys.executable, "-m", "scionlab", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=clean_environment, cwd=tmp_path, check=False)

    done = scionlab(*WORKED, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rules"][0]["rounded"]["batch_size"] == 1024
    done = scionlab(*WORKED, "--tokens", "0")
    assert done.returncode == 2
    assert done.stderr == "error: tokens: '0' is not allowed; it must be above 0\n"


def test_no_change_says_so():
    assert NO_CHANGE.predict(BASE, T1).batch_tokens == BASE.batch_tokens
    assert BASE.steps == pytest.approx(1.3e9 / 2**18)


# The published predictions of arXiv 2603.21191 start from this run, with κ ∝ (B − 9.4)^0.1.
PUBLISHED = Point(1.337e9, 256, 1024, 3.6e-4)
FROM_PUBLISHED = ["--base-tokens", "1.337e9", "--base-batch", "256", "--base-seq", "1024", "--base-lr", "3.6e-4"]
FROM_PUBLISHED += ["--round", "floor:32"]
SHIFTED = ["--kappa-batch-exponent", "0.1", "--kappa-batch-shift", "-9.4"]
# Their table 3: L 7.2 → 10.6, μ 3.1 → 2.9, κ 62.7 → 111.9.
MU, L, KAPPA = 2.9 / 3.1, 10.6 / 7.2, 111.9 / 62.7


@pytest.mark.parametrize(
    ("growth", "exact", "floored", "lr"), [(2, 420.5, 416, 3.0e-4), (4, 690.3, 672, 2.4e-4), (6, 922.4, 896, 2.1e-4)]
)
def test_the_published_batches_with_kappa_and_a_negative_shift(growth, exact, floored, lr):
    rule = rows("plan", "--tokens", growth * 1.337e9, *FROM_PUBLISHED, *SHIFTED)["bst-kappa"]
    assert rule["exact"]["batch_size"] == pytest.approx(exact, abs=0.05)
    assert int(rule["exact"]["batch_size"]) == int(exact)  # as the paper prints it
    assert rule["rounded"]["batch_size"] == floored
    assert rule["rounded"]["lr"] == pytest.approx(lr, rel=0.05)  # printed with two digits


def test_the_published_1b_run_follows_from_the_ratios_of_all_three_constants():
    ratios = ["--mu-ratio", MU, "--l-ratio", L, "--kappa-ratio", KAPPA]
    rule = rows("plan", "--tokens", "10.8e9", *FROM_PUBLISHED, *ratios)["bst"]
    assert rule["exact"]["batch_size"] == pytest.approx(1120.8, abs=0.05)
    assert rule["rounded"]["batch_size"] == 1120
    assert f"{rule['rounded']['lr']:.2e}" == "1.95e-04"
    without = rows("plan", "--tokens", "10.8e9", *FROM_PUBLISHED, *ratios[:4])["bst"]
    assert without["exact"]["batch_size"] == pytest.approx(761.7, abs=0.05)


def test_the_ratio_of_kappa_multiplies_like_that_of_mu():
    for name in ("--mu-ratio", "--kappa-ratio"):
        found = rows(*WORKED, *SHIFTED, name, 2)
        plain = rows(*WORKED, *SHIFTED)
        assert {rule for rule in plain if plain[rule] != found[rule]} == {"bst", "bst-kappa", "sqrt"}
        assert found["sqrt"]["growth"] == found["bst"]["growth"]
        assert found["bst"]["growth"] == pytest.approx(plain["bst"]["growth"] * 2 ** (2 / 3))
        # With κ(B) it is one more factor beside κ(B₁)/κ(B₀).
        batch = found["bst-kappa"]["exact"]["batch_size"]
        kappa = ((batch - 9.4) / (256 - 9.4)) ** 0.1
        assert batch == pytest.approx(256 * (10.6 / 1.3 * 2 * kappa) ** (2 / 3))


@settings(deadline=None)
@given(
    exponent=st.floats(-2, 1.4),
    share=st.floats(0.001, 0.98),
    batch=st.floats(1, 1e4),
    ratio=ratios,
    constants=st.floats(0.1, 10),
)
def test_a_negative_shift_is_solved_above_the_smallest_batch_or_refused(exponent, share, batch, ratio, constants):
    shift = -batch * share * (1 - 2 / 3 * max(exponent, 0.0))
    rule = KappaBst(exponent=exponent, shift=shift, constants=constants)
    base = Point(1e9, batch, 1024, 1e-3)
    assert rule.smallest_batch == pytest.approx(share * batch)
    try:
        setting = rule.predict(base, ratio * 1e9)
    except UserError as error:
        assert exponent >= 0
        assert ratio * constants < 1
        enough = float(str(error).rpartition(" ")[2])  # printed with four digits
        assert ratio * 1e9 < 1.001 * enough
        assert rule.batch_tokens(base, 1.001 * enough) > 0
        return
    found = float(setting.batch_tokens) / 1024
    assert found >= rule.smallest_batch * (1 - 1e-9)
    assert rule.batch_tokens(base, 2 * ratio * 1e9) > setting.batch_tokens * (1 - 1e-9)
    assert setting.lr == pytest.approx(1e-3 * found / batch / ratio)
    # Close to −shift κ(B) cannot be computed from a rounded B.
    if found + shift > 1e-6 * found:
        kappa = ((found + shift) / (batch + shift)) ** exponent
        assert found == pytest.approx(batch * (ratio * constants * kappa) ** (2 / 3), rel=1e-6)


@settings(deadline=None)
@given(exponent=st.floats(-2, 1.4), share=st.floats(0.001, 0.98), first=ratios, second=ratios)
def test_with_a_negative_shift_two_steps_are_one(exponent, share, first, second):
    first, second = max(first, 1.0), max(second, 1.0)  # there is always a solution
    rule = KappaBst(exponent=exponent, shift=-256 * share * (1 - 2 / 3 * max(exponent, 0.0)))
    assert rule.batch_tokens(BASE, BASE.tokens) == pytest.approx(BASE.batch_tokens)
    middle = rule.predict(BASE, first * BASE.tokens)
    assume(middle.batch_tokens < 1e15)
    there = Point(first * BASE.tokens, middle.batch_tokens / 1024, 1024, middle.lr)
    direct = rule.batch_tokens(BASE, first * second * BASE.tokens)
    assert rule.batch_tokens(there, first * second * BASE.tokens) == pytest.approx(direct, rel=1e-6)


def test_an_exponent_below_zero_has_a_solution_however_near_to_the_shift():
    # As B falls to −shift, κ rises without bound, so that any budget has a solution; here 200 to all digits.
    rule = KappaBst(exponent=-0.01, shift=-200.0)
    assert rule.batch_tokens(PUBLISHED, 1e5) == pytest.approx(200 * 1024)


@pytest.mark.parametrize("exponent", [0.0, 5e-324, 1e-12])
def test_a_tiny_exponent_is_as_good_as_none(exponent):
    rule = KappaBst(exponent=exponent, shift=-200.0)
    assert rule.batch_tokens(PUBLISHED, 8 * 1.337e9) == pytest.approx(4 * PUBLISHED.batch_tokens)
    assert rule.batch_tokens(PUBLISHED, 0.75 * 1.337e9) == pytest.approx(0.75 ** (2 / 3) * PUBLISHED.batch_tokens)
    with pytest.raises(UserError, match=r"-200 is not allowed for 6\.685e\+08 tokens"):  # its batch would be 161
        rule.batch_tokens(PUBLISHED, 0.5 * 1.337e9)


def test_a_shift_is_solved_for_every_resampled_base():
    batch = np.array([128.0, 256.0, 512.0])
    rule = KappaBst(exponent=0.1, shift=-9.4)
    many = rule.batch_tokens(Point(1e9, batch, 1024, 1e-3), 4e9)
    assert many == pytest.approx([rule.batch_tokens(Point(1e9, size, 1024, 1e-3), 4e9) for size in batch])
    with pytest.raises(UserError, match=r"-200 is not allowed for a base of 128 sequences; it must be above -119\.5"):
        KappaBst(exponent=0.1, shift=-200.0).batch_tokens(Point(1e9, batch, 1024, 1e-3), 4e9)


@pytest.mark.parametrize(
    ("multiple", "size", "rounded"),
    [
        (32, 928.7, 928),
        (32, 959.9, 928),
        (32, 31, 32),
        (32, 0.1, 32),
        (None, 1023.9, 512),
        (None, 1024, 1024),
        (None, 0.3, 1),
        (1, 8 ** (2 / 3), 4),  # a double just below 4
        (None, 8 ** (2 / 3), 4),
    ],
)
def test_batches_are_rounded_down_when_asked(multiple, size, rounded):
    assert Target(1e9, multiple, down=True).rounded(size) == rounded


@pytest.mark.parametrize(
    ("text", "rounded", "said"),
    [
        ("pow2", 1024, "rounded to a power of two"),
        ("floor:pow2", 1024, "rounded down to a power of two"),
        ("24", 1032, "rounded to a multiple of 24"),
        ("64", 1024, "rounded to a multiple of 64"),
        ("100", 1000, "rounded to a multiple of 100"),
        ("floor:1000", 1000, "rounded down to a multiple of 1000"),
        ("floor:40", 1000, "rounded down to a multiple of 40"),
        ("40", 1040, "rounded to a multiple of 40"),
    ],
)
def test_rounding_is_chosen_and_said(text, rounded, said):
    assert rows(*WORKED, "--round", text)["bst"]["rounded"]["batch_size"] == rounded  # of 1037
    assert said in " ".join(invoke(*WORKED, "--round", text).stdout.split())


def test_a_measured_kappa_without_a_solution_is_left_out_and_a_given_shift_refused(results):
    folder = results(entry() | {"constants": {"kappa_batch_exponent": 0.3, "kappa_batch_shift": -90}})
    done = invoke("plan", "--tokens", 2**23, "--results", folder)
    assert done.exit_code == 0
    assert "bst-kappa is left out for the measured κ(B): kappa-batch-shift: -90 is not allowed" in done.stderr
    message = refused("plan", "--tokens", 2**23, "--results", folder, "--kappa-batch-shift", -80)
    assert message.startswith(
        "kappa-batch-shift: -80 is not allowed for a base of 16 sequences; it must be above -12.8"
    )
    assert "bst-kappa" in rows("plan", "--tokens", 2**23, "--results", folder, "--kappa-batch-shift", -8)


def test_optimizers_whose_names_hold_a_comma_are_quoted(results):
    first, second = "adamw, 1,073,741,824 parameters", "adamw, 214,663,680 parameters"
    folder = results(entry(first), entry(second))
    choice = f"choose one of {first!r}, {second!r}"
    assert refused("plan", "--tokens", "1e7", "--results", folder).endswith(choice)
    assert refused("plan", "--tokens", "1e7", "--results", folder, "--only-optimizer", "x").endswith(choice)
    assert "bst" in rows("plan", "--tokens", "1e7", "--results", folder, "--only-optimizer", second)


def test_names_that_hold_a_comma_are_quoted_in_a_list():
    text = str(unknown("optimizer", "x", ["adamw, 1,073 parameters", "scion"]))
    assert text.endswith("choose one of 'adamw, 1,073 parameters', scion")
