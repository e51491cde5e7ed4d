import math
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from analysis.tables.foreign.expression import parse
from scionlab.cli import app
from scionlab.cli.foreign import assignments
from scionlab.errors import UserError
from scionlab.runs.schema import IMPORTS
from scionlab.runs.store import RunStore

MAP = "batch_size=bs,lr=rate,val_loss=loss,tokens=D"
HEADER = "bs,rate,loss,D,seed\n"
LINES = ["8,0.01,3.1,65536,0", "8,0.02,2.9,65536,0", "16,0.02,inf,65536,0", "16,0.02,2.8,131072,0"]


def invoke(*arguments):
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


def imported(name="runs"):
    return RunStore("results/runs").imports(name)


def take(file, *arguments, name="runs"):
    """The rows of a successful import."""
    done = invoke(file, "--name", name, *arguments)
    assert done.exit_code == 0, done.exception
    return imported(name)


def refused(*arguments):
    """The message of the UserError that an import ends with; it leaves nothing behind."""
    done = invoke(*arguments)
    assert isinstance(done.exception, UserError), (done.output, done.exception)
    assert imported().empty
    return str(done.exception)


def csv(folder, *lines, header=HEADER, name="runs.csv"):
    path = folder / name
    path.write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_csv_arrives_as_it_is(folder):
    done = invoke(csv(folder, *LINES), "--map", MAP, "--set", "seq_len=64,optimizer=adamw")
    assert done.exit_code == 0, done.exception
    rows = imported()
    assert list(rows.columns) == [column.name for column in IMPORTS.columns]
    assert list(rows["row"]) == [2, 3, 4, 5]
    assert list(rows["status"]) == ["ok", "ok", "diverged", "ok"]
    assert list(rows["val_loss"].fillna(-1)) == [3.1, 2.9, -1, 2.8]
    assert list(rows["steps"]) == [128, 128, 64, 128]
    assert set(rows["optimizer"]) == {"adamw"}
    assert set(rows["source"]) == {"runs.csv"}
    assert set(rows["seq_len"]) == {64}
    assert rows["momentum"].isna().all()
    assert rows["n_params"].isna().all()
    assert rows["trial_id"].is_unique
    assert "runs: 4 runs imported, 1 of them diverged\n" in done.stdout
    assert "tokens: 65536, 131072\n" in done.stdout
    assert done.stdout.endswith("next: scionlab report runs --results results\n")


def test_parquet_gives_the_same_runs_as_csv(folder):
    path = csv(folder, *LINES)
    pd.read_csv(path).to_parquet(folder / "runs.parquet")
    text = take(path, "--map", MAP, "--set", "seq_len=64")
    binary = take(folder / "runs.parquet", "--map", MAP, "--set", "seq_len=64")
    assert list(binary["row"]) == [1, 2, 3, 4]
    content = [column.name for column in IMPORTS.columns if column.name not in ("source", "row")]
    pd.testing.assert_frame_equal(text[content], binary[content])


def test_parquet_knows_nan_from_empty(folder):
    columns = {"bs": [8.0, 8.0], "rate": [0.1, 0.2], "D": [1e5, 1e5], "seed": [0, 0]}
    pq.write_table(pa.table({**columns, "loss": [2.0, math.nan]}), folder / "nan.parquet")
    pq.write_table(pa.table({**columns, "loss": [2.0, None]}), folder / "null.parquet")
    rows = take(folder / "nan.parquet", "--map", MAP, "--set", "seq_len=64")
    assert list(rows["status"]) == ["ok", "diverged"]
    done = invoke(folder / "null.parquet", "--map", MAP, "--set", "seq_len=64")
    message = str(done.exception)
    assert "row 2, column 'loss': is empty; write inf for a run that diverged, or map its status" in message


def test_an_index_of_pandas_is_a_column(folder):
    pd.read_csv(csv(folder, *LINES)).set_index(["rate", "bs"]).to_parquet(folder / "runs.parquet")
    assert list(take(folder / "runs.parquet", "--map", MAP, "--set", "seq_len=64")["batch_size"]) == [8, 8, 16, 16]


