"""What is shown while a sweep runs: in terminals of any width, in logs, with poor encodings and odd clocks."""

import io
import math
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from scionlab.runs.store import RunStore
from scionlab.sweep import How, plan_sweep, run_sweep
from scionlab.sweep import progress as progress_module
from scionlab.sweep.job import Report
from scionlab.sweep.labels import trial_labels
from scionlab.sweep.progress import SweepProgress, _Screen
from scionlab.times import clock

ALONE = How("never", 1)


@pytest.fixture
def now(monkeypatch):
    """A clock that goes only where a test puts it."""
    at = [1000.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: at[0])
    return at


@pytest.fixture(scope="session")
def cells(tiny, tmp_path_factory):
    from scionlab.spec import Experiment, Preset

    trials = tuple(
        tiny(optimizer=name, width=width, lr=2.0**lr, seed=seed)
        for name in ("adam-mup", "scion")
        for width in (16, 32)
        for lr in (-7, -3)
        for seed in (0, 1)
    )
    spec = Experiment(name="x", title="", question="", presets={"smoke": Preset(trials=trials)})
    return plan_sweep(spec, "smoke", RunStore(tmp_path_factory.mktemp("none"))).todo


def terminal(width, **more):
    return Console(file=io.StringIO(), width=width, height=24, force_terminal=True, legacy_windows=False, **more)


def half_done(cells, console):
    """Five trials under way, one of them far from sane, and three ended."""
    progress = SweepProgress(cells, console)
    for n, cell in enumerate(cells[:8]):
        progress.row(cell.trial_id, {"step": n + 1, "train_loss": [2.5, math.inf, math.nan, 1e30][n % 4]})
    for cell, status in zip(cells, ["ok", "diverged", "error"], strict=False):
        progress.update(Report(cell.trial_id, status, 2.0 if status == "ok" else None, 0.5))
    return progress


def shown(progress, console):
    """The lines of the screen, without their styles."""
    lines = console.render_lines(_Screen(progress), pad=False)
    return ["".join(segment.text for segment in line) for line in lines]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width, cells):
    console = terminal(width)
    lines = shown(half_done(cells, console), console)
    assert len(lines) == 2 + 5  # bar, best losses, and each trial under way on one line of its own
    assert max(map(cell_len, lines)) <= width
    assert lines[0].lstrip("━╸╺ ").startswith("3/16")
    assert "1 diverged, 1 failed" in lines[0] or width < 40
    assert all(line.startswith(("adam-mup", "scion")) for line in lines[2:])
    assert lines[3].split()[-1] == "2.500"  # the loss stays when the name is cut


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 250), height=st.integers(1, 60), utf8=st.booleans())
def test_any_terminal_gets_its_lines_whole(width, height, utf8, cells):
    encoding = "utf-8" if utf8 else "ascii"
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, height=height, force_terminal=True, legacy_windows=False)
    progress = half_done(cells, console)
    lines = shown(progress, console)
    assert all(cell_len(line) <= width for line in lines)
    assert len(lines) <= max(3, height)
    console.print(_Screen(progress))  # nothing that the encoding lacks
    file.flush()
    assert utf8 or file.buffer.getvalue().isascii()


def displayed(written, width):
    """What a terminal of some width shows in the end: it breaks lines that are too long, and moves as it is told."""
    rows, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\s\S]", written):
        if piece.startswith("\x1b"):
            if piece.endswith("A"):
                row -= int(piece[2:-1] or 1)
            elif piece.endswith("K"):
                rows[row] = ""
            else:
                assert piece[-1] in "mhl", piece  # colours, and the cursor's look
        elif piece == "\r":
            column = 0
        elif piece == "\n" or column == width:
            row, column = row + 1, 0
            rows += [""] * (row + 1 - len(rows))
        if piece.isprintable():
            rows[row] = rows[row][:column].ljust(column) + piece + rows[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in rows]


