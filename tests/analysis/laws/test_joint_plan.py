"""Plans over N and T: planted joint laws are given back, and what lies beyond them is said."""

import json

import numpy as np
import pandas as pd
import pytest
from planted_joint import RATIOS, SIZES, JointPlan, joint_runs, runs_of_depths
from typer.testing import CliRunner

from analysis.laws.joint import fit_joint
from analysis.laws.joint_evidence import read_joint
from analysis.laws.rules import JointRule, Point
from analysis.pipeline import _finite
from analysis.studies.joint_scaling.fit import fit_joint_scaling
from analysis.tables.sweep import SweepTables
from scionlab import plan
from scionlab.cli import app
from scionlab.errors import UserError

N, T = 2.0**27, 2.0**34  # inside the planted sizes and budgets, on no grid point
SHARED = {"momentum": 0.1, "weight_decay": 0.05, "beta2": 0.95}


def fitted(runs, **settings):
    tables = SweepTables({"settings": json.dumps(settings), "experiment": "x"}, pd.DataFrame(), runs, pd.DataFrame())
    return _finite(fit_joint_scaling(tables).as_dict())


@pytest.fixture(scope="module")
def document():
    """The fit of runs with a planted law: the rate needs N, the batch size does not."""
    return fitted(joint_runs(JointPlan(), quiet=0.25, seed=3, scatter=0.05, **SHARED))


@pytest.fixture
def results(document, tmp_path):
    return written(tmp_path, document)


def written(folder, document, experiment="joint", file="joint_scaling.json"):
    (folder / "fits" / experiment).mkdir(parents=True, exist_ok=True)
    (folder / "fits" / experiment / file).write_text(json.dumps(document))
    return folder


def batch_fit(*names, at_edge=False):
    base = {"tokens": 2**32, "batch_size": 100.0, "seq_len": 2048.0, "lr": 0.003, "momentum": 0.2}
    entry = {"base": base, "at_edge": at_edge, "resolved": True, "tokens_min": 2**30, "tokens_max": 2**32}
    entry |= {"samples": [], "power_law": None}
    return {"optimizers": [{"optimizer": name, "plan": entry, "constants": None} for name in names]}


def invoke(*arguments):
    return CliRunner().invoke(app, ["plan", *map(str, arguments)])


def refused(*arguments):
    done = invoke(*arguments)
    assert isinstance(done.exception, UserError), done.output
    assert "\n" not in str(done.exception)
    return str(done.exception)


def of_results(results, n_params=N, tokens=T, *more):
    return ("--params", n_params, "--tokens", tokens, "--from", results, *more)


def test_a_planted_law_is_given_back_within_its_intervals(results):
    made = plan(T, results=results, n_params=N, multiple=1)
    first = made.proposals[0]
    assert (first.rule.name, made.lead) == ("joint-law", "joint-law")
    lr, batch = (2**value for value in JointPlan().optimum(N, T))
    law, new = first.interval, first.new_optimum
    assert law.lr_low <= lr <= law.lr_high
    assert law.batch_size_low <= batch / 2048 <= law.batch_size_high
    assert (new.lr_low, new.lr_high) == (pytest.approx(lr, rel=0.4), pytest.approx(lr, rel=0.4))
    assert new.lr_high / new.lr_low > law.lr_high / law.lr_low
    assert new.batch_size_high / new.batch_size_low > law.batch_size_high / law.batch_size_low
    assert first.exact.batch_tokens == pytest.approx(batch, rel=0.1)
    assert first.exact.lr == pytest.approx(lr, rel=0.1)
    assert first.rounded.batch_size == round(first.exact.batch_size)
    assert first.rounded.steps == round(T / first.rounded.batch_tokens)
    # What has no law is what all runs had in common.
    assert {name: getattr(first.rounded, name) for name in SHARED} == pytest.approx(SHARED | {"beta2": 0.95})
    assert "N is not needed for batch size" in first.rule.note
    assert "optima read by 'profile'" in first.rule.note


