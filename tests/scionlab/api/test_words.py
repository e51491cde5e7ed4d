"""Whoever calls from Python is told of arguments, and whoever types a command of options."""

import inspect
import re

import pandas as pd
import pytest
from typer.testing import CliRunner

from scionlab import UserError, fit, import_table, plan
from scionlab.cli import app
from scionlab.errors import on_command_line, option

POINTS = pd.DataFrame({"N": [1e6, 4e6, 1e6, 4e6], "D": [1e9, 1e9, 4e9, 4e9], "loss": [3.5, 3.1, 3.2, 2.9]})
RATES = POINTS.assign(B=64, lr=[0.1, 0.2, 0.1, 0.2])
MAP = {"n_params": "N", "tokens": "D", "val_loss": "loss"}
BASE = {"tokens": 1e9, "batch_size": 64, "seq_len": 2048, "lr": 1e-3}
GOALS = pd.concat([POINTS.assign(loss=3.0, B=b, D=POINTS["D"] * (1 + b / 64)) for b in (16, 32, 64, 128)])
OPTION = re.compile(r"(^|[^\w-])--[a-z]")


def goals():
    """Tokens to one loss at every batch size."""
    return import_table(GOALS, map=MAP | {"batch_size": "B"}, set={"seq_len": 2048})


def read(frame, **arguments):
    return import_table(frame, **{"map": MAP} | arguments)


@pytest.mark.parametrize(
    ("frame", "arguments", "said"),
    [
        (POINTS.rename(columns={"loss": "VAL_LOSS"}), {"map": {"n_params": "N", "tokens": "D"}}, "map={'val_loss': '"),
        (POINTS, {"set": {"seq_len": "D"}}, "columns are given by `map`"),
        (POINTS, {"map": MAP | {"group": "kind"}}, "`set` gives a constant"),
        (POINTS.assign(N=["-", *POINTS["N"][1:]]), {}, "leave such rows out with `where`"),
        (POINTS.assign(N=[None, *POINTS["N"][1:]]), {}, "where='N!=' leaves such rows out"),
        (POINTS.assign(status="gone"), {}, "where='status!=gone' leaves such rows out"),
        (POINTS.assign(D="1,234"), {}, "decimal=',' makes 1,234 1.234, and decimal='.' makes it 1234"),
        (pd.concat([POINTS, POINTS.assign(loss=9)]), {}, "number_repeats=True takes it as another seed"),
        (POINTS.assign(seed=1), {"number_repeats": True}, "number_repeats: seed has a column"),
        (RATES.assign(S=2**30), {"map": MAP | {"batch_size": "B", "seq_len": "S"}}, "set={'seq_len': '1'}"),
    ],
)  # fmt: skip
def test_what_settles_a_mistake_of_an_import_is_an_argument(frame, arguments, said):
    with pytest.raises(UserError) as refused:
        read(frame, **arguments)
    assert said in str(refused.value)
    assert not OPTION.search(str(refused.value))


@pytest.mark.parametrize(
    ("frame", "arguments", "said"),
    [
        (POINTS.assign(beta1=0.9), {"map": MAP | {"momentum": "beta1"}}, "map={'momentum': '1-beta1'}"),
        (POINTS, {"set": {"momentum": 0.95}}, "set={'momentum': '1-0.95'}"),
        (POINTS.assign(N=[70, 200, 71, 201]), {}, "map={'n_params': '1e6*…'}"),
        (POINTS.assign(wd=[0.1, 0.1, 0.2, 0.2]), {}, "map={'weight_decay': 'wd'}"),
        (GOALS, {"map": MAP | {"batch_size": "B"}, "set": {"seq_len": 2048}}, "for study='critical-batch'"),
    ],
)
def test_so_is_what_an_import_is_asked_about(frame, arguments, said):
    warnings = read(frame, **arguments).warnings
    assert any(said in text for text in warnings), warnings
    assert not any(OPTION.search(text) for text in warnings)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fit("joint-scaling", read(POINTS)), "are for study='scaling-law'"),
        (lambda: fit("batch-scaling", read(POINTS)), "are for study='scaling-law'"),
        (lambda: fit("scaling-law", goals()), "ask for study='critical-batch'"),
        (lambda: fit("scaling-law", read(POINTS.assign(data=["a", "b"] * 2))), "under a name of its own with `where`"),
        (lambda: fit(results="results", preset="imported"), "beside preset='imported'"),
        (lambda: fit(results="results", experiment="x", preset="imported"), "import_table(…, name='x', results=…)"),
        (lambda: plan(2e9), "give all of tokens, batch_size, seq_len and lr of `base`, or `results` to take them"),
        (lambda: plan(2e9, n_params=1e9, rules="bst"), "which is not given; give `base`"),
        (lambda: plan(2e9, BASE, rules="joint-law"), "needs `results` with a joint-scaling fit, and `n_params`"),
        (lambda: plan(2e9, BASE, rules="bst-kappa"), "needs `kappa_batch_exponent`, or a fit"),
        (lambda: plan(2e9, BASE, rules="nanochat"), "it needs `weight_decay` of base"),
        (lambda: plan(2e9, BASE, rules="steplaw-absolute"), "it needs `n_params`"),
        (lambda: plan(2e9, BASE, optimizer="scion"), "optimizer: 'scion' chooses among the fits of `results`"),
        (lambda: plan(2e9, n_params=1e9, kappa_batch_exponent=0.1), "kappa_batch_exponent: says nothing"),
    ],
)  # fmt: skip
def test_fits_and_plans_speak_of_arguments(call, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        call()
    assert said in str(refused.value)
    assert not OPTION.search(str(refused.value))


@pytest.mark.parametrize(
    ("call", "option_", "argument"),
    [(import_table, name, name) for name in ("map", "set", "where", "decimal", "name")]
    + [(import_table, "number-repeats", "number_repeats"), (fit, "study", "study"), (fit, "preset", "preset")]
    + [(plan, "params", "n_params"), (plan, "only-optimizer", "optimizer"), (plan, "results", "results")]
    + [(plan, "kappa-batch-shift", "kappa_batch_shift")],
)
def test_an_option_is_the_argument_that_the_call_has(call, option_, argument):
    assert argument in inspect.signature(call).parameters
    assert option(option_) == f"`{argument}`"
    with on_command_line():
        assert option(option_) == f"--{option_}"
    assert option(option_, "a b") == f"{argument}='a b'"


def test_after_a_command_messages_are_those_of_python_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = POINTS.assign(status="gone")
    frame.to_csv("points.csv", index=False)
    refused = CliRunner().invoke(app, ["import", "points.csv", "--map", "n_params=N,tokens=D,val_loss=loss"]).exception
    assert "--where 'status!=gone' leaves such rows out" in str(refused)
    with pytest.raises(UserError, match="where='status!=gone' leaves"):
        read(frame)
