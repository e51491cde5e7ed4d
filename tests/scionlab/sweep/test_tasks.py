import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from scionlab.runs.store import RunStore
from scionlab.sweep import job, keeping, plan_sweep
from scionlab.sweep.cluster import gpu_shares, worker_threads
from scionlab.sweep.executors import ray as run  # with its settings, without which Tune keeps log files open
from scionlab.sweep.job import DIED, Report, report_lost, run_task
from scionlab.sweep.queue import TaskQueue
from scionlab.sweep.tasks import Task, longest_first


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.fixture
def cells(experiment, tiny, store):
    """Four cells of the same shape."""
    return plan_sweep(experiment(*(tiny(seed=seed) for seed in range(4))), "smoke", store).todo


@pytest.fixture
def train_all(monkeypatch):
    """Trains a task of several cells one after another."""

    def one_by_one(task, *more):
        return [outcome for cell in task.cells for outcome in real(Task((cell,)), *more)]

    real = job._train
    monkeypatch.setattr(job, "_train", one_by_one)


def test_the_longest_tasks_come_first(experiment, tiny, store):
    plan = plan_sweep(experiment(tiny(tokens=640), tiny(width=64), tiny(tokens=6400)), "smoke", store)
    tasks = longest_first(Task((cell,)) for cell in plan.todo)
    assert sorted(cell.trial_id for task in tasks for cell in task.cells) == sorted(c.trial_id for c in plan.todo)
    assert [task.cost for task in tasks] == sorted((task.cost for task in tasks), reverse=True)


def test_the_cost_of_a_task_is_that_of_its_cells(cells):
    assert Task(cells).cost == pytest.approx(4 * cells[0].cost)


def numbers_of(queue, worker):
    return [taken[0] for taken in iter(lambda: queue.take(worker), None)]


def test_a_queue_hands_out_every_number_once():
    queue = TaskQueue(5)
    first = [queue.take(0), queue.take(1), queue.take(0)]
    assert [number for number, _ in first] == [0, 1, 2]
    assert numbers_of(queue, 1) == [3, 4]
    assert (queue.taken_by(0), queue.taken_by(1), queue.taken_by(2)) == ({0, 2}, {1, 3, 4}, set())
    assert queue.take(0) is None


def test_what_is_given_back_comes_first_and_belongs_to_who_takes_it_next():
    queue = TaskQueue(4)
    queue.take(0)
    queue.take(0)
    queue.give_back(1, {"trained"})
    assert queue.taken_by(0) == {0}
    assert queue.take(1) == (1, {"trained"})
    assert queue.take(0) == (2, set())
    assert (queue.taken_by(0), queue.taken_by(1)) == ({0, 2}, {1})


def test_a_queue_keeps_the_latest_row_of_each_trial_until_it_is_asked():
    queue = TaskQueue(1)
    for step in (1, 2):
        queue.tell("a", {"step": step, "val_loss": 2.0})
        queue.tell("a", {"step": step, "train_loss": 3.0})
    queue.tell("b", {"step": 7, "train_loss": 3.0})
    latest = [("a", {"step": 2, "val_loss": 2.0}), ("a", {"step": 2, "train_loss": 3.0})]
    assert queue.told() == ([*latest, ("b", {"step": 7, "train_loss": 3.0})], [])
    queue.warn("the disk is full")
    assert queue.told() == ([], ["the disk is full"])
    assert queue.told() == ([], [])


def test_the_process_of_the_queue_loads_neither_torch_nor_ray():
    code = "import sys, scionlab.sweep.queue; print([m for m in ('torch', 'ray', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_task_without_some_of_its_cells(cells):
    task = Task(cells, stacked=True)
    assert task.without([]) is task
    assert task.without({cells[0].trial_id, "another"}) == Task(cells[1:], stacked=True)


def test_a_task_of_several_cells_gives_each_its_row(cells, store, train_all):
    reports = run_task(Task(cells, stacked=True), store)
    assert [report.trial_id for report in reports] == [cell.trial_id for cell in cells]
    rows = store.runs().set_index("trial_id")
    assert {report.trial_id: report.val_loss for report in reports} == rows["val_loss"].to_dict()
    assert {cell.trial_id: cell.trial.seed for cell in cells} == rows["seed"].to_dict()
    assert set(store.curves()["trial_id"]) == set(rows.index)


def test_a_task_that_fails_is_an_error_of_all_its_cells(cells, store, monkeypatch):
    def boom(*arguments):
        raise RuntimeError("boom")

    monkeypatch.setattr(job, "_train", boom)
    reports = run_task(Task(cells, stacked=True), store)
    assert [report.trial_id for report in reports] == [cell.trial_id for cell in cells]
    rows = store.runs()
    assert set(rows["trial_id"]) == {cell.trial_id for cell in cells}
    for failed in (*rows["error"], *(report.error for report in reports)):
        assert "RuntimeError: boom" in failed
    assert rows["wall_time_s"].isna().all()


def test_a_cell_whose_text_has_changed_fails_also_in_a_stack(cells, store):
    changed = replace(cells[1], data_sha256="0" * 64)
    reports = run_task(Task((cells[0], changed), stacked=True), store)
    assert [report.status for report in reports] == ["ok", "error"]
    assert "has changed since the sweep began" in reports[1].error


