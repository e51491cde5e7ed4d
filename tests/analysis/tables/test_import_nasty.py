"""CSV as nobody would write it by hand: either the same two runs come out, or one problem says what is wrong."""

import gzip

import pytest
from imported import refusal_of, rows_of
from typer.testing import CliRunner

from scionlab.cli import app

pytestmark = pytest.mark.usefixtures("folder")

PLAIN = "N,D,lr,loss\n1e6,2e9,1e-3,3.125\n4000000,2e9,1e-3,2.5\n"
GERMAN = "N;D;lr;loss\r\n1.000.000;2.000.000.000;0,001;3,125\r\n4.000.000;2.000.000.000;0,001;2,5\r\n"
QUOTED = '"N","D","lr","loss"\n"1,000,000","2e9","0.001","3.125"\n"4,000,000","2e9","0.001","2.5"\n'
EMPTY_ENDS = "N,D,lr,loss,,\n1e6,2e9,1e-3,3.125,,\n4e6,2e9,1e-3,2.5,\n,,,,,\n"
DATES = "N,day,D,lr,loss\n1e6,2026-05-01,2e9,1e-3,3.125\n4e6,1.5.2026,2e9,1e-3,2.5\n"


def invoke(content, name="runs.csv"):
    with open(name, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    maps = ["--map", "n_params=N,tokens=D,val_loss=loss", "--set", "batch_size=64,seq_len=1024"]
    return CliRunner().invoke(app, ["import", name, "--name", "runs", *maps])


TAKEN = {
    "byte-order mark, decimal commas, thousands": "\ufeff" + GERMAN,
    "packed": gzip.compress(GERMAN.encode()),
    "Excel's first line": "\ufeffsep=;\r\n" + GERMAN,
    "UTF-16 with its mark": PLAIN.encode("utf-16"),
    "UTF-16, big end first": ("\ufeff" + PLAIN).encode("utf-16-be"),
    "lines that end in three ways": PLAIN.replace("\n", "\r\n", 1).replace("3.125\n", "3.125\r"),
    "lines that end in two marks": PLAIN.replace("\n", "\r\r\n"),
    "quoted numbers": QUOTED,
    "empty columns at the end": EMPTY_ENDS,
    "an index without a name": ",N,D,lr,loss\n0,1e6,2e9,1e-3,3.125\n1,4e6,2e9,1e-3,2.5\n",
    "exponents with commas": "N;D;lr;loss\n1,0e6;2,0E+09;1,0e-3;3,125\n4,0e6;2e9;1e-3;2,5\n",
    "typeset minus": PLAIN.replace("-", "\u2212"),
    "typeset minus, decimal comma": "N;D;lr;loss\n1e6;2e9;1,0e\u22123;3,125\n4e6;2e9;1,0e\u22123;2,5\n",
    **{f"blanks of {ord(b):x}": GERMAN.replace(".", b) for b in "\u00a0\u2007\u2009\u202f"},
    "dates in two ways, unused": DATES,
    "unused columns of one name": PLAIN.replace("loss", "loss,x,x").replace("5\n", "5,1,2\n"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_the_same_runs_come_out(case):
    rows = rows_of(invoke(TAKEN[case], "runs.csv.gz" if case == "packed" else "runs.csv"))
    assert rows[["n_params", "tokens", "lr", "val_loss"]].to_numpy().tolist() == [
        [1e6, 2e9, 1e-3, 3.125],
        [4e6, 2e9, 1e-3, 2.5],
    ]


def test_a_typeset_minus_is_said():
    said = " ".join(invoke(TAKEN["typeset minus"]).stdout.split())
    assert "numbers of lr: a minus as it is typeset, 1e\u22123 is 0.001" in said
    assert "thousands" not in said


TWO_LINES = "row 1, has no name above 'D' of row 2, which has no number either"
REFUSED = {
    "used columns of one name": (PLAIN.replace("lr", "loss"), "val_loss: the file has two columns called 'loss'"),
    "header in two lines": ("size,,rate,result\n" + PLAIN, TWO_LINES),
    "header in two lines, the last without a name": ("size,,result,\n" + PLAIN, TWO_LINES),
    "a title": ("Results of May,,,\n" + PLAIN, "take out what stands above the names, such as a title"),
    "percent": (
        PLAIN.replace("1e-3", "0.1%"),
        "row 2, column 'lr': '0.1%' is not a number; write the share, 0.1 for 10%",
    ),
    "a number that became a date": (PLAIN.replace("2.5", "02.May"), "'02.May' is not a number; it is a date, which"),
    "a day": (PLAIN.replace("2.5", "2026-05-02 00:00:00"), "is not a number; it is a date, which a spreadsheet"),
    "a short day": (PLAIN.replace("2.5", "5/2/26"), "is not a number; it is a date, which a spreadsheet"),
    "header only": ("N,D,lr,loss\n", "has no rows below its header"),
    "nothing": ("\ufeffsep=;\n", "has no rows below its header"),
    "UTF-16 without its mark": (PLAIN.encode("utf-16-le"), "is not UTF-8 text; save it as UTF-8"),
    "half of UTF-16": (PLAIN.encode("utf-16")[:-1], "is not UTF-8 text; save it as UTF-8"),
    "a pointer": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "is a pointer of Git LFS, not the file",
    ),
    "an open quote": (
        PLAIN.replace("1e6", '"1e6'),
        "row 3, has 1 cell where the header has 4; is a quotation mark not",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_problem_says_what_is_wrong(case):
    content, expected = REFUSED[case]
    message = refusal_of(invoke(content))
    assert expected in message
    assert "\n" not in message


def test_a_word_that_begins_like_a_month_is_no_date():
    assert refusal_of(invoke(PLAIN.replace("2.5", "marin"))).endswith("column 'loss': 'marin' is not a number")


def test_a_column_without_numbers_is_not_proposed_for_a_number():
    message = refusal_of(CliRunner().invoke(app, ["import", _colours()]))
    assert "lr: no such column; map it or set it" in message
    assert "did you mean 'loss'" in message


def _colours():
    with open("colours.csv", "w") as file:
        file.write("color,loss\n#faebdd,3\n#f8d1b8,2\n")
    return "colours.csv"
