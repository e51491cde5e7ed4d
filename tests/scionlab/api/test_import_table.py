"""Tables of runs from Python: files and DataFrames, what is refused, and that the command takes the same."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from scionlab import RunStore, UserError, import_table
from scionlab.cli import app

COLUMNS = {"n_params": "Model Size", "tokens": "D", "val_loss": "loss"}
FRAME = pd.DataFrame(
    {
        "Model Size": [1e6, 4e6, 1e6, 4e6],
        "D": [1e9, 1e9, 4e9, 4e9],
        "loss": [3.5, 3.1, 3.2, 2.9],
        "kind": ["a", "b", "a", None],
    }
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".parquet"])
def test_a_frame_is_read_as_its_file_is(suffix):
    path = f"points{suffix}"
    if suffix == ".parquet":
        FRAME.to_parquet(path)
    elif suffix == ".jsonl":
        FRAME.to_json(path, orient="records", lines=True)
    else:
        FRAME.to_csv(path, index=False)
    of_file, of_frame = (import_table(source, map=COLUMNS, name="points") for source in (path, FRAME))
    about = ["source", "row"]
    pd.testing.assert_frame_equal(of_file.runs.drop(columns=about), of_frame.runs.drop(columns=about))
    assert of_file.taken == of_frame.taken
    assert import_table(path, map=COLUMNS).name == "points"


def test_what_is_stored_is_what_is_given():
    table = import_table(FRAME, map=COLUMNS, name="points", results="results")
    pd.testing.assert_frame_equal(RunStore("results").imports("points"), table.runs)
    again = import_table(FRAME, map=COLUMNS, name="points", results="results")
    assert (table.replaced, again.replaced) == (0, 4)


def test_the_command_stores_the_same():
    FRAME.to_csv("points.csv", index=False)
    table = import_table("points.csv", map=COLUMNS, where="kind=a|b", results="here")
    maps = "n_params=`Model Size`,tokens=D,val_loss=loss"
    done = CliRunner().invoke(app, ["import", "points.csv", "--map", maps, "--where", "kind=a|b", "--results", "there"])
    assert done.exit_code == 0, done.exception
    pd.testing.assert_frame_equal(RunStore("there").imports("points"), table.runs)
    assert "left out: 1 of 4 rows, by kind=a|b" in done.stdout


def test_nothing_is_written_unless_asked(folder):
    import_table(FRAME, map=COLUMNS)
    assert not list(folder.iterdir())


def test_an_index_and_types_of_pandas_do_not_matter():
    typed = FRAME.convert_dtypes().set_index(pd.Index([7, 7, 8, 9])).astype({"kind": "category"})
    plain = import_table(FRAME, map=COLUMNS, set={"seed": 3, "lr": 1e-9, "batch_size": 8, "seq_len": 1})
    other = import_table(typed, map=COLUMNS, set={"seed": 3, "lr": 1e-9, "batch_size": 8, "seq_len": 1})
    pd.testing.assert_frame_equal(plain.runs, other.runs)
    assert other.runs["lr"].unique() == [1e-9]


def test_a_missing_loss_is_an_empty_cell_and_an_infinite_one_diverged():
    with pytest.raises(UserError, match=r"DataFrame: row 2, column 'loss': is empty; write inf for a run"):
        import_table(FRAME.assign(loss=[3.5, np.nan, 3.2, 2.9]), map=COLUMNS)
    table = import_table(FRAME.assign(loss=[3.5, np.inf, 3.2, 2.9]), map=COLUMNS)
    assert table.n_diverged == 1
    assert table.values("status") == ["diverged", "ok"]


def test_arithmetic_conditions_and_unused_columns():
    table = import_table(
        FRAME, map=COLUMNS | {"tokens": "2*D"}, where=["kind!=", "D<2e9"], set={"group": "mine", "seed": "1"}
    )
    assert table.runs["tokens"].tolist() == [2e9, 2e9]
    assert (table.left_out, table.n_rows) == ((3, 4), 2)
    assert table.unused == ("kind",)
    assert table.taken["tokens"] == "2*D"
    assert table.name == "table"


def test_a_name_that_is_known_is_shown_as_a_call_to_copy():
    frame = FRAME.rename(columns={"D": "total_tokens"})
    with pytest.raises(UserError) as refused:
        import_table(frame, map={"n_params": "Model Size"}, where="kind=a")
    call = str(refused.value).splitlines()[-1].strip()
    assert call.startswith("import_table(frame, map={'n_params': '`Model Size`', ")
    assert len(eval(call, {"frame": frame, "import_table": import_table}).runs) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": FRAME.iloc[:0]}, "source: the DataFrame has no rows, or no columns"),
        ({"source": "gone.csv"}, "file: 'gone.csv' cannot be read: No such file or directory"),
        ({"source": "~nobody-here/x.csv"}, "source: '~nobody-here/x.csv' is not allowed: there is no such home folder"),
        ({"map": {"token": "D"}}, "map: 'token' is not known (did you mean 'tokens'?)"),
        ({"set": {"seqlen": 1}}, "set: 'seqlen' is not known (did you mean 'seq_len'?)"),
        ({"decimal": ";"}, "decimal: ';' is not allowed; it must be . or ,"),
        ({"name": "My Runs"}, "name: 'My Runs' is not allowed; it must be lower-case letters"),
        ({"where": "kind"}, "where: 'kind' is not of the form COLUMN=VALUE"),
        ({"set": {"lr": -1.0}}, "lr: '-1.0' is not allowed; it must be above 0"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message):
    with pytest.raises(UserError) as refused:
        import_table(**{"source": FRAME, "map": COLUMNS} | arguments)
    assert message in str(refused.value)
    assert isinstance(refused.value, ValueError)


def test_two_columns_of_one_name_are_refused_only_where_they_are_used():
    twice = pd.concat([FRAME, FRAME[["kind"]]], axis="columns")
    assert len(import_table(twice, map=COLUMNS).runs) == 4
    with pytest.raises(UserError, match="two columns called 'kind'"):
        import_table(twice, map=COLUMNS | {"group": "kind"})


def test_what_is_a_columns_name_is_that_column_and_no_arithmetic():
    frame = FRAME.assign(N=1.0, **{"D/N": 5 * FRAME["D"]})
    assert import_table(frame, map=COLUMNS | {"tokens": "D/N"}).runs["tokens"].max() == 20e9
    assert import_table(frame, map=COLUMNS | {"tokens": "D/(N)"}).runs["tokens"].max() == 4e9
