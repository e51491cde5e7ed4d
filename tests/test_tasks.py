import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain

import pytest

from scionlab.store import RunStore
from scionlab.sweep import job, plan_sweep
from scionlab.sweep.job import DIED, Report, report_lost, run_task
from scionlab.sweep.ray_tune import gpu_shares, run, worker_threads
from scionlab.sweep.tasks import Task, TaskQueue, longest_first


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

    def one_by_one(task, corpus):
        return [outcome for cell in task.cells for outcome in real(Task((cell,)), corpus)]

    real = job._train
    monkeypatch.setattr(job, "_train", one_by_one)


def test_the_longest_tasks_come_first(experiment, tiny, store):
    plan = plan_sweep(experiment(tiny(tokens=640), tiny(width=64), tiny(tokens=6400)), "smoke", store)
    tasks = longest_first(Task((cell,)) for cell in plan.todo)
    assert sorted(cell.trial_id for task in tasks for cell in task.cells) == sorted(c.trial_id for c in plan.todo)
    assert [task.cost for task in tasks] == sorted((task.cost for task in tasks), reverse=True)


def test_the_cost_of_a_task_is_that_of_its_cells(cells):
    assert Task(cells).cost == pytest.approx(4 * cells[0].cost)


def test_a_queue_hands_out_every_number_once(tmp_path):
    def take_all(worker: int) -> list[int]:
        queue = TaskQueue(tmp_path, 200)
        return list(iter(lambda: queue.take(worker), None))

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take_all, range(4)))
    assert sorted(chain.from_iterable(taken)) == list(range(200))
    assert all(numbers == sorted(numbers) for numbers in taken)
    assert [TaskQueue(tmp_path, 200).taken_by(worker) for worker in range(4)] == [set(numbers) for numbers in taken]


def test_what_was_taken_stays_taken(tmp_path):
    assert TaskQueue(tmp_path, 3).take(worker=7) == 0
    successor = TaskQueue(tmp_path, 3)
    assert [successor.take(worker=7) for _ in range(3)] == [1, 2, None]
    assert successor.take(worker=7) is None


def test_a_task_of_several_cells_gives_each_its_row(cells, store, train_all):
    reports = run_task(Task(cells, stacked=True), store)
    assert [report.trial_id for report in reports] == [cell.trial_id for cell in cells]
    rows = store.runs().set_index("trial_id")
    assert {report.trial_id: report.val_loss for report in reports} == rows["val_loss"].to_dict()
    assert {cell.trial_id: cell.trial.seed for cell in cells} == rows["seed"].to_dict()
    assert set(store.curves()["trial_id"]) == set(rows.index)


def test_a_task_that_fails_is_an_error_of_all_its_cells(cells, store, monkeypatch):
    def boom(task, corpus):
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
    def no_memory(trials, corpus, compiled):
        raise MemoryError("for so many")

    def fails_on_one(trial, corpus, compiled):
        if trial.seed == 2:
            raise RuntimeError("boom")
        return real(trial, corpus, compiled)

    real = job.train
    monkeypatch.setattr(job, "train_stack", no_memory)
    monkeypatch.setattr(job, "train", fails_on_one)
    reports = run_task(Task(cells, stacked=True), store)
    assert [report.trial_id for report in reports] == [cell.trial_id for cell in cells]
    assert [report.status for report in reports] == ["error" if cell.trial.seed == 2 else "ok" for cell in cells]
    assert "boom" in store.runs().set_index("status")["error"]["error"]


def test_of_a_lost_task_finished_rows_stay_and_the_rest_are_errors(cells, store, train_all, monkeypatch):
    done, tried_before, failed, lost = cells

    def boom(task, corpus):
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
    ("workers", "gpus", "cores", "threads"), [(2, 0, 16, 1), (2, 2, 16, 8), (8, 2, 16, 2), (8, 8, 4, 1)]
)
def test_workers_on_gpus_share_the_cores(workers, gpus, cores, threads):
    assert worker_threads(workers, gpus, cores) == threads


@pytest.mark.slow
def test_a_trial_that_kills_its_worker_is_an_error_and_the_others_are_trained(cells, store, tmp_path):
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
    run([Task(cells[:1]), Deadly(cells[1:3]), Task(cells[3:])], store, 1, reports.append)
    assert tries.read_text() == "tried\n"
    assert {report.trial_id: report.error for report in reports} == {
        cells[0].trial_id: None, cells[1].trial_id: DIED, cells[2].trial_id: DIED, cells[3].trial_id: None
    }  # fmt: skip
    assert len(reports) == 4
    assert store.finished() == {cells[0].trial_id, cells[3].trial_id}


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_sweep(cells, store):
    driver = os.getpid()

    class Deadly(Task):
        def __setstate__(self, state: object) -> None:
            if os.getpid() != driver:
                os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match="die before they take a trial"):
        run([Deadly(cells)], store, 1, lambda report: None)
    assert store.runs().empty