def test_the_base_is_the_nearest_optimum_and_said(results, document):
    made = plan(T, results=results, n_params=N)
    places = document["sources"][0]["optima"]
    near = min(places, key=lambda at: np.hypot(np.log2(at["n_params"] / N), np.log2(at["tokens"] / T)))
    assert (made.base.n_params, made.base.tokens, made.base.lr) == (near["n_params"], near["tokens"], near["lr"])
    assert made.base.batch_tokens == pytest.approx(near["batch_tokens"])
    said = f"base: the optimum at {near['n_params']:.4g} parameters and {near['tokens']:.4g} tokens"
    assert made.origin.startswith(said)
    assert said in invoke(*of_results(results)).stdout
    assert not any("joint-law" in text for text in made.warnings)  # inside of what was measured
    (blind,) = (text for text in made.warnings if "do not know sizes" in text)
    assert "bst, no-change, sqrt, norm, steplaw" in blind
    assert "deepseek" not in blind


def test_what_lies_beyond_is_said_in_both_axes_with_numbers(results):
    largest, longest = 2.0**28, 300 * 2.0**28
    far = plan(5 * longest, results=results, n_params=3 * largest)
    joint = [text for text in far.warnings if text.startswith("joint-law")]
    assert joint[0].startswith(f"joint-law: {3 * largest:.4g} parameters are 3 times the largest size of the joint law")
    assert joint[1].startswith(f"joint-law: {5 * longest:.4g} tokens are 5 times the largest budget of the joint law")
    assert far.lead == "joint-law"
    assert plan(T, results=results, n_params=11 * largest).lead is None
    assert plan(11 * longest, results=results, n_params=N).lead is None
    small = plan(8 * 2.0**24 / 4, results=results, n_params=2.0**23).warnings
    assert any("parameters are 2 times less than its smallest size (1.678e+07)" in text for text in small)
    assert any("tokens are 4 times less than its smallest budget" in text for text in small)


def test_the_document_is_json_and_holds_all(results):
    done = invoke(*of_results(results, N, T, "--json"))
    assert done.exit_code == 0, done.exception
    document = json.loads(done.stdout)
    made = plan(T, results=results, n_params=N)
    assert document == json.loads(json.dumps(made.as_dict(), allow_nan=False))
    assert (document["lead"], document["n_params"], document["joint"]["reading"]) == ("joint-law", int(N), "profile")
    assert document["joint"]["measured"]["n_params"] == pytest.approx([2.0**24, 2.0**28])
    assert document["joint"]["n_part"] == {"lr": "needed", "batch_tokens": "not needed"}
    first = document["rules"][0]
    assert first["new_optimum"]["lr_low"] < first["interval"]["lr_low"] < first["exact"]["lr"]
    for each in document["spread"]:
        exact = {row["rule"]: row["exact"][each["quantity"]] for row in document["rules"]}
        assert (each["low"], each["high"]) == (min(exact.values()), max(exact.values()))
        assert exact[each["lowest"]] == each["low"]
        assert each["factor"] == pytest.approx(each["high"] / each["low"])
    assert f"spread of {len(document['rules'])} rules: tokens a step from" in invoke(*of_results(results)).stdout


def test_the_sheet_starts_with_the_law_where_it_holds(results, tmp_path):
    sheet = tmp_path / "launch.md"
    done = invoke(*of_results(results, N, T, "--sheet", sheet))
    assert f"written: {sheet}" in done.stdout
    text = sheet.read_text()
    assert text == plan(T, results=results, n_params=N).sheet()
    assert text.startswith("# Launch sheet: 1.342e+08 parameters, 1.718e+10 tokens (planted)")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Launch with: joint-law",
        "## How far the rules are apart",
        "## Every rule",
        "## What to distrust",
    ]
    for row in (
        "batch size",
        "sequence length",
        "peak learning rate",
        "momentum",
        "weight decay λ | 0.05",
        "β₂ | 0.95",
    ):
        assert f"\n| {row}" in text
    assert "warmup, schedule, ε, clipping | no rule says" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} <= {6, 12, 5}


def test_the_sheet_recommends_nothing_far_away(results):
    text = plan(T, results=results, n_params=2.0**32).sheet()
    assert text.index("## No recommendation") < text.index("## Every rule") < text.index("## joint-law")
    assert "No law fitted to your runs is near this size and budget; the rules are spread over ×" in text
    alone = plan(2e10, n_params=1e9).sheet()
    assert "No law was fitted to your runs" in alone
    assert "Launch with" not in alone