@pytest.mark.parametrize("width", [12, 20, 40, 80, 200])
def test_a_terminal_shows_the_last_state_once_and_no_remains_of_others(width, cells):
    console = terminal(width)
    with SweepProgress(cells[:3], console) as progress:
        for cell in cells[:3]:
            for step in (1, 2, 16):
                progress.row(cell.trial_id, {"step": step, "train_loss": 5.0 / step})
                progress._live.refresh()
            console.print("a warning")
        assert sum("0.312" in line for line in displayed(console.file.getvalue(), width)) == 3
        for cell in cells[:3]:
            progress.update(Report(cell.trial_id, "ok", 2.0, 1.0))
            progress._live.refresh()
    *warnings, first, second = (line for line in displayed(console.file.getvalue(), width) if line)
    assert warnings == ["a warning"] * 3
    assert "3/3" in first
    assert second.startswith("best")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {}], ids=["no colour", "colour"])
def test_colour_is_only_used_where_it_is_wanted(environment, cells):
    console = terminal(80, _environ={"TERM": "xterm-256color", **environment})
    console.print(_Screen(half_done(cells, console)))
    coloured = re.search(r"\x1b\[(3|4|9)[0-9][;m]|\x1b\[38;", console.file.getvalue())
    assert bool(coloured) == (not environment)


def test_a_dumb_terminal_gets_plain_lines(experiment, tiny, tmp_path):
    console = terminal(80, _environ={"TERM": "dumb"})
    run_sweep(experiment(tiny()), "smoke", RunStore(tmp_path / "runs"), console, "inline", how=ALONE)
    assert "\x1b" not in console.file.getvalue()
    assert "1/1 trials" in console.file.getvalue()


def test_lines_of_a_log_get_rarer(cells, now):
    console = Console(file=io.StringIO(), width=80)
    progress = SweepProgress(cells, console)
    times = []
    for second in range(4 * 3600):
        now[0] = 1000.0 + second
        before = console.file.getvalue()
        progress.row(cells[0].trial_id, {"step": 1, "train_loss": 3.0})
        if console.file.getvalue() != before:
            times.append(second)
    gaps = [after - before for before, after in pairwise(times)]
    assert times[0] == 2
    assert gaps[:10] == [2] * 10
    assert gaps[-2] == 600  # five percent of the time gone, at most ten minutes
    assert len(times) < 150
    assert all("1 under way at train loss 3.000" in line for line in console.file.getvalue().splitlines())


def test_the_last_line_of_a_log_is_always_there(cells, now):
    console = Console(file=io.StringIO(), width=80)
    progress = SweepProgress(cells, console)
    for cell in cells:
        progress.update(Report(cell.trial_id, "ok", 2.0, 0.1))
    assert console.file.getvalue().splitlines() == [
        "16/16 trials, 0:00 gone, 0:00 left; best val loss: adam-mup 2.000 · scion 2.000"
    ]


def test_the_time_left_counts_steps_of_trials_under_way(cells, now):
    progress = SweepProgress(cells[:2], Console(file=io.StringIO()))
    assert math.isnan(progress.seconds_left())
    progress.row(cells[0].trial_id, {"step": 1, "train_loss": 5.0})
    now[0] += 10
    progress.row(cells[0].trial_id, {"step": 8, "train_loss": 4.0})  # half of it
    share = cells[0].cost / 2 / (cells[0].cost + cells[1].cost)
    assert progress.seconds_left() == pytest.approx(10 * (1 - share) / share)
    progress.update(Report(cells[0].trial_id, "ok", 2.0, 20.0))
    progress.update(Report(cells[1].trial_id, "ok", 2.0, 20.0))
    assert progress.seconds_left() == 0


