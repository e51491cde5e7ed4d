"""Where targets come from: N, T and C of each other, settings by study, groups, guesses at other names."""

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from imported import refusal_of, rows_of
from typer.testing import CliRunner

from analysis.fits.cells import table_of_cells
from analysis.laws.of_runs import profiled
from analysis.pipeline import fit_results
from analysis.studies.batch_scaling.laws import laws_of_optimizers
from analysis.tables.foreign.expression import parse
from analysis.tables.foreign.names import known_by
from analysis.tables.sweep import load_sweep
from scionlab.cli import app
from scionlab.errors import UserError
from scionlab.runs.schema import IMPORTS
from scionlab.runs.store import RunStore

pytestmark = pytest.mark.usefixtures("folder")


def invoke(lines, *arguments, name="runs.csv"):
    if lines is not None:
        with open(name, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    return CliRunner().invoke(app, ["import", name, "--name", "runs", *arguments])


def taken(lines, *arguments, **options):
    return rows_of(invoke(lines, *arguments, **options))


def refused(lines, *arguments, **options):
    return refusal_of(invoke(lines, *arguments, **options))


# N, T and C


def test_tokens_follow_from_parameters_and_flops():
    done = invoke(
        ["Model Size,Training FLOP,loss", "1e9,6e19,2.5", "632224419.25,1e19,2.7"],
        "--map", "n_params=`Model Size`,flops=`Training FLOP`,val_loss=loss",
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert "tokens = flops/(6*n_params)" in done.stdout
    rows = RunStore("results/runs").imports("runs")
    assert list(rows["n_params"]) == [1e9, 632224419.25]
    assert list(rows["tokens"]) == [1e10, pytest.approx(1e19 / 6 / 632224419.25, rel=1e-15)]
    assert list(rows["flops"]) == [6e19, 1e19]


def test_parameters_follow_from_tokens_and_flops():
    rows = taken(["tokens,flops,val_loss", "1e10,6e19,2.5"])
    assert rows["n_params"].item() == 1e9


def test_flops_that_are_not_given_stay_open():
    assert taken(["tokens,n_params,val_loss", "1e10,1e9,2.5"])["flops"].isna().all()


def test_flops_that_contradict_are_kept_and_told():
    lines = ["tokens,n_params,flops,val_loss", "1e10,1e9,6e19,2.5", "1e10,2e9,9e19,2.4"]
    done = invoke(lines)
    assert done.exit_code == 0
    assert "warning: flops: 0.75 to 0.75 times 6 × n_params × tokens in 1 of 2 runs" in " ".join(done.stderr.split())
    assert list(RunStore("results/runs").imports("runs")["flops"]) == [6e19, 9e19]


def test_a_cell_that_another_follows_from_is_named_by_its_column():
    message = refused(["N,C,val_loss", "1e9,big,2.5"], "--map", "n_params=N,flops=C")
    assert message == "runs.csv: row 2, column 'C': 'big' is not a number"
    message = refused(["N,C,val_loss", "1e9,,2.5"], "--map", "n_params=N,flops=C")
    assert message == "runs.csv: row 2, column 'C': is empty; --where 'C!=' leaves such rows out"


def test_a_size_is_needed_of_every_point_of_its_law():
    assert "row 3, column 'n_params': is empty" in refused(["tokens,n_params,val_loss", "1e10,1e9,2", "1e10,,2"])


def test_an_import_of_an_older_version_is_read(folder):
    taken(["tokens,n_params,val_loss", "1e10,1e9,2.5"])
    path = folder / "results/runs/imports/runs.parquet"
    new = pq.read_table(path)
    added = ["group", "run", "depth", "flops", "checkpoint_step", "beta2", "weight_decay", "warmup", "schedule", "data"]
    place = new.column_names.index("n_params")
    old = new.set_column(place, "n_params", new["n_params"].cast(pa.int64())).drop_columns(added)
    pq.write_table(old, path)
    rows = RunStore("results/runs").imports("runs")
    assert list(rows.columns) == [column.name for column in IMPORTS.columns]
    assert rows["n_params"].item() == 1e9
    assert rows[added].isna().all(axis=None)


# Settings by study


@pytest.mark.parametrize("other", ["steps", "batch_size", "momentum", "config", "learning rate", "weight_decay"])
def test_sizes_and_losses_are_enough_whatever_else_there_is(other):
    lines = [f"N,D,loss,{other}", *(f"{n},{d},{3 - i / 9},0.1" for i, (n, d) in enumerate([(1e7, 1e9), (2e7, 2e9)]))]
    done = invoke(lines, "--map", "n_params=N,tokens=D,val_loss=loss")
    assert done.exit_code == 0, done.exception
    assert "about the law of number of parameters and tokens" in done.stdout


def test_a_batch_without_a_learning_rate_is_checked_as_ever():
    message = refused(["n_params,tokens,batch_size,seq_len,val_loss", "1e7,1e4,64,1024,3"])
    assert "a step of 65536 tokens is longer than the budget of 10000 tokens" in message


def test_an_empty_column_of_an_optional_target_is_none():
    rows = taken(["n_params,tokens,val_loss,depth,schedule", "1e7,1e9,3,,"])
    assert rows[["depth", "schedule"]].isna().all(axis=None)


SETTINGS = {
    "depth": ("4", "8"),
    "weight_decay": ("0.1", "0"),
    "beta2": ("0.95", "0.99"),
    "warmup": ("0", "0.1"),
    "schedule": ("cosine", "linear"),
    "data": ("c4", "pile"),
    "group": ("a", "b"),
    "checkpoint_step": ("1000", "1500"),
}
HEADER, ROW = "tokens,batch_size,seq_len,lr,val_loss", "100000000,16,1024,0.001,3.1"


@pytest.mark.parametrize("setting", SETTINGS)
def test_runs_that_differ_in_a_setting_are_two(setting):
    one, other = SETTINGS[setting]
    rows = taken([f"{HEADER},{setting}", f"{ROW},{one}", f"{ROW},{other}"])
    assert list(rows[setting].astype(str)) == [str(pd.Series([v]).astype(rows[setting].dtype)[0]) for v in (one, other)]
    assert rows["trial_id"].is_unique
    assert "is the same run as row 2" in refused([f"{HEADER},{setting}", f"{ROW},{one}", f"{ROW},{one}"])


def grid(settings, column):
    lines = [f"{HEADER},seed,{column}"]
    for value in settings:
        for tokens in (10**8, 4 * 10**8):
            for batch in (16, 32, 64):
                for k in range(-12, -7):
                    loss = 3 + 0.03 * (k + 10) ** 2 + 0.05 * np.log2(batch / 32) ** 2 - 0.1 * np.log2(tokens / 1e8)
                    lines.append(f'{tokens},{batch},1024,{2.0**k},{float(loss)},0,"{value}"')
    return lines


@pytest.mark.parametrize("setting", ["weight_decay", "beta2", "warmup", "schedule", "data", "depth"])
def test_a_fit_does_not_mix_settings(setting):
    taken(grid(SETTINGS[setting], setting))
    with pytest.raises(UserError, match=rf"runs: {setting} of 'imported' takes several values") as refusal:
        fit_results("results", "runs", "imported")
    assert "import_table(…, where=" in str(refusal.value)


def test_groups_are_fitted_apart_under_their_names_commas_and_all():
    taken(grid(["Llama 3, raw", "Marin"], "group"))
    found = fit_results("results", "runs", "imported").document
    assert {one["optimizer"] for one in found["optimizers"]} == {"Llama 3, raw", "Marin"}
    done = CliRunner().invoke(app, ["plan", "runs", "--tokens", "1e9", "--from", "results", "--optimizer", "Marn"])
    assert "(did you mean 'Marin'?); choose one of 'Llama 3, raw', Marin" in str(done.exception)
    shown = invoke(None)
    assert "group: 'Llama 3, raw', Marin\n" in shown.stdout


def test_methods_of_a_group_keep_their_names():
    lines = ["optimizer,group,n_params,tokens,val_loss", "adam,x,1e7,1e9,3", "muon,x,1e7,1e9,3", "muon,,1e7,1e9,3"]
    taken(lines)
    from pathlib import Path

    tables = load_sweep(Path("results"), "runs")
    assert list(tables.runs["optimizer"]) == ["x: adam", "x: muon", "muon"]


def sizes(group, n=(1e7, 3e7, 1e8, 3e8, 1e9), d=(1e9, 3e9, 1e10, 3e10)):
    return [f"{a},{b},{1.7 + 400 / a**0.34 + 410 / b**0.28},{group}" for a in n for b in d]


@pytest.mark.parametrize(("column", "told"), [("weight_decay", "0.1"), ("schedule", "cosine")])
def test_a_law_of_sizes_tells_what_it_mixes(column, told):
    half = sizes("0.1" if column == "weight_decay" else "cosine", n=(1e7, 3e7, 1e8))
    rest = sizes("0.2" if column == "weight_decay" else "linear", n=(3e8, 1e9))
    taken([f"n_params,tokens,val_loss,{column}", *half, *rest])
    (law,) = fit_results("results", "runs", "imported").document["laws"]
    assert law["warnings"][0].startswith(f"{column} takes several values ({told}, ")


def test_a_law_of_sizes_is_of_one_data_set():
    taken(["n_params,tokens,val_loss,data", *sizes("c4"), *sizes('"a,b"')])
    with pytest.raises(
        UserError, match=r"data of 'imported' takes several values \('a,b', c4\); import them with each"
    ):
        fit_results("results", "runs", "imported")


# Budgets are not moved


EXACT = {"E": 1.82, "A": 482, "a": 0.348, "B": 2085, "b": 0.366}


def points(count):
    """Exact points of a law, scattered, so that many budgets of other sizes lie within 3% of each other."""
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(7, 9, count), 10 ** rng.uniform(9, 10, count)
    return zip(n.tolist(), d.tolist(), (1.82 + 482 / n**0.348 + 2085 / d**0.366).tolist(), strict=True)


def test_a_law_takes_tokens_as_they_are():
    lines = ["n_params,tokens,val_loss,batch_size,seq_len,lr"]
    lines += [
        f"{n},{d},{loss + 0.05 * k**2},64,1024,{2.0 ** (k - 10)}" for n, d, loss in points(40) for k in (-1, 0, 1)
    ]
    rows = taken(lines).assign(optimizer="adam")
    law = laws_of_optimizers(table_of_cells(rows), 0)[0].law
    assert law.form.name == "chinchilla"
    found = {name: estimate.value for name, estimate in law.parameters.items()}
    assert found == {name: pytest.approx(value, rel=2e-3) for name, value in EXACT.items()}


def test_budgets_of_one_size_that_whole_steps_round_are_one_and_keep_their_tokens():
    rows = pd.DataFrame(
        {"n_params": n, "tokens": t, "batch_size": b, "seq_len": 64, "lr": 2.0**k, "seed": 0, "optimizer": "adam",
         "status": "ok", "val_loss": 3 + 0.1 * (b > 8) + 0.05 * k**2, "momentum": 0.1}
        for n, shift in ((1e6, 1.0), (2e6, 1.01)) for t, b in ((1e8 * shift, 8), (1.02e8 * shift, 16))
        for k in (-1, 0, 1)
    )  # fmt: skip
    cells, _ = profiled(rows)
    assert list(cells.groupby("n_params")["budget"].nunique()) == [1, 1]
    assert sorted(cells["tokens"]) == [1e8, 1.01e8, 1.02e8, 1.01 * 1.02e8]


def test_a_table_of_optima_is_points_of_a_law_and_no_rule_has_a_regret_there():
    lines = ["n_params,tokens,val_loss,batch_size,seq_len,lr"]
    lines += [f"{n},{d},{loss},{64 + i},1024,{0.01 / (i + 1)}" for i, (n, d, loss) in enumerate(points(12))]
    done = invoke(lines)
    assert "study: scaling-law, about the law of number of parameters and tokens" in done.stdout
    (law,) = fit_results("results", "runs", "imported").fit.laws
    found = {name: estimate.value for name, estimate in law.law.parameters.items()}
    assert found == {name: pytest.approx(value, rel=2e-3) for name, value in EXACT.items()}
    one_size = ["tokens,val_loss,batch_size,seq_len,lr", *(f"{2**i}e9,{4 - i / 5},{2**i},1024,0.01" for i in range(4))]
    taken(one_size)
    (scaling,) = fit_results("results", "runs", "imported").document["optimizers"]
    assert scaling["forward"] is None


# Repeats


def test_repeats_are_named_with_what_else_differs_and_numbered_if_asked():
    lines = [HEADER + ",Name", f"{ROW},a", f"{ROW},b".replace("3.1", "3.2"), f"{ROW},c".replace("3.1", "3.3")]
    message = refused(lines)
    assert "row 3, is the same run as row 2: optimizer, tokens, batch_size, seq_len, lr, seed agree" in message
    assert "--number-repeats takes it as another seed; not used, and different: Name" in message
    done = invoke(lines, "--number-repeats")
    assert "repeats: 2 runs repeat others' settings; they have seeds of their own" in done.stdout
    assert list(RunStore("results/runs").imports("runs")["seed"]) == [0, 1, 2]


def test_a_run_that_is_there_twice_is_no_repeat():
    message = refused([HEADER, ROW, ROW], "--number-repeats")
    assert message.endswith("map a seed, or remove one; their losses agree, too")
    message = refused([HEADER + ",seed", f"{ROW},1", f"{ROW},1"], "--number-repeats")
    assert message == "number-repeats: seed has a column, which is to tell runs apart"


# Expressions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("round(x)", [2, 4]), ("log2(y)", [3, 5]), ("exp2(x)", [2**2.4, 2**3.6]), ("log(exp(x))", [2.4, 3.6]),
        ("log10(100*y)", [np.log10(800), np.log10(3200)]), ("sqrt(y)", [8**0.5, 32**0.5]), ("abs(-y)", [8, 32]),
        ("min(x, 3)", [2.4, 3]), ("max(x, y/10)", [2.4, 3.6]), ("round(y/x)*2", [6, 18]),
    ],
)  # fmt: skip
def test_functions_of_expressions(text, expected):
    values = {"x": np.array([2.4, 3.6]), "y": np.array([8.0, 32.0])}
    assert list(np.broadcast_to(parse(text, values)(values), 2)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    ["round(x, 1)", "min(x)", "min(x, y, x)", "log(base=x)", "round()", "sqrt(*x)", "eval(x)", "x.round()", "max"],
)
def test_other_calls_are_no_expressions(text):
    with pytest.raises(UserError, match=r"is not an expression of columns|'max' is not known"):
        parse(text, ("x", "y"))


