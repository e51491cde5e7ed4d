"""Properties of the import: what goes in comes out, and what cannot is refused; some broken cases of the fuzzer."""

import csv
import io
import math
import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from analysis.tables.foreign.checks import IDENTITY
from analysis.tables.foreign.expression import parse
from analysis.tables.foreign.problems import LONGEST, Problems
from analysis.tables.foreign.runs import read_runs
from analysis.tables.foreign.table import read_table
from analysis.tables.foreign.targets import TARGETS
from scionlab.cli import app
from scionlab.errors import UserError
from scionlab.runs.store import RunStore

sys.path.insert(0, str(Path(__file__).parents[3]))  # the benchmarks are not installed

from benchmarks.fuzz_cases import Case, make_case
from benchmarks.fuzz_import import check_message, check_rows, outcome, run_alone

# Failing tables are not made small: it takes minutes.
quick = settings(deadline=None, derandomize=True, max_examples=80, phases=[Phase.explicit, Phase.generate])
FUZZED = 800

# A column that has a target's own name would be taken for it.
names = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="`"), min_size=1, max_size=8).filter(
    lambda name: name not in TARGETS
)
positive = st.floats(1e-6, 1e12)


@st.composite
def tables(draw):
    """Runs as they are meant, the names of their columns in the file, and texts of their cells as somebody writes them.

    A file's cells are the values of the runs after a factor and a power, which the map takes back.
    """
    runs = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "tokens": st.integers(10**6, 10**12),
                    "batch_size": st.integers(1, 1000),
                    "seq_len": st.integers(1, 1000),
                    "log2_lr": st.integers(-20, 5),
                    "val_loss": positive | st.sampled_from([math.inf, -math.inf, math.nan]),
                    "optimizer": st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=6),
                    "seed": st.integers(0, 2**53 - 1),
                    "width": st.none() | st.integers(1, 10**6),
                }
            ),
            min_size=1,
            max_size=6,
            unique_by=lambda run: run["seed"],
        )
    )
    return runs, draw(st.lists(names, min_size=len(runs[0]), max_size=len(runs[0]), unique_by=str.strip))


def spelled(value, random):
    """A number as one of its spellings; None is empty."""
    if value is None:
        return random.choice(["", " "])
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return random.choice([repr(value), repr(value).upper(), repr(value).replace("inf", "Infinity")])
    exact = [text for text in (repr(value), f"{value:.17g}", f" {value!r}", f"{value:e}") if float(text) == value]
    return random.choice(exact)


@quick
@given(
    table=tables(),
    separator=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["utf-8", "utf-8-sig"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    random=st.randoms(use_true_random=False),
)
def test_what_goes_into_a_csv_comes_out(tmp_path_factory, table, separator, end, mark, quoting, random):
    runs, columns = table
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
    if any(other in "".join(columns) for other in set(",;\t|") - {separator}):
        columns = [f"c{i}" for i in range(len(columns))]  # the separator is guessed from the header
    writer.writerow(columns)
    writer.writerows([spelled(run[key], random) for key in runs[0]] for run in runs)
    path = tmp_path_factory.mktemp("csv") / "runs.csv"
    path.write_bytes(file.getvalue().encode(mark))
    assert_comes_out(path, runs, dict(zip(runs[0], columns, strict=True)))


@quick
@given(table=tables())
def test_what_goes_into_a_parquet_file_comes_out(tmp_path_factory, table):
    runs, columns = table
    path = tmp_path_factory.mktemp("parquet") / "runs.parquet"
    renamed = dict(zip(runs[0], columns, strict=True))
    pq.write_table(pa.Table.from_pylist([{renamed[key]: run[key] for key in run} for run in runs]), path)
    assert_comes_out(path, runs, renamed)


def assert_comes_out(path, runs, columns):
    quoted = {target: f"`{column}`" for target, column in columns.items()}
    mapping = {
        "tokens": f"{quoted['tokens']}*1000/1e3",
        "batch_size": f"({quoted['batch_size']} * {quoted['seq_len']}) / {quoted['seq_len']}",
        "seq_len": columns["seq_len"],
        "lr": f"2**{quoted['log2_lr']}",
        **{target: columns[target] for target in ("val_loss", "optimizer", "seed", "width")},
    }
    problems = Problems(path.name)
    found = read_runs(read_table(path, problems), "mine", mapping, {}, problems).rows
    first = 1 if path.suffix == ".parquet" else 2
    for number, (row, run) in enumerate(zip(found, runs, strict=True)):
        assert row["row"] == first + number
        assert row["lr"] == 2.0 ** run["log2_lr"]
        same = ("tokens", "batch_size", "seq_len", "optimizer", "seed", "width")
        assert {key: row[key] for key in same} == {key: run[key] for key in same}
        assert row["steps"] == run["tokens"] / (run["batch_size"] * run["seq_len"])
        finite = math.isfinite(run["val_loss"])
        assert (row["status"], row["val_loss"]) == (("ok", run["val_loss"]) if finite else ("diverged", None))
    assert len({row["trial_id"] for row in found}) == len(runs)


@quick
@given(
    content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="replace"))),
    suffix=st.sampled_from([".csv", ".tsv", ".parquet"]),
    maps=st.text(max_size=60),
    sets=st.text(max_size=60),
)
def test_garbage_is_refused_in_words(tmp_path_factory, content, suffix, maps, sets):
    outcome(Case(content, suffix, maps, sets), tmp_path_factory.mktemp("garbage"))