def test_columns_of_a_targets_name_need_no_map(folder):
    header = "optimizer,status,n_params,width,tokens,batch_size,seq_len,steps,lr,momentum,seed,val_loss,note\n"
    path = csv(
        folder,
        "muon,OK,1e6,64,65536,8,64,130,0.1,0.05,3,2.5,fine",
        "muon,diverged,,,65536,8,64,,0.2,,3,,blew up",
        "muon,,,,65536,8,64,,0.3,,3,2.6,",
        header=header,
    )
    rows = take(path)
    assert list(rows["status"]) == ["ok", "diverged", "ok"]
    assert list(rows["steps"]) == [130, 128, 128]
    first = rows.iloc[0]
    assert (first["n_params"], first["width"], first["momentum"], first["seed"]) == (1e6, 64, 0.05, 3)
    assert "not used: note" in invoke(path).stdout


def test_arithmetic_of_columns(folder):
    path = csv(
        folder, "12,1024,-7,0.9,3.0,500", header="bs tokens,ctx,log2.lr,beta-1,val/loss,steps\n", name="My Runs (2).csv"
    )
    expressions = (
        "batch_size=`bs tokens`*1e3/ctx,seq_len=ctx,lr=2**`log2.lr`,momentum=1-`beta-1`,val_loss=val/loss,"
        "tokens=steps*`bs tokens`*1000"
    )
    rows = take(path, "--map", expressions)
    row = rows.iloc[0]
    assert row["batch_size"] == pytest.approx(12000 / 1024)
    assert row["lr"] == 2**-7
    assert row["momentum"] == pytest.approx(0.1)
    assert row["val_loss"] == 3.0
    assert row["tokens"] == 6e6
    assert row["steps"] == 500


def test_a_name_is_made_of_the_files(folder):
    path = csv(folder, *LINES, name="My Runs (2).csv")
    done = invoke(path, "--map", MAP, "--set", "seq_len=64")
    assert done.stdout.startswith("my-runs-2: 4 runs imported")
    assert len(imported("my-runs-2")) == 4


def test_batches_in_tokens(folder):
    rows = take(csv(folder, "512,0.1,3,65536,0"), "--map", MAP, "--set", "seq_len=1")
    assert (rows["batch_size"].item(), rows["seq_len"].item(), rows["steps"].item()) == (512, 1, 128)


def test_an_import_replaces_one_of_its_name_only(folder):
    arguments = ("--map", MAP, "--set", "seq_len=64")
    take(csv(folder, *LINES), *arguments)
    before = take(csv(folder, *LINES), *arguments, name="other")
    done = invoke(csv(folder, *LINES[:2]), *arguments)
    assert "runs: 2 runs imported, 0 of them diverged, in place of 4 imported before" in done.stdout
    assert len(imported()) == 2
    pd.testing.assert_frame_equal(imported("other"), before)
    assert not set(before["trial_id"]) & set(imported()["trial_id"])
    assert not list((folder / "results").rglob("*.tmp"))


def test_separators_marks_quotes_and_blank_lines(folder):
    (folder / "a.csv").write_text(
        "\ufeff" + "\n".join([HEADER.strip(), "", *LINES]).replace(",", ";"), encoding="utf-8"
    )
    rows = take(folder / "a.csv", "--map", MAP, "--set", "seq_len=64")
    assert list(rows["row"]) == [3, 4, 5, 6]
    quoted = csv(
        folder, '8,0.01,3.1,65536,0,"two\nlines, one cell"', "8,0.02,3.1,65536,0,", header="bs,rate,loss,D,seed,note\n"
    )
    assert list(take(quoted, "--map", MAP, "--set", "seq_len=64")["row"]) == [3, 4]