def test_commas_within_parentheses_do_not_divide_a_map():
    rows = taken(["a,b,D,loss", "1e7,2e7,1e9,3"], "--map", "n_params=max(a,b),tokens=D,val_loss=loss")
    assert rows["n_params"].item() == 2e7


# Names that are known


WANDB = [
    '"Name","parameter_count","throughput/total_tokens","throughput/total_gflops","eval/paloma/macro_loss",'
    '"trainer.train_batch_size","trainer.num_train_steps","optimizer.learning_rate","train/loss"',
    *(
        f'"r{i}","{n}","{2**17 * s}","{6 * n * 2**17 * s / 1e9}","{3 - i / 10}","32","{s}","{lr}","1"'
        for i, (n, s, lr) in enumerate([(10**8, 5000, 0.001), (10**8, 9000, 0.002), (10**9, 9000, 0.001)])
    ),
]


def command_of(message):
    return shlex.split(message.splitlines()[-1])


def test_a_tracker_s_names_give_the_whole_command():
    message = refused(WANDB)
    assert "tokens: no such column" in message
    assert "flops = 1e9*`throughput/total_gflops` (of the whole run)" in message
    assert "n_params = parameter_count (parameters)" in message
    words = command_of(message)
    assert words[:2] == ["scionlab", "import"]
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.exception
    rows = RunStore("results/runs").imports("runs")
    assert list(rows["seq_len"]) == [4096] * 3
    assert list(rows["lr"]) == [0.001, 0.002, 0.001]
    assert list(rows["tokens"]) == [2**17 * 5000, 2**17 * 9000, 2**17 * 9000]
    assert list(rows["val_loss"]) == [3, 2.9, 2.8]