def test_of_n_and_t_alone_there_are_the_absolute_laws():
    made = plan(2e10, n_params=1e9)
    step, deep = made.proposals
    assert step.exact.batch_tokens == pytest.approx(0.58 * 2e10**0.571)
    assert step.exact.lr == pytest.approx(1.79 * 1e9**-0.713 * 2e10**0.307)
    assert deep.exact.batch_tokens == pytest.approx(0.2920 * (6e9 * 2e10) ** 0.3271)
    assert deep.exact.lr == pytest.approx(0.3118 * (6e9 * 2e10) ** -0.125)
    assert (step.rounded.batch_size, step.rounded.seq_len) == (256, 2048)
    assert made.base is None
    assert step.growth is None
    assert any("2048 tokens are taken" in text for text in made.warnings)
    done = invoke("--params", "1e9", "--tokens", "2e10", "--json")
    assert json.loads(done.stdout) == made.as_dict()
    shown = invoke("--params", "1e9", "--tokens", "2e10", "--base-seq", "1024")
    assert shown.exit_code == 0
    assert "growth" not in shown.stdout
    assert "sequence length" not in shown.stderr
    longer = plan(2e10, {"seq_len": 1024}, n_params=1e9).proposals[0]
    assert longer.exact.batch_tokens == step.exact.batch_tokens
    assert longer.exact.batch_size == 2 * step.exact.batch_size
    assert [p.rule.name for p in plan(2e10, n_params=1e9, rules="deepseek-absolute").proposals] == ["deepseek-absolute"]


def test_with_both_fits_the_base_is_that_of_the_nearest_size_unless_at_its_edge(results):
    sizes = ("planted, 20,000,000 parameters", "planted, 200,000,000 parameters")
    written(results, batch_fit(*sizes), file="batch_scaling.json")
    made = plan(T, results=results, n_params=N)
    assert (made.base.n_params, made.base.lr, made.optimizer) == (2e8, 0.003, sizes[1])
    assert (
        made.origin
        == f"base: the batch-scaling fit of {sizes[1]!r}, 2e+08 parameters, the nearest size with a base point"
    )
    assert made.proposals[0].rule.name == "joint-law"
    assert refused("--tokens", T, "--from", results).endswith(f"choose one of {', '.join(map(repr, sorted(sizes)))}")
    written(results, batch_fit(*sizes, at_edge=True), file="batch_scaling.json")
    assert plan(T, results=results, n_params=N).origin.startswith("base: the optimum at")


def test_without_a_joint_fit_the_nearest_size_is_the_base(tmp_path):
    folder = written(
        tmp_path, batch_fit("scion, 1,000 parameters", "scion, 1,000,000 parameters"), file="batch_scaling.json"
    )
    made = plan(2.0**33, results=folder, n_params=4e5)
    assert (made.base.n_params, made.lead) == (1e6, None)
    assert "joint-law" not in [p.rule.name for p in made.proposals]
    named = plan(2.0**33, results=folder, n_params=4e5, optimizer="scion, 1,000 parameters")
    assert named.base.n_params == 1e3
    written(tmp_path, batch_fit("scion, 1,000 parameters", "adam, 10 parameters"), file="batch_scaling.json")
    with pytest.raises(UserError, match="choose one of"):
        plan(2.0**33, results=folder, n_params=4e5)
    assert plan(2.0**33, results=folder, n_params=4e5, optimizer="scion").base.n_params == 1e3


def test_a_power_law_of_one_size_leads_at_that_size_near_its_budgets(tmp_path):
    fit = batch_fit("scion, 1,000 parameters", "scion, 9,000 parameters")
    law = {"batch_exponent": 0.6, "lr_exponent": -0.3, "log2_batch_at_base": 17.6, "log2_lr_at_base": -8.4}
    for entry in fit["optimizers"]:
        entry["plan"]["power_law"] = law
    folder = written(tmp_path, fit, file="batch_scaling.json")
    near, other, far = (
        plan(tokens, results=folder, optimizer="scion, 1,000 parameters", n_params=n_params)
        for tokens, n_params in ((2.0**34, 1e3), (2.0**34, 2e3), (2.0**36, 1e3))
    )
    assert (near.lead, other.lead, far.lead) == ("power-law", None, None)
    assert "## Launch with: power-law" in near.sheet()
    assert plan(2.0**34, results=folder, optimizer="scion, 1,000 parameters").lead == "power-law"