@quick
@given(text=st.text(max_size=80) | st.text("()+-*/.0123456789e `xy\\#\n\t", max_size=80), values=st.lists(positive))
def test_any_text_is_an_expression_or_no_expression(text, values):
    try:
        expression = parse(text, ("x", "y", "a b"))
    except UserError as error:
        refusal = error
    else:
        columns = dict.fromkeys(("x", "y", "a b"), pa.array(values, pa.float64()).to_numpy())
        assert getattr(expression(columns), "shape", ()) in ((), (len(values),))
        return
    assert str(refusal)


def test_the_fuzzer_finds_nothing_in_its_first_cases(tmp_path):
    ends = [outcome(make_case(random.Random(f"0-{number}")), tmp_path) for number in range(FUZZED)]
    assert min(ends.count("imported"), ends.count("refused")) > FUZZED / 10


def test_the_fuzzer_tells_what_it_finds(monkeypatch, tmp_path):
    with pytest.raises(AssertionError, match="cannot be shown"):
        check_message("a\x1b[31m")
    with pytest.raises(AssertionError, match="characters"):
        check_message("x" * 10**5)
    row = dict.fromkeys(IDENTITY, 1.0) | {"optimizer": "adam", "steps": math.inf, "status": "ok", "val_loss": 1.0}
    with pytest.raises(AssertionError, match="steps"):
        check_rows(type("Runs", (), {"rows": [row]}), tmp_path)
    assert run_alone(0, 1)[0][1].split()[-1] in ("imported", "refused")


# What fuzzing found, each as small as it gets.

HEADER = "tokens,batch_size,seq_len,lr,val_loss"
ROW = "65536,8,64,0.1,2.5"


def imported(path, *arguments):
    return CliRunner().invoke(app, ["import", str(path), "--results", str(path.parent / "results"), *arguments])


def refusal(path, *arguments):
    done = imported(path, *arguments)
    assert isinstance(done.exception, UserError), done.exception
    check_message(str(done.exception))
    return str(done.exception)


@pytest.fixture
def write(tmp_path):
    def to(*lines, name="runs.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return to


def test_a_file_whose_rows_are_all_too_short_is_refused(write):
    assert refusal(write(HEADER, "1,2")) == "runs.csv: row 2, has 2 cells where the header has 5"


@pytest.mark.parametrize("text", ["\ud800", "\udcff*2", "1if tokens else 2", "0x1for x", "1_0and 2"])
def test_what_python_cannot_read_or_doubts_is_no_expression(text):
    with pytest.raises(UserError, match="is not an expression of columns"):
        parse(text, ("tokens",))


def test_columns_that_cannot_be_printed_are_escaped_and_long_lists_of_them_cut(write):
    message = refusal(write("a\x1b[31m,b\x00," + ",".join(f"column_{i}" for i in range(2000)), "1"))
    assert "columns are a\\x1b[31m, b\\x00, column_0" in message
    assert max(map(len, message.splitlines())) <= LONGEST + 2


@pytest.mark.parametrize("text", ["a\ud800", "a\x1b[31m", "two\nlines"])
def test_a_method_whose_name_cannot_be_printed_is_refused(write, text):
    path = write(HEADER, ROW)
    assert "is not allowed; it must be name of the method" in refusal(path, "--set", f"optimizer={text}")


def test_a_cell_that_cannot_be_printed_is_refused_where_it_is_a_name(write):
    path = write(HEADER + ",optimizer", ROW + ',"ad\x1bam"')
    assert "row 2, column 'optimizer': 'ad\\x1bam' has characters that cannot be printed" in refusal(path)


def test_steps_beyond_all_numbers_are_refused(write):
    message = refusal(write(HEADER, "1e308,1e-10,1e-10,0.1,2"))
    assert "row 2, tokens ÷ (batch_size × seq_len): inf steps cannot be" in message


def test_two_columns_of_one_name_are_refused_in_parquet_too(tmp_path):
    pq.write_table(pa.table([[1.0], [2.0]], names=["lr", "lr"]), tmp_path / "runs.parquet")
    assert "has two columns called 'lr'" in refusal(tmp_path / "runs.parquet")


def test_a_header_of_twenty_thousand_columns_is_read_in_no_time(write):
    assert "no such column" in refusal(write(",".join(f"c{i}" for i in range(20_000)), "1"))


def test_a_file_of_the_longest_name_can_be_imported(write):
    path = write(HEADER, ROW, name="x" * 251 + ".csv")
    done = imported(path)
    assert done.exit_code == 0, done.exception
    assert len(RunStore(path.parent / "results" / "runs").imports("x" * 100)) == 1
    assert "100 at most" in refusal(path, "--name", "x" * 101)


def test_a_file_whose_name_is_not_text_can_be_imported(write):
    path = write(HEADER, ROW).rename(Path(str(write(HEADER, ROW).parent) + "/a\udcff.csv"))
    done = imported(path, "--name", "mine")
    assert done.exit_code == 0, done.exception
    assert RunStore(path.parent / "results" / "runs").imports("mine")["source"].item() == "a\\udcff.csv"