def test_a_guess_keeps_what_was_given_and_says_what_it_would_meet():
    lines = ["Params,D,final_loss,keep", "1e9,1e10,2.5,y", "1e9,,2.4,y", "1e9,1e10,2.4,n"]
    words = command_of(refused(lines, "--where", "keep=y", "--map", "optimizer=keep"))
    assert words[words.index("--where") + 1] == "keep=y"
    assert words[words.index("--map") + 1] == "optimizer=keep,n_params=Params,tokens=D,val_loss=final_loss"
    message = refused(lines, "--where", "keep=y")
    assert "that would then meet: runs.csv: row 3, column 'D': is empty" in message


def test_what_no_column_is_known_for_is_left_to_be_filled_in():
    message = refused(["params,goal", "1e9,3"])
    assert "no column is known for tokens (of the whole run), val_loss (final, nats)" in message
    assert command_of(message)[-1] == "n_params=params,tokens=…,val_loss=…"


def test_a_learning_rate_without_its_batch_is_left_out_and_said():
    message = refused(["params,D,loss,learning_rate", "1e9,1e10,3,0.1"])
    assert "lr = learning_rate is left out, as batch_size or seq_len is not known" in message
    assert command_of(message)[-1] == "n_params=params,tokens=D,val_loss=loss"