# One broken cell each: the line that is in place of the second run, and what is said about it.
BROKEN = {
    "text": ("8,fast,2.9,65536,0", "row 3, column 'rate': 'fast' is not a number"),
    "thousands": ('8,0.02,2.9,"65,536",0', "row 3, column 'D': '65,536' is not a number"),
    "empty": ("8,,2.9,65536,0", "row 3, column 'rate': is empty"),
    "empty loss": ("8,0.02,,65536,0", "row 3, column 'loss': is empty; write inf for a run that diverged"),
    "empty seed": ("8,0.02,2.9,65536,", "row 3, column 'seed': is empty"),
    "lr 0": ("8,0,2.9,65536,0", "row 3, lr (rate): 0 is not allowed; it must be above 0 and finite"),
    "lr inf": ("8,inf,2.9,65536,0", "row 3, lr (rate): inf is not allowed"),
    "tokens nan": ("8,0.02,2.9,nan,0", "row 3, tokens (D): nan is not allowed"),
    "tokens -1": ("8,0.02,2.9,-1,0", "row 3, tokens (D): -1 is not allowed"),
    "batch -8": ("-8,0.02,2.9,65536,0", "row 3, batch_size (bs): -8 is not allowed"),
    "loss -1": ("8,0.02,-1,65536,0", "row 3, val_loss (loss): -1 is not allowed"),
    "seed -1": ("8,0.02,2.9,65536,-1", "row 3, seed: -1 is not allowed; it must be a whole number, 0 or more"),
    "seed inf": ("8,0.02,2.9,65536,inf", "row 3, seed: inf is not allowed"),
    "seed 0.5": ("8,0.02,2.9,65536,0.5", "row 3, seed: 0.5 is not allowed"),
    "step": ("8192,0.02,2.9,65536,0", "row 3, batch_size × seq_len: a step of 524288 tokens is longer than the budget"),
    "twice": ("8,0.01,2.9,65536,0", "row 3, is the same run as row 2"),
    "ragged": ("8,0.02,2.9,65536", "row 3, has 4 cells where the header has 5"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_cell_is_named_by_row_and_column(case, folder):
    line, expected = BROKEN[case]
    message = refused(csv(folder, LINES[0], line, *LINES[2:]), "--map", MAP, "--set", "seq_len=64")
    assert message.startswith(f"runs.csv: {expected}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("momentum", "0"),
        ("momentum", "1.1"),
        ("n_params", "0"),
        ("beta2", "1"),
        ("warmup", "-0.1"),
        ("width", "-1"),
        ("steps", "0"),
    ],
)
def test_optional_columns_are_checked_too(target, value, folder):
    path = csv(folder, f"8,0.01,3.1,65536,0,{value}", header=HEADER.strip() + f",{target}\n")
    assert f"row 2, {target}: {value} is not allowed" in refused(path, "--map", MAP, "--set", "seq_len=64")


def test_all_problems_are_told_at_once_and_the_rest_counted(folder):
    lines = [line for line, _ in BROKEN.values()]
    message = refused(csv(folder, LINES[0], *lines), "--map", MAP, "--set", "seq_len=64")
    assert message.startswith("runs.csv: 17 problems\n  row 3, column 'rate': 'fast' is not a number\n")
    assert [int(line.split()[1].strip(",")) for line in message.splitlines()[1:]] == list(range(3, 20))
    many = refused(csv(folder, *["8,x,1,65536,0"] * 30), "--map", MAP, "--set", "seq_len=64")
    assert many.splitlines()[-1] == "  … and 10 more"
    assert len(many.splitlines()) == 22


def test_a_cell_that_two_targets_use_is_named_once(folder):
    path = csv(folder, "x,0.1,3,100,0")
    message = refused(path, "--map", "batch_size=bs,lr=rate,val_loss=loss,tokens=bs*D", "--set", "seq_len=64")
    assert message == "runs.csv: row 2, column 'bs': 'x' is not a number"


def test_a_loss_made_infinite_by_arithmetic_did_not_diverge(folder):
    path = csv(folder, "8,0.1,3,65536,0")
    message = refused(path, "--map", "batch_size=bs,lr=rate,val_loss=loss/seed,tokens=D", "--set", "seq_len=64")
    assert "row 2, val_loss (loss/seed): inf is not allowed" in message


def test_runs_that_differ_in_one_key_are_not_the_same(folder):
    header = HEADER.strip() + ",optimizer,n_params,width,seq_len,momentum\n"
    base = ["8", "0.1", "3", "65536", "0", "adam", "1000", "32", "64", "0.1"]
    others = {0: "16", 1: "0.2", 3: "131072", 4: "1", 5: "scion", 6: "2000", 7: "64", 8: "128", 9: "0.2"}
    lines = [",".join(base)] + [",".join([*base[:i], value, *base[i + 1 :]]) for i, value in others.items()]
    assert len(take(csv(folder, *lines, header=header), "--map", MAP)) == 10


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["tokens: no such column; map it or set it, columns are bs, rate, loss, D, seed", "lr: no such column"]),
        (["--map", "lr=rat"], ["lr: column: 'rat' is not known (did you mean 'rate'?)"]),
        (["--map", "lr=__import__('os')"], ["""lr: "__import__('os')" is not an expression of columns"""]),
        (["--map", "lr=rate", "--set", "lr=1"], ["lr: is both mapped and set"]),
        (["--set", "lr=fast"], ["lr: 'fast' is not a number; columns are given by --map"]),
        (["--set", "lr=-1"], ["lr: '-1' is not allowed; it must be above 0 and finite"]),
        (["--map", "lr=0*1"], ["lr: '0*1' is not allowed; it must be above 0 and finite"]),
        (["--set", "status=fine"], ["status: 'fine' is not allowed; it must be ok or diverged"]),
        (["--map", "optimizer=adam"], ["optimizer: column: 'adam' is not known", "--set gives a constant"]),
    ],
)
def test_a_bad_map_is_told_by_target(arguments, expected, folder):
    message = refused(csv(folder, *LINES), *arguments)
    assert all(text in message for text in expected), message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--map", "rate"], "map: 'rate' is not of the form target=…"),
        (["--map", "batch=bs"], "map: 'batch' is not known (did you mean 'batch_size'?)"),
        (["--map", "lr=rate", "--map", "lr=2*rate"], "map: 'lr' is given twice, as 'rate' and '2*rate'"),
        (["--set", "foo=1"], "set: 'foo' is not known"),
        (["--name", "../x"], "name: '../x' is not allowed; it must be lower-case letters, digits, - and _"),
        (["--name", ""], "name: '' is not allowed"),
        (["--results", "runs.csv"], "results: cannot write to 'runs.csv/runs'"),
    ],
)
def test_a_bad_option_is_one_sentence(arguments, expected, folder):
    message = refused(
        csv(folder, *LINES), *arguments, *(["--map", MAP, "--set", "seq_len=64"] * ("--results" in arguments))
    )
    assert message.startswith(expected)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("none.csv", None, "cannot be read: No such file"),
        ("a.xlsx", b"", "is none of .csv, .tsv, .parquet, .pq"),
        ("a.csv", b"", "has no rows below its header"),
        ("a.csv", HEADER.encode(), "has no rows below its header"),
        ("a.csv", b"lr,lr\n1,2\n", "has two columns called 'lr'"),
        ("a.csv", b"bs\n\xff\xfe\n", "is not UTF-8 text"),
        ("a.parquet", b"not Parquet", "is not Parquet"),
        ("....csv", b"a\n1\n", "name: '....csv' does not make one; give --name"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name, content, expected, folder):
    if content is not None:
        (folder / name).write_bytes(content)
    assert expected in refused(name)