def test_a_jump_of_the_wall_clock_changes_nothing(cells, now, monkeypatch):
    progress = SweepProgress(cells[:2], Console(file=io.StringIO()))
    monkeypatch.setattr(progress_module.time, "time", lambda: -1e12)
    now[0] += 5
    progress.update(Report(cells[0].trial_id, "ok", 2.0, 5.0))
    assert progress.seconds_gone() == 5
    assert 0 < progress.seconds_left() < 60


def test_rows_that_come_late_or_from_elsewhere_do_no_harm(cells):
    progress = SweepProgress(cells[:1], Console(file=io.StringIO()))
    progress.update(Report(cells[0].trial_id, "ok", 2.0, 1.0))
    progress.row(cells[0].trial_id, {"step": 3, "train_loss": 1.0})
    progress.row("another", {"step": 3, "train_loss": 1.0})
    assert progress.under == {}
    assert progress.counts() == "1/1"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (3661, "1:01:01"), (90061, "1d 1:01:01"), (1e8, "1,157d 9:46:40"), (-5, "0:00"),
     (math.inf, "–"), (math.nan, "–")],
)  # fmt: skip
def test_durations_are_short(seconds, text):
    assert clock(seconds) == text


def test_labels_say_what_differs_and_tell_all_trials_apart(cells, tiny):
    labels = trial_labels({cell.trial_id: cell.trial for cell in cells})
    assert len(set(labels.values())) == len(cells)
    assert "scion width 32 lr 2^-3 seed 1" in labels.values()
    alike = {"a": tiny(options={"radius_hidden": 3.0}), "b": tiny(options={"radius_hidden": 2.5}), "c": tiny()}
    assert trial_labels(alike) == {"a": "scion radius_hidden 3", "b": "scion radius_hidden 2.5", "c": "scion"}
    assert trial_labels({"a": tiny()}) == {"a": "scion"}


@pytest.mark.parametrize("stack", [1, 4], ids=["alone", "stacked"])
def test_every_row_of_the_curve_is_heard_of_while_the_trial_trains(stack, experiment, tiny, tmp_path):
    store, heard = RunStore(tmp_path / "runs"), []

    class Heard:
        def row(self, trial, row):
            assert trial.trial_id not in store.finished()
            heard.append({"trial_id": trial.trial_id, **row})

        def ended(self, trial, result):
            assert result["status"] == "ok"

        def close(self):
            pass

    spec = experiment(*(tiny(seed=seed) for seed in range(4)))
    quiet = Console(file=io.StringIO())
    run_sweep(spec, "smoke", store, quiet, "inline", how=How("never", stack), trackers={"heard": Heard()})
    stored = store.curves()[["trial_id", "step", "tokens", "lr", "train_loss"]].to_dict("records")
    assert sorted(heard, key=lambda row: (row["trial_id"], row["step"])) == stored
    assert set(store.runs()["stack"]) == {0 if stack == 1 else 4}


def test_who_does_not_listen_gets_the_same_numbers(cells):
    from scionlab.problems.data import load
    from scionlab.training import train

    trial, rows = cells[0].trial, []
    listened = train(trial, load(trial.data), on_row=rows.append)
    assert rows == listened.curve == train(trial, load(trial.data)).curve


def test_steps_that_are_trained_once_count_once(cells, now):
    first, second, third = cells[:3]
    shares = {first.trial_id: 0.25, second.trial_id: 0.25}
    progress = SweepProgress(cells[:3], Console(file=io.StringIO()), shares=shares)
    progress.row(first.trial_id, {"step": 1, "train_loss": 2.0})
    now[0] += 10
    progress.update(Report(first.trial_id, "ok", 2.0, 10.0))
    left = 0.25 * second.cost + third.cost
    assert progress.seconds_left() == pytest.approx(10 * left / (0.25 * first.cost))
    progress.row(second.trial_id, {"step": second.trial.steps // 2, "train_loss": 2.0})
    assert progress.done_cost == pytest.approx(0.25 * first.cost + 0.25 * second.cost / 2)