def test_a_guess_is_never_applied_and_never_made_at_a_wrong_map():
    assert RunStore("results/runs").imports("runs").empty
    assert "suggest" not in refused(WANDB, "--map", "lr=`optimizer.learning_rat`")


@pytest.mark.parametrize(
    ("columns", "target", "expression"),
    [
        (["loss", "smooth loss"], "val_loss", "`smooth loss`"),
        (["train/loss", "eval/loss"], "val_loss", "`eval/loss`"),
        (["train_loss"], "val_loss", None),
        (["n_params_millions"], "n_params", "1e6*n_params_millions"),
        (["log2_lr"], "lr", "2**log2_lr"),
        (["params.lr"], "lr", "`params.lr`"),
        (["N", "n"], "n_params", "N"),
        (["d", "D/N"], "tokens", None),
        (["Training FLOP"], "flops", "`Training FLOP`"),
        (["total_gflops"], "flops", "1e9*total_gflops"),
        (["wd"], "weight_decay", "wd"),
    ],
)
def test_names_are_known_best_first(columns, target, expression):
    found = known_by(columns).get(target)
    assert (found and found.expression) == expression


# What is left out, and what was asked


def test_reasons_of_rows_that_are_left_out_are_listed():
    lines = ["n_params,tokens,val_loss,outlier,reason"]
    lines += [f"{i}e7,1e9,3.{i},{i > 3},{'too high' if i > 4 else 'off centre' if i > 3 else ''}" for i in range(1, 8)]
    done = invoke(lines, "--where", "outlier=False")
    assert done.exit_code == 0, done.exception
    assert (
        "left out: 4 of 7 rows, by outlier=False\n  too high: 3, rows 6, 7, 8\n  off centre: 1, row 5\n" in done.stdout
    )
    found = json.loads(invoke(lines, "--where", "outlier=False", "--json").stdout)
    assert (found["left_out_rows"], found["reasons"]) == ([5, 6, 7, 8], {"too high": 3, "off centre": 1})
    assert (
        "left out: row 2\n"
        in invoke(["n_params,tokens,val_loss", "1,1e9,3", "1e7,1e9,3"], "--where", "n_params>9").stdout
    )


