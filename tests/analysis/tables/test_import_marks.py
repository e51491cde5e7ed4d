"""How numbers are written: what a column says of its decimal mark, and what it does not say."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from analysis.tables.foreign.marks import COMMA, MARKS, OTHER, POINT, numbers_of, read
from analysis.tables.foreign.table import Numbers
from scionlab.cli import app
from scionlab.errors import UserError
from scionlab.runs.store import RunStore

pytestmark = pytest.mark.usefixtures("folder")


def invoke(lines, *arguments):
    with open("runs.csv", "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return CliRunner().invoke(app, ["import", "runs.csv", *arguments])


# A column, and what it is; None is no number.
COLUMNS = {
    "comma": (["1,5", "2", "1.234,5"], [1.5, 2, 1234.5]),
    "point": (["1.5", "2", "1,234.5"], [1.5, 2, 1234.5]),
    "comma settles a group": (["1.234", "0,5"], [1234, 0.5]),
    "point settles a group": (["1,234", "0.5"], [1234, 0.5]),
    "millions": (["1,234,567", "1,234"], [1234567, 1234]),
    "millions with points": (["1.234.567", "1.234"], [1234567, 1234]),
    "spaces": (["1 234", "1 234 567"], [1234, 1234567]),
    "narrow spaces": (["1\u202f234,5", "12\u00a0345"], [1234.5, 12345]),
    "apostrophes": (["1'234.5", "1’234"], [1234.5, 1234]),
    "signs and exponents": (["-1,5e-3", "+2,5E4"], [-1.5e-3, 2.5e4]),
    "no leading digit": ([",5", "1,"], [0.5, 1]),
    "a zero is no group": (["0,123"], [0.123]),
    "four digits are no group": (["1234,567"], [1234.567]),
    "infinite": (["1,5", "inf", "nan", "1_000"], [1.5, math.inf, math.nan, 1000]),
    "as Python has it": (["1.234", "1e3", "1_000"], [1.234, 1000, 1000]),
    "not told": (["1,234", "5"], [None, 5]),
    "not told, with a float": (["1,234", "1.234"], [None, 1.234]),
    "told twice": (["1,5", "1.5"], [None, 1.5]),
    "groups of two": (["1,23,456"], [None]),
    "two kinds of groups": (["1 234'567"], [None]),
    "words": (["1,5", "fast"], [1.5, None]),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_says_how_its_numbers_are_written(case):
    cells, expected = COLUMNS[case]
    found = numbers_of(cells, None)
    assert list(found.wrong) == [value is None for value in expected]
    known = [value for value, wrong in zip(found.values, found.wrong, strict=True) if not wrong]
    assert known == pytest.approx([value for value in expected if value is not None], nan_ok=True)


def test_the_mark_that_is_given_decides():
    assert list(numbers_of(["1,234", "1.234"], COMMA).values) == [1.234, 1234]
    assert list(numbers_of(["1,234", "1.234"], POINT).values) == [1234, 1.234]
    against = numbers_of(["1,5", "2.5", "inf"], COMMA)
    assert list(against.wrong) == [False, True, False]


@given(
    value=st.floats(-1e9, 1e9).map(lambda value: round(value, 3)),
    mark=st.sampled_from(MARKS),
    blank=st.sampled_from([" ", "'", "’", "\u00a0", "\u202f", None]),
)
def test_a_number_that_is_written_with_groups_is_read_back(value, mark, blank):
    text = f"{value:,.3f}".translate({ord(","): blank or OTHER[mark], ord("."): mark})
    assert read(text, mark) == value


@given(cells=st.lists(st.floats(allow_nan=False).map(repr) | st.integers().map(str), min_size=1))
def test_what_python_reads_is_what_python_reads(cells):
    try:
        expected = [float(cell) for cell in cells]
    except OverflowError:
        return
    found = Numbers.of(cells)
    assert list(found.values) == expected
    assert (found.about, found.hint) == ("", "")


HEADER = "tokens;batch_size;seq_len;lr;val_loss"


def test_what_was_made_of_numbers_is_said():
    done = invoke([HEADER, "1.000.000;16;64;0,001;3,125", "1.000.000;32;64;0,002;3,0"])
    assert done.exit_code == 0, done.exception
    assert "numbers of tokens: thousands are divided, 1.000.000 is 1000000\n" in done.stdout
    assert "numbers of lr: decimal comma, 0,001 is 0.001\n" in done.stdout
    rows = RunStore("results/runs").imports("runs")
    assert list(rows["val_loss"]) == [3.125, 3]
    assert set(rows["tokens"]) == {1e6}


def test_a_column_that_could_be_either_asks_for_the_mark():
    lines = [HEADER, "1e6;16;64;0,001;3,125", "1e6;32;64;0,002;3,250"]
    message = str(invoke(lines).exception)
    assert "row 2, column 'val_loss': '3,125' is not a number" in message
    assert "--decimal , makes 3,125 3.125, and --decimal . makes it 3125" in message
    assert "'lr'" not in message
    for mark, value in ((",", 3.125), (".", 3125)):
        done = invoke(lines if mark == "," else [line.replace("0,00", "0.00") for line in lines], "--decimal", mark)
        assert done.exit_code == 0, done.exception
        assert RunStore("results/runs").imports("runs")["val_loss"][0] == value


def test_a_mark_that_contradicts_a_column_is_refused():
    done = invoke([HEADER, "1e6;16;64;0.001;3.5"], "--decimal", ",")
    message = str(done.exception)
    assert "'0.001' is not a number; write all of the column with the decimal mark ," in message
    assert isinstance(done.exception, UserError)
    assert str(invoke([HEADER], "--decimal", ";").exception) == "decimal: ';' is not allowed; it must be . or ,"


def test_a_condition_reads_numbers_as_the_column_does():
    lines = [HEADER, "1.000.000;16;64;0,001;3,5", "2.000.000;16;64;0,001;4,5"]
    for where in ("val_loss<4", "tokens<=1000000"):
        done = invoke(lines, "--where", where)
        assert done.exit_code == 0, done.exception
        assert list(RunStore("results/runs").imports("runs")["val_loss"]) == [3.5]


def test_a_condition_does_not_change_what_a_column_says():
    done = invoke([HEADER, "1e6;16;64;0,001;3,125", "1e6;32;64;0,001;3,25"], "--where", "batch_size=16")
    assert done.exit_code == 0, done.exception
    assert RunStore("results/runs").imports("runs")["val_loss"].item() == 3.125