def test_assignments_are_divided_outside_of_backticks():
    assert assignments("map", ["a=`x,y`*2, b = c", "d=1"], "abcd") == {"a": "`x,y`*2", "b": "c", "d": "1"}


# Expressions

COLUMNS = {"x": 3.0, "y": -0.5, "z": 7.25}
numbers = st.one_of(
    st.sampled_from(sorted(COLUMNS)), st.floats(0.1, 50).map(repr), st.integers(0, 9).map("{}.0".format)
)
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**", " - "]), inner).map("".join),
        inner.map("({})".format),
        inner.map("-{}".format),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(text=expressions)
def test_expressions_mean_what_they_mean_in_python(text):
    try:
        expected = eval(text, {}, COLUMNS)
    except ArithmeticError:
        return  # where Python raises, arrays have inf or nan
    if isinstance(expected, complex) or not math.isfinite(expected):
        return
    found = parse(text, COLUMNS)({name: np.array([value]) for name, value in COLUMNS.items()})
    assert np.asarray(found) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "__import__('os')",
            "x.real",
            "x[0]",
            "f(x)",
            "lambda: x",
            "x < y",
            "x if y else z",
            "x and y",
            "not x",
            "~x",
        ),
        *("x % y", "x // y", "x @ y", "x := 1", "x = 1", "x; y", "'x'", "True", "None", "1j", "...", "(x, y)", "[x]"),
        *("{x}", "f'{x}'", "await x", "yield", "*x", "(x for x in y)", "", "(", "x y", "x\x00", "`x", "1" * 450),
        *("x" * 600, "(" * 250 + "x" + ")" * 249),
    ],
)
def test_nothing_else_is_an_expression(text):
    with pytest.raises(UserError, match=r"is not an expression of columns|is too long"):
        parse(text, COLUMNS)