def test_cells_that_fail_together_are_trained_alone_and_only_the_one_at_fault_fails(cells, store, monkeypatch):
    def no_memory(trials, corpus, compiled, on_rows):
        raise MemoryError("for so many")

    def fails_on_one(trial, corpus, compiled, on_row, micro_batch):
        if trial.seed == 2:
            raise RuntimeError("boom")
        return real(trial, corpus, compiled)

    real = job.Run
    monkeypatch.setattr(job, "train_stack", no_memory)
    monkeypatch.setattr(job, "Run", fails_on_one)
    reports = run_task(Task(cells, stacked=True), store)
    assert [report.trial_id for report in reports] == [cell.trial_id for cell in cells]
    assert [report.status for report in reports] == ["error" if cell.trial.seed == 2 else "ok" for cell in cells]
    assert "boom" in store.runs().set_index("status")["error"]["error"]


def test_of_a_lost_task_finished_rows_stay_and_the_rest_are_errors(cells, store, train_all, monkeypatch):
    done, tried_before, failed, lost = cells

    def boom(*arguments):
        raise RuntimeError("boom")

    with monkeypatch.context() as broken:
        broken.setattr(job, "_train", boom)
        run_task(Task((tried_before,)), store)
        since = datetime.now(UTC)
        run_task(Task((failed,)), store)
    (finished,) = run_task(Task((done,)), store)

    reports = report_lost(Task(cells), store, since)
    assert [report.trial_id for report in reports] == [cell.trial_id for cell in cells]
    assert reports[0] == finished
    assert finished.wall_time_s > 0
    assert [report.status for report in reports] == ["ok", "error", "error", "error"]
    assert [report.error == DIED for report in reports] == [False, True, False, True]
    rows = store.runs().set_index("trial_id")
    assert {report.trial_id: report.status for report in reports} == rows["status"].to_dict()
    assert rows["error"][lost.trial_id] == DIED
    assert "boom" in rows["error"][failed.trial_id]


@pytest.mark.parametrize("gpus", [1, 2, 3, 4, 8])
def test_workers_share_gpus_evenly_and_none_is_overbooked(gpus):
    for workers in range(1, 30):
        room, users = [1.0] * gpus, [0] * gpus
        for share in gpu_shares(workers, gpus):
            # as Ray does it: the fullest GPU that has room, and a whole one for a share of 1
            place = min((i for i in range(gpus) if room[i] >= share), key=room.__getitem__)
            room[place] = round(room[place] - share, 4)
            users[place] += 1
        assert sum(users) == workers
        assert max(users) - min(users) <= 1


def test_without_gpus_workers_have_no_share_of_any():
    assert gpu_shares(3, 0) == [0, 0, 0]


@pytest.mark.parametrize(
    ("workers", "gpus", "cores", "threads"),
    [
        (2, 0, [16], 1), (2, 2, [16], 8), (8, 2, [16], 2), (8, 8, [4], 1),
        (2, 2, [8, 8], 8), (3, 3, [8, 8], 4), (1, 2, [8, 8], 8), (4, 4, [12, 4], 4),
    ],
)  # fmt: skip
def test_workers_on_gpus_share_the_cores_of_their_nodes(workers, gpus, cores, threads):
    assert worker_threads(workers, gpus, cores) == threads


@pytest.mark.slow
def test_a_trial_that_kills_its_worker_is_an_error_the_others_are_trained_and_warnings_are_read(
    cells, store, tmp_path, capsys, ray_here
):
    driver, tries = os.getpid(), tmp_path / "tries.txt"

    class Deadly(Task):
        def __getattribute__(self, name):
            if name == "cells" and os.getpid() != driver:
                with tries.open("a") as log:
                    log.write("tried\n")
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getattribute__(name)

    reports: list[Report] = []
    store.check_writable()
    store.checkpoints.save(cells[0].trial_id, b"no checkpoint at all")
    run([Task(cells[:1]), Deadly(cells[1:3]), Task(cells[3:])], store, 1, reports.append, address=ray_here)
    assert tries.read_text() == "tried\n"
    assert {report.trial_id: report.error for report in reports} == {
        cells[0].trial_id: None, cells[1].trial_id: DIED, cells[2].trial_id: DIED, cells[3].trial_id: None
    }  # fmt: skip
    assert len(reports) == 4
    assert store.finished() == {cells[0].trial_id, cells[3].trial_id}
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert f"{cells[0].trial_id}.pt' cannot be gone on from, and the trial begins again: " in line
    assert store.checkpoints.trial_ids() == set()


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_sweep(cells, store, ray_here):
    driver = os.getpid()

    class Deadly(Task):
        def __setstate__(self, state: object) -> None:
            if os.getpid() != driver:
                os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match="die before they take a trial"):
        run([Deadly(cells)], store, 1, lambda report: None, address=ray_here)
    assert store.runs().empty


def test_a_task_that_stops_is_at_work_until_it_has_and_nothing_is_handed_out_any_more():
    queue = TaskQueue(4, alone=(0, 2))
    for worker in (0, 1, 2):
        queue.take(worker)
    assert queue.at_work() == {0, 2}
    queue.stop()
    assert queue.stopping()
    assert queue.take(2) is None
    assert queue.at_work() == {0}
    queue.stopped(0)
    assert queue.at_work() == set()


def test_a_trial_that_was_stopped_goes_on_and_its_checkpoint_goes_with_its_row(cells, store, monkeypatch):
    monkeypatch.setattr(keeping, "LOOK_UP_S", 0.0)
    monkeypatch.setattr(keeping, "WORTH_S", 0.0)
    store.check_writable()
    task, asked = Task(cells[:1]), iter([False, False, True])
    with pytest.raises(keeping.StoppedError):
        run_task(task, store, stopping=lambda: next(asked))
    assert store.checkpoints.trial_ids() == {cells[0].trial_id}
    assert store.runs().empty
    (report,) = run_task(task, store)
    assert report.status == "ok"
    assert store.checkpoints.trial_ids() == set()