QUESTIONS = {
    "optima": ([f"{HEADER},n_params", *(f"1e8,16,1024,{i}e-4,3.{i},{i}e7" for i in range(1, 6))], "table of optima"),
    "goals": (["n_params,tokens,val_loss", *(f"1e7,{i}e9,3" for i in range(1, 5))], "a table of tokens to a target"),
    "millions": (["n_params,tokens,val_loss", "85,1e9,3"], "if they are in millions"),
    "checkpoints": ([f"{HEADER},steps,checkpoint_step", f"{ROW},6103,3000"], "1 of 1 losses are of checkpoints"),
    "names": (["n_params,tokens,val_loss,experiment,lr", "1e7,1e9,3,x,"], "--map group=experiment"),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_what_a_table_may_be_otherwise_is_asked(case):
    lines, expected = QUESTIONS[case]
    done = invoke(lines)
    assert done.exit_code == 0, done.exception
    assert expected in " ".join(done.stderr.split())


def test_no_hint_after_an_import_is_to_train():
    taken(["n_params,tokens,val_loss", *(line.rpartition(",")[0] for line in sizes(""))])
    messages = [
        str(CliRunner().invoke(app, ["fit", "--experiment", "runs", "--preset", "laptop"]).exception),
        CliRunner().invoke(app, ["report", "runs"]).stdout,
        CliRunner().invoke(app, ["status"]).stdout,
        *(path.read_text(encoding="utf-8") for path in Path("results/report").glob("runs.html")),
    ]
    assert "it is an import: leave the preset out, or ask for imported" in messages[0]
    assert "imports: runs" in messages[2]
    assert len(messages) == 4
    assert not any("scionlab run" in message for message in messages)
