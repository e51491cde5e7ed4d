"""Tables as spreadsheets, trackers and other writers leave them: read, or one sentence that says why not."""

import gzip
import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from imported import refusal_of, rows_of
from typer.testing import CliRunner

from analysis.pipeline import fit_results
from scionlab.cli import app
from scionlab.runs.store import RunStore

HEADER = "tokens,batch_size,seq_len,lr,val_loss"
ROW = "100000000,16,1024,0.001,3.1"


pytestmark = pytest.mark.usefixtures("folder")


def invoke(content, *arguments, name="runs.csv"):
    if content is not None:
        text = content if isinstance(content, str) else "\n".join(content)
        with open(name, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    return CliRunner().invoke(app, ["import", name, "--name", "runs", *arguments])


def taken(content, *arguments, **options):
    return rows_of(invoke(content, *arguments, **options))


def refused(content, *arguments, **options):
    return refusal_of(invoke(content, *arguments, **options))


def semicolons(text):
    return text.replace(",", ";")


@pytest.mark.parametrize(
    ("lines", "row"),
    [
        (["sep=;", semicolons(HEADER), semicolons(ROW)], 3),
        (['"SEP=|"', HEADER.replace(",", "|"), ROW.replace(",", "|")], 3),
        ([HEADER.replace(",", "|"), ROW.replace(",", "|")], 2),
        (["# exported, from a tracker", "#", "", HEADER, ROW], 5),
        (["#" + HEADER.replace("tokens", "D"), ROW], None),
        (["," + HEADER + ",,", "0," + ROW + ",,", ",,,,,,,"], 2),
        ([HEADER, ROW + ",,", ",,,,", ""], 2),
        (["", HEADER, ROW], 3),
    ],
    ids=["sep", "sep quoted", "pipes", "comments", "header with #", "unnamed", "empty ends", "blank line"],
)
def test_what_a_spreadsheet_adds_is_no_row_and_no_column(lines, row):
    rows = taken(lines, *([] if row else ["--map", "tokens=`#D`"]))
    assert list(rows["lr"]) == [0.001]
    assert list(rows["row"]) == [row or 2]


def test_a_packed_file_is_read(folder):
    (folder / "runs.csv.gz").write_bytes(gzip.compress(f"{HEADER}\n{ROW}\n".encode()))
    assert list(taken(None, name="runs.csv.gz")["source"]) == ["runs.csv.gz"]
    assert CliRunner().invoke(app, ["import", "runs.csv.gz"]).stdout.startswith("runs: 1 runs imported")
    (folder / "torn.csv.gz").write_bytes(gzip.compress(f"{HEADER}\n{ROW}\n".encode())[:-9])
    (folder / "plain.csv.gz").write_text(f"{HEADER}\n{ROW}\n")
    for name in ("torn.csv.gz", "plain.csv.gz"):
        assert f"'{name}' cannot be unpacked" in refused(None, name=name)
    (folder / "runs.parquet.gz").write_bytes(b"")
    assert "unpack it" in refused(None, name="runs.parquet.gz")
    (folder / "runs.xlsx").write_bytes(b"")
    assert "save the sheet as CSV" in refused(None, name="runs.xlsx")


MANY = {
    "a mark that is not told": (
        [HEADER, *(f'"100,000",{b},1024,0.001,3.1' for b in range(16, 46))],
        "--decimal , makes 100,000 100, and --decimal . makes it 100000",
    ),
    "two marks": (
        [semicolons(HEADER), *(f"1e8;{b};1024;0,01;3.1" for b in range(16, 45)), "1e8;45;1024;0.01;3.1"],
        "the column has both '0.01' and '0,01': write all of it in one way",
    ),
    "no grouping": ([HEADER, *(f"1 0000 000,{b},1024,0.001,3.1" for b in range(16, 46))], "write 1234567.5"),
    "units": ([HEADER, *(f"100M,{b},1024,0.001,3.1" for b in range(16, 46))], "1e8 for 100M"),
    "no loss": ([HEADER, *(f"1e8,{b},1024,0.001,{'N/A' if b % 2 else '-'}" for b in range(16, 46))], "write inf"),
    "spreadsheet's": ([HEADER, *(f"1e8,{b},#REF!,0.001,3" for b in range(16, 46))], "leave such rows out with --where"),
    "status": (
        [HEADER + ",status", *(f"1e8,{b},1024,0.001,3,CRASHED" for b in range(16, 46))],
        "--where 'status!=CRASHED'",
    ),
    "step": ([HEADER, *(f"1e8,{b}000000,1024,0.001,3" for b in range(16, 46))], "--set seq_len=1"),
}


@pytest.mark.parametrize("case", MANY)
def test_a_cause_is_named_once(case):
    lines, expected = MANY[case]
    message = refused(lines)
    assert message.startswith("runs.csv: row 2, ")
    assert expected in message
    assert message.endswith(f"(likewise {28 if case == 'two marks' else 29} more rows)")
    assert "\n" not in message


def test_a_title_above_the_names_is_one_problem():
    message = refused(["Sweep of May", HEADER, ROW, ROW.replace("16", "32")])
    assert message.startswith("runs.csv: row 1, is taken for the names of the columns")
    assert "\n" not in message
    assert "row 3, has 1 cell where the header has 5; is it a comment?" in refused([HEADER, ROW, "# end"])


def test_names_in_another_spelling_are_suggested():
    message = refused([HEADER.replace("batch_size", "Batch Size").upper(), ROW])
    assert "lr: no such column (did you mean 'LR'? Then --map lr=LR)" in message
    assert "batch_size: no such column (did you mean 'BATCH SIZE'? Then --map batch_size=`BATCH SIZE`)" in message


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0]).cast(pa.timestamp("us", tz="tzlocal()")),
        pa.array([0]).cast(pa.timestamp("ns", tz="Mars/Phobos")),
        pa.array([2**40]).cast(pa.timestamp("s")),
        pa.array([[{"a": 1}]]),
        pa.array([b"\xff"]),
    ],
    ids=["tzlocal", "Mars", "year", "nested", "bytes"],
)
def test_a_column_that_nobody_uses_may_be_of_any_type(column, folder):
    known = pa.Table.from_pylist([dict(zip(HEADER.split(","), map(float, ROW.split(",")), strict=True))])
    pq.write_table(known.append_column("created", column).append_column("created", column), folder / "runs.parquet")
    assert len(taken(None, name="runs.parquet")) == 1
    message = refused(None, "--map", "optimizer=created", name="runs.parquet")
    assert "two columns called 'created'" in message
    pq.write_table(known.append_column("made by", column), folder / "runs.parquet")
    done = invoke(None, "--map", "optimizer=`made by`", name="runs.parquet")
    assert done.exit_code == 0 or "'made by'" in str(done.exception)
    assert "is not Parquet" not in str(done.exception)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int8(), pa.binary())])
