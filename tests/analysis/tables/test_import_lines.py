"""JSON lines, and tables with a row a logged step."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imported import refusal_of, rows_of
from typer.testing import CliRunner

from analysis.tables.foreign.lines import read_lines
from analysis.tables.foreign.problems import Problems
from scionlab.cli import app

pytestmark = pytest.mark.usefixtures("folder")


def invoke(lines, *arguments, name="runs.jsonl"):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n"
    with open(name, "wb") as file:
        file.write(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return CliRunner().invoke(app, ["import", name, "--name", "runs", *arguments])


def taken(lines, *arguments, **options):
    return rows_of(invoke(lines, *arguments, **options))


def refused(lines, *arguments, **options):
    return refusal_of(invoke(lines, *arguments, **options))


NESTED = [
    {"config": {"model": {"params": 1e9}, "lr": 0.1}, "tokens": 1e10, "eval/loss": 2.5, "tags": ["a", {"b": 1}]},
    {"config": {"model": {"params": 2e9}}, "tokens": "2e10", "eval/loss": float("nan")},
]


@pytest.mark.parametrize("name", ["runs.jsonl", "runs.ndjson", "runs.jsonl.gz", "RUNS.JSONL"])
def test_objects_within_objects_are_columns_with_dots(name):
    rows = taken(["", *NESTED, ""], "--map", "n_params=`config.model.params`,val_loss=`eval/loss`", name=name)
    assert list(rows["n_params"]) == [1e9, 2e9]
    assert list(rows["tokens"]) == [1e10, 2e10]
    assert list(rows["status"]) == ["ok", "diverged"]
    assert list(rows["row"]) == [2, 3]


def test_what_an_object_does_not_have_is_empty():
    lines = [{"n_params": 1e9, "tokens": 1e10, "val_loss": 2}, {"n_params": 1e9, "val_loss": 2}]
    assert "row 2, column 'tokens': is empty" in refused(lines)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "row 2, is not JSON: "),
        ("[1]", "row 2, is not a JSON object in braces"),
        ("3", "row 2, is not a JSON object in braces"),
        ('{"a":' * 30 + "1" + "}" * 30, "row 2, has objects that are nested more than 20 deep"),
        ("[" * 100_000, "row 2, is not JSON"),
    ],
)
def test_a_line_that_is_no_object_is_named(line, expected):
    assert expected in refused([{"n_params": 1, "tokens": 1, "val_loss": 1}, line])


def test_a_name_that_is_there_twice_cannot_be_meant():
    for line in (
        '{"n_params": 1, "n_params": 2, "tokens": 1, "val_loss": 2}',
        '{"n_params": 1, "tokens": 1, "val_loss": 2, "a.b": 1, "a": {"b": 2}}',
    ):
        message = refused([line], *(["--map", "width=`a.b`"] if "a.b" in line else []))
        assert "the file has two columns called" in message


@given(
    st.lists(
        st.dictionaries(
            st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="."), min_size=1, max_size=5),
            st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5) | st.floats(allow_nan=False),
            min_size=1,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_goes_into_lines_comes_out(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("lines") / "runs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    problems = Problems("runs.jsonl")
    assert [cells for _, cells in read_lines(path, problems).rows] == rows
    assert not problems.found


def test_other_json_is_told_what_to_do():
    with open("runs.json", "w") as file:
        file.write("[]")
    done = CliRunner().invoke(app, ["import", "runs.json"])
    assert "write one object a line, as .jsonl" in str(done.exception)