def test_given_base_values_replace_measured_ones(results):
    made = plan(T, {"weight_decay": 0.2, "seq_len": 1024}, results=results, n_params=N)
    plain = plan(T, results=results, n_params=N)
    assert (made.base.weight_decay, made.base.seq_len) == (0.2, 1024)
    assert made.base.batch_tokens == pytest.approx(plain.base.batch_tokens)
    assert made.proposals[0].exact.batch_tokens == plain.proposals[0].exact.batch_tokens
    assert made.origin == f"{plain.origin}; given values replace its own"
    whole = {"tokens": 1e9, "batch_size": 64, "seq_len": 2048, "lr": 1e-3}
    assert plan(T, whole, results=results, n_params=N).origin == ""
    only = plan(T, results=results, n_params=N, rules=["joint-law", "bst"])
    assert [p.rule.name for p in only.proposals] == ["joint-law", "bst"]


def test_a_fit_of_rates_alone_keeps_the_batch_of_the_base(tmp_path):
    runs = joint_runs(JointPlan(batch=(0.0, 0.0)), seed=1, batches=0)
    folder = written(tmp_path, fitted(runs))
    made = plan(2.0**33, results=folder, n_params=N)
    first = made.proposals[0]
    assert first.growth == 1
    assert first.interval.batch_size_low is None
    assert first.interval.lr_low < first.exact.lr < first.interval.lr_high
    assert first.interval.text().startswith("lr ")


def test_an_older_fit_without_optima_plans_without_a_base(results, document):
    old = {"sources": [{name: value for name, value in document["sources"][0].items() if name != "optima"}]}
    made = plan(T, results=written(results, old), n_params=N)
    assert made.base is None
    assert [p.rule.name for p in made.proposals] == ["joint-law", "steplaw-absolute", "deepseek-absolute"]


def test_the_rule_is_its_laws():
    n, t = (grid.ravel() for grid in np.meshgrid([1e7, 1e8, 1e9], [1e9, 1e10, 1e11]))
    rates = 3.0 * n**-0.5 * t**0.25
    laws = {"lr": fit_joint("lr", rates, {"n_params": n, "tokens": t})}
    laws["momentum"] = fit_joint("momentum", 0.01 * t**0.1, {"n_params": n, "tokens": t})
    rule, base = JointRule.of(laws).for_size(4e8), Point(1e9, 64, 1024, 1e-3, weight_decay=0.1)
    setting = rule.predict(base, 5e10)
    assert setting.lr == pytest.approx(3.0 * 4e8**-0.5 * 5e10**0.25)
    assert setting.momentum == pytest.approx(0.01 * 5e10**0.1)
    assert (setting.batch_tokens, setting.weight_decay) == (base.batch_tokens, 0.1)
    assert rule.title == "lr = 3 N^-0.500 T^0.250, α = 0.01 N^0.000 T^0.100"
    assert not rule.absolute
    with pytest.raises(UserError, match="params: is missing"):
        JointRule.of(laws).predict(base, 5e10)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--tokens", "1e9"],
            "base-tokens: is missing; give all of --base-tokens, --base-batch, --base-seq and --base-lr",
        ),
        (["--tokens", "1e9", "--params", "0"], "params: '0' is not allowed; it must be above 0"),
        (["--tokens", "1e9", "--params", "1e9", "--base-lr", "1"], "base-tokens: is missing; give all of"),
        (
            ["--tokens", "1e9", "--params", "1e9", "--rules", "bst"],
            "rules: 'bst' starts from a base, which is not given",
        ),
        (["--tokens", "1e9", "--params", "1e9", "--rules", "joint-law"], "rules: 'joint-law' needs --results with a"),
        (["--tokens", "1e9", "--params", "1e9", "--rules", "bts"], "rules: 'bts' is not known"),
        (["--tokens", "1e9", "--params", "1e9", "--kappa-batch-exponent", "1"], "kappa-batch-exponent: says nothing"),
        (
            ["--tokens", "1e9", "--params", "1e9", "--from", "nowhere"],
            "results: there is neither a batch_scaling.json nor",
        ),
        (
            ["--tokens", "1e9", "--params", "1e9", "--sheet", "no/such/x.md"],
            "sheet: 'no/such/x.md' cannot be written: No",
        ),
    ],
)
def test_a_mistake_is_one_sentence(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(*arguments).startswith(said)


def test_a_joint_fit_alone_needs_the_size_and_the_source(results, document):
    assert refused("--tokens", "1e9", "--from", results).startswith("params: is missing; ")
    assert "only-optimizer: 'plan' is not known" in refused(*of_results(results, N, T, "--only-optimizer", "plan"))
    other = {"sources": [*document["sources"], document["sources"][0] | {"source": "muon"}]}
    assert refused(*of_results(written(results, other))).endswith("holds several; choose one of muon, planted")
    assert plan(T, results=results, n_params=N, optimizer="muon").optimizer == "muon"
    written(results, document, experiment="again")
    assert "holds several joint fits; choose one of again, joint" in refused(*of_results(results))
    assert plan(T, results=results, n_params=N, experiment="again").joint.experiment == "again"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("[]", "is not a joint-scaling fit"),
        ('{"sources": [{"source": "a", "reading": "profile", "laws": []}]}', "has no law of the learning rate for 'a'"),
        ('{"sources": [{"source": "a"}]}', "the entry of 'a' in .* is damaged"),
        ('{"sources": []}', "holds no source"),
    ],
)
def test_a_file_that_is_no_fit_is_named(document, said, tmp_path):
    (tmp_path / "fits" / "joint").mkdir(parents=True)
    (tmp_path / "fits" / "joint" / "joint_scaling.json").write_text(document)
    with pytest.raises(UserError, match=said):
        read_joint(tmp_path, None)