def test_powers_do_not_hang():
    assert parse("9**9**9**9", ())({}) == math.inf


def test_columns_used_are_known_in_order():
    columns = {"a": np.ones(2), "b c": np.ones(2), "q0": np.zeros(2)}
    expression = parse("`b c` + a * `b c` + q0", columns)
    assert expression.columns == ("b c", "a", "q0")
    assert list(expression(columns)) == [2, 2]
    with pytest.raises(UserError, match="column: 'b d' is not known"):
        parse("`b d` * 2", columns)


def test_two_thousand_rows_take_no_time(folder):
    lines = [f"{8 + i % 7},{0.001 * (1 + i)},3.0,65536,0" for i in range(2000)]
    start = time.monotonic()
    rows = take(csv(folder, *lines), "--map", MAP, "--set", "seq_len=64")
    assert time.monotonic() - start < 5  # a second, on an idle machine
    assert len(rows) == 2000


def test_from_the_shell(clean_environment, folder):
    path = csv(folder, *LINES)

    def scionlab(*arguments):
        command = [sys.executable, "-m", "scionlab", "import", str(path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=clean_environment, cwd=folder, check=False)

    done = scionlab("--map", MAP, "--set", "seq_len=64", "--results", "my results")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("next: scionlab report runs --results 'my results'\n")
    assert len(pd.read_parquet(folder / "my results/runs/imports")) == 4
    path.write_text(HEADER + "8,x,3,65536,0\n8,0.1,,65536,0\n")
    done = scionlab("--map", MAP, "--set", "seq_len=64")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: runs.csv: 2 problems",
        "  row 2, column 'rate': 'x' is not a number",
        "  row 3, column 'loss': is empty; write inf for a run that diverged, or map its status",
    ]


@pytest.mark.parametrize("column", ["\u00b5", "\u03bc", "\u2126", "\ufb01t", "\u212b_rate", "\uff4c\uff52"])
@pytest.mark.parametrize("text", ["{}*2", "2*{}", " {} * 2", "(1+1)*`{}`", "{}+{}"])
def test_a_column_is_called_as_it_is_written_whatever_python_makes_of_its_signs(column, text):
    found = parse(text.format(column, column), [column, "other"])
    assert found.columns == (column,)
    assert found({column: np.array([3.0])}) == [6.0]


def test_signs_that_look_alike_are_two_columns_where_there_are_two():
    micro, mu = "\u00b5", "\u03bc"
    values = {micro: np.array([1.0]), mu: np.array([10.0])}
    assert parse(f"{micro}+2*{mu}", values)(values) == [21.0]
    assert parse(f"{mu}*2", [micro]).columns == (micro,)  # it is there once, with another code
    with pytest.raises(UserError, match="column: 'x' is not known"):
        parse("x+1", values)
