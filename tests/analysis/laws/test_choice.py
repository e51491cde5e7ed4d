"""Which rules a plan is made by, and what it says of those that it cannot use."""

import json

import pytest
from typer.testing import CliRunner

from analysis.laws.choice import choose_rules
from analysis.laws.plan import Target, make_plan
from analysis.laws.rules import ABSOLUTE, RIVALS, RULES, AbsoluteStepLaw, Certainty, OfSize, Point
from scionlab.cli import app
from scionlab.errors import UserError

WORKED = ["plan", "--tokens", "10.6e9", "--base-tokens", "1.3e9", "--base-batch", "256", "--base-seq", "1024"]
WORKED += ["--base-lr", "3.6e-4"]
DECAY, BETA2 = ("--base-weight-decay", "0.1"), ("--base-beta2", "0.95")


def invoke(*arguments):
    return CliRunner().invoke(app, [*WORKED, *map(str, arguments)])


def rows(*arguments):
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.exception
    return {row["rule"]: row for row in json.loads(done.stdout)["rules"]}


def refused(*arguments):
    done = invoke(*arguments)
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


def test_what_is_known_of_the_base_adds_the_rules_that_move_it():
    main = list(RULES)
    assert list(rows()) == main
    assert list(rows(*DECAY)) == [*main, "power-lines", "timescale", "nanochat"]
    assert list(rows(*BETA2)) == [*main, "delphi"]
    assert list(rows(*DECAY, *BETA2)) == [*main, "sde", "power-lines", "timescale", "nanochat", "delphi"]
    assert [rule.name for rule in choose_rules(base=Point(1e9, 1, 1, 1.0))] == main


def test_named_rules_come_in_the_usual_order_whatever_else_is_known():
    assert list(rows("--rules", "fw-gap, bst")) == ["bst", "fw-gap"]
    assert list(rows("--rules", "steplaw-absolute,no-change", "--params", "1e9")) == ["no-change", "steplaw-absolute"]
    assert rows("--rules", "bst", "--mu-ratio", 2)["bst"]["growth"] == rows("--mu-ratio", 2)["bst"]["growth"]


def test_all_are_those_that_can_be_used_and_the_others_are_said():
    done = invoke("--rules", "all")
    moved = {"sde", "power-lines", "timescale", "nanochat", "delphi", "steplaw-absolute"}
    assert set(rows("--rules", "all")) == {*RULES, *RIVALS} - moved
    assert "sde is left out: it needs --base-weight-decay and --base-beta2" in done.stderr
    assert "steplaw-absolute is left out: it needs --params" in done.stderr
    assert set(rows("--rules", "all", *DECAY, *BETA2, "--params", "1e9")) == {*RULES, *RIVALS, *ABSOLUTE}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bts", "rules: 'bts' is not known (did you mean 'bst'?); choose one of"),
        (" , ", "rules: ' , ' is not allowed; it must be all, or names with commas between"),
        ("power-law", "rules: 'power-law' needs --results with optima at two budgets or more"),
        ("bst-kappa", "rules: 'bst-kappa' needs --kappa-batch-exponent"),
        ("nanochat,delphi", "rules: nanochat is left out: it needs --base-weight-decay; delphi is left out"),
    ],
)
def test_names_that_make_no_plan_are_refused(text, said):
    assert refused("--rules", text).startswith(said)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--base-beta2", "1", "base-beta2: 1 is not allowed; it must be below 1"),
        ("--base-weight-decay", "0", "base-weight-decay: '0' is not allowed; it must be above 0"),
        ("--base-params", "many", "base-params: 'many' is not a number"),
    ],
)
def test_what_the_base_cannot_be_is_refused(option, value, said):
    assert refused(option, value).startswith(said)


def test_a_plan_says_what_moves_where_the_batch_is_rounded():
    found = rows("--rules", "sde,fw-gap-all,no-change", *DECAY, *BETA2)
    r = 10.6 / 1.3
    assert found["sde"]["rounded"]["weight_decay"] == pytest.approx(0.1 * r**-0.5)
    assert found["sde"]["rounded"]["beta2"] == pytest.approx(0.95 ** (1 / r))
    assert found["fw-gap-all"]["rounded"]["momentum"] == pytest.approx(0.1 * 2 * r**-0.5)
    assert found["fw-gap-all"]["exact"]["momentum"] == pytest.approx(0.1 * r ** (-1 / 3))
    kept = found["no-change"]["rounded"]
    assert (kept["momentum"], kept["weight_decay"], kept["beta2"]) == (0.1, 0.1, 0.95)
    assert {row["certainty"] for row in found.values()} <= {str(kind) for kind in Certainty}


def test_columns_are_there_where_something_is_known():
    plain, known = invoke().stdout, invoke(*DECAY, "--rules", "nanochat").stdout
    assert "λ" not in plain.split("bst:")[0]
    assert "β₂" not in plain.split("bst:")[0]
    assert "λ" in known.split("nanochat:")[0]
    assert "β₂" not in known.split("nanochat:")[0]
    assert "read in the source" in known
    assert "weight decay 0.1" in known


def test_a_momentum_above_one_is_one_and_said():
    done = invoke("--tokens", "1e6", "--rules", "fw-gap-alpha")
    assert "fw-gap-alpha: its momentum is above 1" in done.stderr
    assert rows("--tokens", "1e6", "--rules", "fw-gap-alpha")["fw-gap-alpha"]["rounded"]["momentum"] == 1


def test_a_rule_of_the_size_gets_that_of_the_target():
    class Half(OfSize):
        def batch_tokens(self, base, tokens):
            return base.batch_tokens

        def learning_rate(self, base, tokens, batch_tokens):
            return base.lr * self.growth_of_size(base) ** -0.5

    rule = Half(name="half", title="lr ∝ N^(-1/2)", source="nobody")
    base = Point(1e9, 256, 1024, 4e-4, n_params=1e8)
    plan = make_plan(base, Target(2e9, n_params=4e8), [rule, AbsoluteStepLaw()])
    assert plan.proposals[0].exact.lr == pytest.approx(2e-4)
    assert plan.proposals[1].exact.lr == pytest.approx(1.79 * 4e8**-0.713 * 2e9**0.307)
    sized = rows("--rules", "deepseek", "--base-params", "1e8", "--params", "1e9")["deepseek"]["growth"]
    assert sized == pytest.approx(rows("--rules", "deepseek")["deepseek"]["growth"] * 10**0.3271)