@pytest.fixture(scope="module")
def of_depths():
    """The fit of runs whose best rate falls as depth^(-1/2), at depths 4, 8 and 16 of every size."""
    few = {"sizes": SIZES[[0, 2, 3]], "ratios": RATIOS[:3], "rates": 2, "batches": 1}
    return fitted(runs_of_depths((4, 8, 16), -0.5, quiet=0.25, seed=5, **few))


def test_a_planted_law_with_a_term_of_depth_is_given_back_at_the_depth_that_is_asked_for(of_depths, tmp_path):
    folder = written(tmp_path, of_depths)
    shallow, deep = (plan(T, results=folder, n_params=N, depth=depth) for depth in (6, 12))
    for made, depth in ((shallow, 6), (deep, 12)):
        first, truth = made.proposals[0], 2 ** (JointPlan().optimum(N, T)[0] - 0.5 * np.log2(depth / 8))
        assert first.rule.name == made.lead == "joint-law"
        assert first.interval.lr_low <= truth <= first.interval.lr_high
        assert first.exact.lr == pytest.approx(truth, rel=0.1)
        assert "depth^-0." in first.rule.title
    assert deep.proposals[0].exact.lr / shallow.proposals[0].exact.lr == pytest.approx(2**-0.5, rel=0.05)
    # The base is of the nearest depth, too.
    near = [place for place in of_depths["sources"][0]["optima"] if place["depth"] == 16]
    assert plan(T, results=folder, n_params=N, depth=20).base.lr in [place["lr"] for place in near]


def test_depth_is_asked_for_shown_and_held_against_what_was_measured(of_depths, tmp_path):
    folder = written(tmp_path, of_depths)
    said = refused(*of_results(folder))
    assert said == "depth: is missing; the joint law has a term of the depth of the large network"
    assert refused(*of_results(folder, N, T, "--depth", "0")).startswith("depth: '0' is not allowed")
    assert invoke(*of_results(folder, N, T, "--rules", "bst")).exit_code == 0  # no law of depth is asked for
    done = invoke(*of_results(folder, N, T, "--depth", "48", "--width", "1024", "--json"))
    document = json.loads(done.stdout)
    assert (document["depth"], document["width"], document["lead"]) == (48, 1024, "joint-law")
    assert document["joint"]["measured"]["depth"] == [4, 16]
    far = "joint-law: depth 48 is 3 times the largest depth of the joint law (16)"
    assert any(text.startswith(far) for text in document["warnings"])
    assert "width 1024 is not used: no rule here has a term of it" in document["warnings"]
    assert plan(T, results=folder, n_params=N, depth=161).lead is None
    title = "# Launch sheet: 1.342e+08 parameters, depth 12, 1.718e+10 tokens (planted)"
    assert plan(T, results=folder, n_params=N, depth=12).sheet().startswith(title)