def test_texts_that_their_writer_did_not_mark_are_texts(kind, folder):
    row = dict(zip(HEADER.split(","), ROW.split(","), strict=True)) | {"optimizer": "adamw", "status": "OK"}
    pq.write_table(pa.table({name: pa.array([cell.encode()]).cast(kind) for name, cell in row.items()}), "runs.parquet")
    rows = taken(None, name="runs.parquet")
    assert (rows["optimizer"].item(), rows["status"].item(), rows["lr"].item()) == ("adamw", "ok", 0.001)


TRACKER = [
    "run_id,status,metrics.val_loss,params.lr,epoch",
    "a1,FINISHED,3.1,0.001,10",
    "a2,finished,3.0,0.002,10",
    "a3,FAILED,,0.004,1",
    "a4,RUNNING,4.2,0.003,7",
]
TRACKED = (
    "--map", "lr=`params.lr`,val_loss=`metrics.val_loss`", "--set", "tokens=1e8,batch_size=32,seq_len=1024",
)  # fmt: skip


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ("status=FINISHED", 2),
        ("status!=FAILED|RUNNING", 2),
        ("status!=FAILED,status!=RUNNING", 2),
        ("`params.lr`=1e-3", 3),
        ("epoch>=10", 2),
        ("metrics.val_loss!=,epoch==10", 2),
    ],
)
def test_rows_are_left_out_and_counted(where, left):
    done = invoke(TRACKER, *TRACKED, "--where", where)
    assert done.exit_code == 0, done.exception
    assert done.stdout.startswith(f"left out: {left} of 4 rows, by {where.replace(',', ', ')}\nruns: {4 - left} runs")
    assert set(RunStore("results/runs").imports("runs")["status"]) == {"ok"}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("status=FINISHD", "where: no row has status=FINISHD; 'status' is FAILED, FINISHED, RUNNING, finished"),
        ("state=FINISHED", "where: column: 'state' is not known (did you mean 'status'?)"),
        ("FINISHED", "where: 'FINISHED' is not of the form COLUMN=VALUE"),
        ("epoch>ten", "where: 'ten' is not a number"),
    ],
)
def test_a_condition_that_cannot_be_is_one_sentence(where, expected):
    message = refused(TRACKER, *TRACKED, "--where", where)
    assert message.startswith(expected)
    assert "\n" not in message


def with_steps(steps, batch="16", tokens="100000000"):
    return [HEADER + ",steps,seed", *(f"{tokens},{batch},1024,0.001,3.1,{steps},{seed}" for seed in range(3))]


