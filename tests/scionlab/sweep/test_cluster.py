"""A sweep on a Ray cluster of two nodes, with its results in S3: what is left of it when a node dies."""

import io
import threading
import time
from types import SimpleNamespace

import pandas as pd
import pytest
import s3
from rich.console import Console

from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.sweep import How, plan_sweep, run_sweep
from scionlab.sweep.executors import set_up_ray
from scionlab.sweep.job import NODES_DIED, Report, run_task
from scionlab.sweep.queue import TaskQueue
from scionlab.sweep.tasks import Task

STEPS = 500  # of a trial, which take about a second
STORE_BYTES = 80 * 2**20


@pytest.fixture
def bucket(monkeypatch):
    for name, value in s3.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3.serving() as endpoint:
        yield endpoint


@pytest.fixture
def cluster(bucket):
    """A head node and another one, of one CPU each."""
    set_up_ray()
    from ray.cluster_utils import Cluster

    each = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**each, "include_dashboard": False})
    cluster.other = cluster.add_node(**each)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def rows(store):
    return store.runs().set_index("trial_id").sort_index()


class KillsTheOtherNode(threading.Thread):
    """As soon as some trials are finished; keeps the rows that there were at that moment."""

    def __init__(self, cluster, store, after):
        super().__init__()
        self.cluster, self.store, self.after = cluster, store, after
        self.before = None

    def run(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(self.store.finished()) < self.after:
            time.sleep(0.1)
        self.before = rows(self.store)
        self.cluster.remove_node(self.cluster.other, allow_graceful=False)


@pytest.mark.slow
def test_a_node_that_dies_costs_no_finished_trial_and_the_sweep_completes(
    cluster, bucket, experiment, tiny, console, monkeypatch
):
    from scionlab.sweep import ray_tune

    tried_again, real = [], ray_tune._Listener._try_again
    monkeypatch.setattr(
        ray_tune._Listener,
        "_try_again",
        lambda self, n, why: (tried_again.append(n), real(self, n, why)),
    )
    store = RunStore(s3.url(bucket, "results/runs"))
    spec = experiment(*(tiny(tokens=64 * STEPS, seed=seed) for seed in range(6)))
    killer = KillsTheOtherNode(cluster, store, after=2)
    killer.start()
    how = How(compile="never", stack=1)
    result = run_sweep(spec, "smoke", store, console, how=how, address=cluster.address)
    killer.join()

    assert "2 nodes, 2 CPUs" in console.file.getvalue()
    assert "under way at train loss" in console.file.getvalue()
    assert result.workers == 2
    assert result.errors() == []
    after = rows(store)
    assert sorted(report.trial_id for report in result.reports) == sorted(after.index)
    assert set(after["status"]) == {"ok"}
    assert 2 <= len(killer.before) < 6
    pd.testing.assert_frame_equal(after.loc[killer.before.index], killer.before)  # started_at, too: not trained again
    assert len(tried_again) == 1
    assert store.sweeps()["status"].item() == "done"
    assert set(store.curves()["trial_id"]) == set(after.index)


class Local:
    """A queue in this process, called as if it were Ray's."""

    def __init__(self, queue):
        self.queue = queue

    def __getattr__(self, name):
        return SimpleNamespace(remote=getattr(self.queue, name))


@pytest.fixture
def lost(experiment, tiny, tmp_path, monkeypatch):
    """A listener of one task of four cells, which worker 0 has taken."""
    set_up_ray()
    from scionlab.sweep import ray_tune

    monkeypatch.setattr(ray_tune.ray, "get", lambda called: called)
    store = RunStore(tmp_path / "runs")
    cells = plan_sweep(experiment(*(tiny(seed=seed) for seed in range(4))), "smoke", store).todo
    queue, reports = TaskQueue(1), []
    listener = ray_tune._Listener([Task(cells, stacked=True)], Local(queue), store, reports.append, None, nodes=2)
    queue.take(0)
    return listener, queue, cells, reports


def test_what_a_dead_node_had_written_is_reported_and_the_rest_is_handed_out_again(lost):
    listener, queue, cells, reports = lost
    run_task(Task(cells[:1]), listener.store)
    listener._try_again(0, NODES_DIED.format(tries=3))
    assert [(report.trial_id, report.status) for report in reports] == [(cells[0].trial_id, "ok")]
    assert listener.unreported == {0}
    assert queue.take(1) == (0, {cells[0].trial_id})
    for cell in cells[1:]:
        run_task(Task((cell,)), listener.store)
    listener._try_again(0, NODES_DIED.format(tries=3))  # that node had just written the last row
    assert sorted(report.trial_id for report in reports) == sorted(cell.trial_id for cell in cells)
    assert listener.unreported == set()
    assert queue.take(2) is None


def test_a_task_whose_nodes_die_again_and_again_is_an_error_in_the_end(lost):
    listener, queue, cells, reports = lost
    run_task(Task(cells[:1]), listener.store)
    for left in (2, 1, 0):
        listener._try_again(0, NODES_DIED.format(tries=3))
        assert (queue.take(0) is not None) == (left > 0)
    assert [report.status for report in reports] == ["ok", "error", "error", "error"]
    assert {report.error for report in reports[1:]} == {NODES_DIED.format(tries=3)}
    assert listener.unreported == set()
    assert listener.store.finished() == {cells[0].trial_id}


def test_a_late_report_of_a_trial_that_another_node_has_trained_counts_once(lost):
    listener, _, cells, reports = lost
    done = [Report(cell.trial_id, "ok", 1.0) for cell in cells]
    for _ in range(2):
        listener.on_trial_result(0, [], None, {"finished": [(0, done)]})
    assert reports == done


def test_a_node_that_does_not_see_the_store_ends_the_sweep(lost):
    listener, *_ = lost
    with pytest.raises(UserError, match=r"node 'far' does not see '/.*runs'; give a folder that all nodes share"):
        listener.on_trial_result(0, [], None, {"finished": [], "blind": "far", "done": True})


def test_only_a_death_together_with_its_node_is_not_the_trials_fault(lost, monkeypatch):
    from ray.exceptions import ActorDiedError, ActorUnavailableError

    from scionlab.sweep import ray_tune

    listener, queue, *_ = lost
    queue.join(0, "node")
    for alive in (True, False):
        monkeypatch.setattr(ray_tune, "is_alive", lambda node, alive=alive: (node, alive) == ("node", True))
        assert listener._died_with_its_node(0, ActorDiedError()) is not alive
        assert listener._died_with_its_node(0, ActorUnavailableError("?", None))
        assert not listener._died_with_its_node(0, RuntimeError("disk full"))
    listener.nodes = 1
    assert not listener._died_with_its_node(0, ActorUnavailableError("?", None))


@pytest.mark.parametrize(
    ("address", "executor", "message"),
    [
        ("ray://head:10001", "ray", "run the command on a node of the cluster"),
        ("auto", "inline", "not allowed with the executor 'inline'"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_before_anything_is_trained(
    experiment, tmp_path, console, address, executor, message
):
    store = RunStore(tmp_path / "runs")
    with pytest.raises(UserError, match=message):
        run_sweep(experiment(), "smoke", store, console, executor, address=address)
    assert store.sweeps().empty


@pytest.mark.parametrize("name", ["ActorDiedError", "ActorUnavailableError", None])
def test_a_worker_stops_when_its_driver_has_gone_and_not_when_that_cannot_be_told(name, monkeypatch):
    set_up_ray()
    from ray.exceptions import ActorDiedError, ActorUnavailableError

    from scionlab.sweep import ray_tune

    def answer(call):
        if name is not None:
            raise ActorDiedError() if name == "ActorDiedError" else ActorUnavailableError("gone", None)
        return False

    monkeypatch.setattr(ray_tune.ray, "get", answer)
    worker = ray_tune.Worker.__new__(ray_tune.Worker)
    worker.queue = Local(TaskQueue(1))
    assert worker._stopping() is (name == "ActorDiedError")


def test_asked_to_stop_the_driver_hears_its_workers_and_does_not_wait_for_a_ray_that_has_gone(
    lost, monkeypatch, capsys
):
    from ray.exceptions import ActorUnavailableError

    from scionlab.sweep import ray_tune

    listener, queue, _, _ = lost
    queue.warn("warning: the disk is full")
    ray_tune._let_workers_save(listener.queue, listener)
    assert queue.stopping()
    assert capsys.readouterr().err == "warning: the disk is full\n"

    def gone(call):
        raise ActorUnavailableError("gone", None)

    monkeypatch.setattr(ray_tune.ray, "get", gone)
    ray_tune._let_workers_save(listener.queue, listener)
