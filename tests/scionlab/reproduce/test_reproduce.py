"""Published numbers beside ours: the table that is shipped, synthetic ones of the others, and what is missing."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_joint import JointPlan, joint_runs
from typer.testing import CliRunner

from analysis.fits.intervals import Estimate
from scionlab import UserError
from scionlab.cli import app
from scionlab.reproduce.declare import Published, Verdict
from scionlab.reproduce.finding import columns_of, file_of
from scionlab.reproduce.run import reproduce
from scionlab.reproduce.tables import TABLES
from scionlab.reproduce.tables.porian import EXPONENTS

NAMED = {table.name: table for table in TABLES}
FIXED = {"bst-table1", "bst-plan"}  # that need no folder
JOINT = JointPlan(lr=(-0.713, 0.307), batch=(0.0, 0.571))


def law(n_params, tokens):
    return 1.8 + 480 * n_params**-0.35 + 2000 * tokens**-0.37


def chinchilla():
    n, t = (grid.ravel() for grid in np.meshgrid(np.geomspace(5e7, 1e10, 7), np.geomspace(1e9, 4e11, 6)))
    loss = law(n, t) * np.exp(np.random.default_rng(0).normal(0, 0.002, len(n)))
    rows = pd.DataFrame({"Model Size": n, "Training FLOP": 6 * n * t, "loss": loss, "color": "red"})
    worst = [rows.iloc[[i]].assign(loss=8.0 + i, **{"Model Size": 3e7 * (i + 1)}) for i in range(5)]
    return pd.concat([rows, *worst])


def valleys(exponent):
    """Losses of four budgets whose best sizes grow by an exponent."""
    flops, off = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e17, 1e20, 4), np.linspace(-2, 2, 7)))
    best = 1e7 * (flops / 1e17) ** exponent
    n = best * np.exp(off)
    return pd.DataFrame({"flops": flops, "n_params": n, "tokens": flops / (6 * n), "loss": 3 + 0.1 * off**2})


def porian():
    return pd.concat([valleys(exponent).assign(config=config) for config, (_, exponent) in EXPONENTS.items()])


def llama3():
    rows = valleys(0.5)
    rows = rows.assign(loss=law(rows["n_params"], rows["tokens"]), outlier=False, source="llama_3")
    rows.loc[rows.index[-1], ["outlier", "loss"]] = [True, 9.0]
    names = {"n_params": "params", "flops": "budget"}
    return rows.rename(columns=names).assign(experiment="llama_3__raw_loss")


def steplaw():
    runs = joint_runs(JOINT, scatter=0.05).assign(ti=lambda rows: (rows.tokens / rows.batch_size / 2048).round())
    return runs.rename(columns={"tokens": "D", "n_params": "N", "batch_size": "bs", "val_loss": "smooth loss"})


def critical_batch():
    """Sizes in millions, and B_20% = 100 N^0.45 sequences."""
    n, batch = (grid.ravel() for grid in np.meshgrid([100, 250, 600, 1500], 2.0 ** np.arange(6, 15)))
    crit = (100 * n**0.45 - 1.2 * 256) / 0.2
    steps = 20e6 * n * (1 + batch / crit) / (512 * batch)
    steps *= np.exp(np.random.default_rng(0).normal(0, 0.02, len(n)))
    rows = {"n_params_millions": n, "batch_size_seqs": batch, "steps_to_goal": steps, "goal_loss_c4": 3.5 - n / 5e3}
    return pd.DataFrame(rows).assign(seq_len=512)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("tables")
    for make in (chinchilla, porian, llama3, steplaw, critical_batch):
        make().to_csv(made / f"of_{make.__name__}.csv", index=False)
    (made / "notes.csv").write_text("")  # what is no table is passed over
    (made / "figure.png").write_bytes(b"no table")
    return made


@pytest.fixture(scope="module")
def everything(folder):
    return {result.table.name: result for result in reproduce(folder).tables}


@pytest.fixture(scope="module")
def shipped():
    return {result.table.name: result for result in reproduce().tables}


def ours(result):
    return {number.published.name: number.ours for number in result.numbers}


def test_the_shipped_table_is_that_of_the_paper_and_gives_its_ties(shipped):
    result = shipped["bst-table1"]
    verdicts = {number.published.name: number.verdict for number in result.numbers}
    assert verdicts == {
        "lowest of the tied rates": Verdict.AGREES,
        "highest of the tied rates": Verdict.AGREES,
        "best rate at B = 256": Verdict.INSIDE,
        "best rate at the best batch": Verdict.OUTSIDE,
        "best batch": Verdict.INSIDE,
    }
    (why,) = [number.why for number in result.numbers if number.why]
    assert f"{ours(result)['best rate at B = 256'].value:.2e}".replace("e-04", "e-4") in why
    assert result.seconds < 30


def test_the_plan_is_the_papers_without_any_table(shipped):
    assert {number.verdict for number in shipped["bst-plan"].numbers} == {Verdict.AGREES}


def test_without_a_folder_the_others_say_what_to_fetch(shipped):
    for name, result in shipped.items():
        assert result.compared == (name in FIXED), name
        if name in FIXED:
            continue
        assert {number.verdict for number in result.numbers} == {Verdict.NO_TABLE}
        assert result.problem.startswith(f"No file with the columns {', '.join(result.table.columns)}; get ")


def test_planted_laws_come_out_of_the_tables_that_have_their_columns(everything):
    found = ours(everything["chinchilla"])
    for name, truth in {"E": 1.8, "α": 0.35, "β": 0.37}.items():
        assert found[name].value == pytest.approx(truth, abs=0.02), name
    for words, exponent in EXPONENTS.values():
        assert ours(everything["porian"])[words].value == pytest.approx(exponent, abs=0.005)
    assert ours(everything["llama3"])["α"].value == pytest.approx(0.35, abs=0.01)
    assert everything["llama3"].file == "of_llama3.csv"


def test_planted_joint_laws_come_out_with_the_published_form(everything):
    found = ours(everything["steplaw"])
    for name, truth in {"rate in N": JOINT.lr[0], "rate in D": JOINT.lr[1], "batch in D": JOINT.batch[1]}.items():
        estimate = found[f"exponent of the {name}"]
        assert estimate.low <= truth <= estimate.high, name
        assert estimate.value == pytest.approx(truth, abs=0.1), name
    lr, batch = JOINT.optimum(1e9, 1e11)
    assert found["rate at 1e9 parameters, 1e11 tokens"].value == pytest.approx(2**lr, rel=0.3)
    assert found["batch at 1e11 tokens"].value == pytest.approx(2**batch, rel=0.3)


def test_a_planted_critical_batch_comes_out_in_sequences_and_millions(everything):
    found = ours(everything["critical-batch"])
    assert found["exponent of B_20% in N"].value == pytest.approx(0.45, abs=0.05)
    at = found["B_20% at a million parameters"]
    assert at.low <= 100 <= at.high
    assert at.value == pytest.approx(100, rel=0.3)


def test_time_and_memory_are_said_of_every_table(everything):
    peaks = [result.peak_mb for result in everything.values()]
    assert peaks == sorted(peaks)  # of one process
    assert all(re.fullmatch(r"\d+\.\d s, up to [\d,]+ MB so far", result.cost) for result in everything.values())


def test_every_number_has_a_name_of_its_own_and_every_fit_gives_them_all(everything):
    assert len(NAMED) == len(TABLES)
    for result in everything.values():
        names = [published.name for published in result.table.values]
        assert len(set(names)) == len(names)
        assert all(number.ours is not None for number in result.numbers), result


def test_a_table_is_known_by_its_columns_alone(tmp_path):
    steplaw = NAMED["steplaw"]
    dense = {column: [1.0] for column in steplaw.columns}
    pd.DataFrame(dense).to_parquet(tmp_path / "a.parquet")
    pd.DataFrame(dense | {"topk": [1.0]}).to_csv(tmp_path / "b.csv", index=False)
    assert file_of(steplaw, columns_of(tmp_path)) == tmp_path / "a.parquet"
    pd.DataFrame(dense).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(UserError, match=r"a\.parquet, c\.csv have its columns; keep one of them"):
        file_of(steplaw, columns_of(tmp_path))


def test_what_cannot_be_fitted_is_said_and_the_others_go_on(tmp_path):
    (tmp_path / "bad.csv").write_text("Model Size,Training FLOP,loss\n1e9,,3\n")
    results = {result.table.name: result for result in reproduce(tmp_path).tables}
    assert {number.verdict for number in results["chinchilla"].numbers} == {Verdict.NOT_READ}
    assert "bad.csv: row 2, column 'Training FLOP': is empty" in results["chinchilla"].problem
    assert results["bst-plan"].compared


@pytest.mark.parametrize(
    ("published", "found", "verdict"),
    [
        (Published("x", 1.0), Estimate(1.2, 0.9, 1.5), Verdict.INSIDE),
        (Published("x", 1.0, 0.8, 1.2), Estimate(1.3, 1.1, 1.5), Verdict.OVERLAP),
        (Published("x", 1.0, 0.9, 1.05), Estimate(1.3, 1.1, 1.5), Verdict.OUTSIDE),
        (Published("x", 1.0), Estimate(1.3, 1.1, 1.5), Verdict.OUTSIDE),
        (Published("x", 1.0, tolerance=0.05), Estimate(1.04), Verdict.AGREES),
        (Published("x", 1.0, tolerance=0.05), Estimate(1.06), Verdict.DIFFERS),
        (Published("x", 1.0), None, Verdict.UNDETERMINED),
    ],
)
def test_verdicts(published, found, verdict):
    assert published.judge(found) is verdict


def test_the_command_writes_a_page_a_csv_and_json(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["reproduce", "--tables", str(folder)])
    assert done.exit_code == 0, done.exception
    assert re.search(r"Step Law, arXiv 2503\.04715; [\d.]+ s, up to [\d,]+ MB so far", done.stdout)
    page = Path("results/report/reproduce.html").read_text()
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
    with open("results/fits/reproduce/reproduce.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(table.values) for table in TABLES)
    for table in TABLES:
        assert table.title in page.replace("&#39;", "'")
    document = json.loads(Path("results/fits/reproduce/reproduce.json").read_text())
    assert [number["number"] for number in document["numbers"]] == [row["number"] for row in rows]
    assert "reproduce.html" in Path("results/report/index.html").read_text()


def test_a_folder_that_is_none_is_refused(tmp_path):
    done = CliRunner().invoke(app, ["reproduce", "--tables", str(tmp_path / "gone"), "--results", str(tmp_path)])
    assert isinstance(done.exception, UserError)
    assert "is not a folder" in str(done.exception)


def test_the_page_of_the_docs_has_the_numbers_that_come_out(shipped):
    page = (Path(__file__).parents[3] / "docs" / "reproduce.md").read_text()
    for name in FIXED:
        for row in shipped[name].numbers:
            texts = row.texts()
            assert f"| {texts['number']} | {texts['published']} | {texts['ours']} | {texts['verdict']} |" in page
    for table in TABLES:
        if table.columns and not table.shipped:
            assert f"| `{table.name}` | {', '.join(f'`{column}`' for column in table.columns)}" in page