@pytest.mark.parametrize(
    ("batch", "steps", "expected"),
    [
        ("16384", 6104, "6,104 in the file, but 5.96046 by tokens ÷ (batch_size × seq_len); is batch_size in tokens"),
        (
            "4",
            6104,
            "6,104 in the file, but 24,414.1 by tokens ÷ (batch_size × seq_len); is batch_size that of one device",
        ),
        ("16", 24416, "24,416 in the file, but 6,103.52 by tokens ÷ (batch_size × seq_len); are tokens those"),
    ],
)
def test_steps_that_the_other_columns_contradict_are_refused(batch, steps, expected):
    message = refused(with_steps(steps, batch))
    assert expected in message
    assert message.endswith("(likewise 2 more rows)")


@pytest.mark.parametrize("steps", [6103, 6104, 6105, 6000])
def test_steps_may_differ_by_the_last_one_and_by_what_budgets_may(steps):
    assert set(taken(with_steps(steps))["steps"]) == {steps}


def test_a_run_that_diverged_may_have_stopped_early():
    assert list(taken([HEADER + ",steps", "100000000,16,1024,0.001,inf,50"])["steps"]) == [50]


@pytest.mark.parametrize(
    ("arguments", "value", "way"),
    [
        ([], "0.9", "--map momentum=1-momentum"),
        (["--map", "momentum=`adam beta1`"], "0.9", "--map momentum=1-`adam beta1`"),
        (["--map", "momentum=`adam beta1`"], "0.8", "--map momentum=1-`adam beta1`"),
        (["--set", "momentum=0.95"], "0.95", "--set momentum=1-0.95"),
    ],
)
def test_a_momentum_that_looks_like_pytorchs_is_questioned(arguments, value, way):
    column = "momentum" if not arguments else "adam beta1"
    done = invoke([f"{HEADER},{column}", f"{ROW},{value}"], *arguments)
    assert done.exit_code == 0
    assert done.stderr.startswith(f"warning: momentum: {value} is taken as the weight of the new gradient")
    assert done.stderr.rstrip().endswith(way)


@pytest.mark.parametrize(
    ("value", "arguments"), [("0.1", []), ("1", []), ("", []), ("0.1", ["--map", "momentum=1-momentum"])]
)
def test_a_momentum_that_is_a_weight_is_not_questioned(value, arguments):
    done = invoke([f"{HEADER},momentum", f"{ROW},{value}"], *arguments)
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize("other", ["tokens=1.00001", "tokens=1.02", "lr=1.00000001", "batch_size=0.99999999"])
def test_runs_that_no_fit_could_tell_apart_are_named_together(other):
    column, factor = other.split("=")
    cells = dict(zip(HEADER.split(","), ROW.split(","), strict=True))
    twin = cells | {column: repr(float(cells[column]) * float(factor))}
    message = refused([HEADER, ROW, ",".join(twin.values())])
    assert message.startswith("runs.csv: row 3, is the same run as row 2: ")
    assert f"({column} " in message
    assert "count as one); map a seed, or remove one" in message
    assert len(taken([HEADER + ",seed", ROW + ",0", ",".join(twin.values()) + ",1"])) == 2


def test_seeds_of_64_bits_are_kept_to_the_last_digit():
    seeds = [8271934716253417000, 8271934716253417001, 7]
    rows = taken([HEADER + ",seed", *(f"{ROW},{seed}" for seed in seeds)])
    assert list(rows["seed"]) == seeds
    message = refused([HEADER + ",seed", f"{ROW},{2**64 - 1}"])
    assert "it must be a whole number, 0 or more, and below 2^63" in message
    computed = refused([HEADER + ",seed", f"{ROW},{2**60}"], "--map", "seed=seed+1")
    assert "below 2^53" in computed


def sizes(header, rows):
    """Runs over rates and seeds for each of some rows of other columns, with the best rate at 2^-9."""
    lines = [f"{header},lr,seed,val_loss"]
    for row in rows:
        for k in range(-12, -5):
            lines += [
                f"{row},{2.0**k},{seed},{3 + 0.03 * (k + 9) ** 2 + 0.002 * ((k * 7 + seed) % 3)}" for seed in (1, 2)
            ]
    return lines


FIXED = ("--set", "batch_size=64,seq_len=1024")
SETTING = (*FIXED, "--set", "tokens=1e8")
VARIED = {
    "width": (sizes("width", [256, 512, 1024]), SETTING, "lr-transfer", {"axis": "width"}),
    "width and size": (sizes("width,n_params", ["256,1e6", "512,4e6"]), SETTING, "lr-transfer", {"axis": "width"}),
    "size": (sizes("n_params", ["1e6", "4e6"]), SETTING, "lr-transfer", {"axis": "n_params"}),
    "rounded budgets": (sizes("width,tokens", ["2,1e8", "4,100000512"]), FIXED, "lr-transfer", {"axis": "width"}),
    "budgets of widths": (sizes("width,tokens", ["256,1e8", "512,4e8"]), FIXED, "batch-scaling", {}),
    "batches": (sizes("batch_size", [16, 32, 64]), ("--set", "tokens=1e8,seq_len=1024"), "batch-scaling", {}),
}


@pytest.mark.parametrize("case", VARIED)
def test_the_study_of_an_import_is_chosen_by_what_varies(case):
    lines, constants, study, settings = VARIED[case]
    done = invoke(lines, *constants)
    assert done.exit_code == 0, done.exception
    assert f"\nstudy: {study}, about " in done.stdout
    fitted = fit_results("results", "runs", "imported")
    assert (fitted.study.name, fitted.tables.settings) == (study, settings)
    optima = [math.log2(o["lr_opt"]) for o in fitted.document.get("optima", [])]
    assert optima == pytest.approx([-9] * len(optima), abs=0.3)
    assert bool(optima) == (study == "lr-transfer")


def test_another_study_of_an_import_can_be_asked_for():
    lines, constants, *_ = VARIED["width"]
    assert invoke(lines, *constants).exit_code == 0
    asked = ["runs", "--json"]
    drawn = CliRunner().invoke(app, ["figures", *asked, "--figure", "transfer", "--study", "lr-transfer"])
    assert drawn.exit_code == 0, drawn.exception
    assert json.loads(drawn.stdout)["figures"]
    other = CliRunner().invoke(app, ["figures", *asked, "--study", "lr-transfr"])
    assert "study: 'lr-transfr' is not known (did you mean 'lr-transfer'?)" in str(other.exception)


SIZES = ["N,D,loss"] + [
    f"{n},{d},{1.7 + 400 / n**0.34 + 410 / d**0.28}"
    for n in (1e7, 3e7, 1e8, 3e8, 1e9)
    for d in (1e9, 1.01e9, 1e10, 3e10)
]


def test_sizes_tokens_and_losses_are_enough_for_their_law():
    done = invoke(SIZES, "--map", "n_params=N,tokens=D,val_loss=loss")
    assert done.exit_code == 0, done.exception
    assert "study: scaling-law, about the law of number of parameters and tokens" in done.stdout
    rows = RunStore("results/runs").imports("runs")
    assert rows[["batch_size", "seq_len", "lr", "steps"]].isna().all(axis=None)
    (law,) = fit_results("results", "runs", "imported").document["laws"]
    assert law["n_points"] == 20
    found = {name: value["value"] for name, value in law["parameters"].items()}
    assert (found["E"], found["a"], found["b"]) == pytest.approx((1.7, 0.34, 0.28), rel=0.02)
    page = CliRunner().invoke(app, ["report", "runs"])
    assert page.exit_code == 0, page.exception
    held = CliRunner().invoke(app, ["report", "runs", "--study", "isoflop", "--tell", "floor=1.7"])
    assert held.exit_code == 0, held.exception
    drawn = "figures runs --preset imported --results results --figure isoflop_valleys --study isoflop --tell=floor=1.7"
    assert drawn in Path("results/report/runs.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("floor", "tell: 'floor' is not of the form SETTING=VALUE"),
        ("flor=1", "settings.flor: no such field"),
        ("floor=low", "settings.floor: 'low' is not allowed"),
        ("floor=9", "floor: 9.0 is not allowed; it must be 0 or more, and below the lowest loss"),
    ],
)
def test_what_a_study_is_told_is_checked(told, said):
    assert invoke(SIZES, "--map", "n_params=N,tokens=D,val_loss=loss").exit_code == 0
    assert said in str(CliRunner().invoke(app, ["fit", "runs", "--tell", told]).exception)


def test_sizes_alone_are_no_sweep_of_batches():
    assert invoke(SIZES, "--map", "n_params=N,tokens=D,val_loss=loss").exit_code == 0
    other = CliRunner().invoke(app, ["fit", "runs", "--study", "batch-scaling"])
    assert "none has a learning rate; sizes, tokens and losses alone are for --study scaling-law" in str(
        other.exception
    )


@pytest.mark.parametrize(
    ("header", "missing"),
    [("N,D,loss,lr", "batch_size"), ("N,D,loss,LR", "lr"), ("M,D,loss,N", "lr")],
)
def test_half_a_setting_is_still_a_mistake(header, missing):
    maps = "tokens=D,val_loss=loss" + (",n_params=N" if header.startswith("N") else "")
    assert f"{missing}: no such column" in refused([header, "1e7,1e9,3,0.1"], "--map", maps)
