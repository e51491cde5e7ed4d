"""Searches under Ray Tune: OptunaSearch proposes, reused workers train, and Optuna's pruner, if any, ends trials early.

One call of Tune serves all searches, so that workers start once. OptunaSearch tells Optuna that a trial that was
stopped early is complete, at the last loss it saw; the subclass here tells what happened.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.optuna import OptunaSearch

from scionlab.runs.store import RunStore
from scionlab.sweep.cluster import connected, gpu_shares, machines, worker_threads
from scionlab.tune.attempt import RUNNING, Attempt, Progress
from scionlab.tune.search import Search
from scionlab.tune.studies import Study
from scionlab.tune.turns import OnEnd, Turns

PROGRESS = "progress"  # of a result: a Progress as JSON


class Trainer(tune.Trainable):
    """A worker that trains one trial of any of the searches, a share at a `step`, and then the next."""

    def setup(self, config: dict[str, Any], searches: Sequence[Search] = (), url: str = "", threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self.searches, self.store = {search.study: search for search in searches}, RunStore(url)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.attempt = Attempt(self.searches[new_config["study"]], new_config["values"], self.store)
        return True

    def step(self) -> dict[str, Any]:
        now = self.attempt.advance()
        return {PROGRESS: json.dumps(asdict(now)), "done": now.state != RUNNING}


def _progress(result: dict[str, Any] | None) -> Progress | None:
    return Progress(**json.loads(result[PROGRESS])) if result and PROGRESS in result else None


class StudySearch(OptunaSearch):
    """OptunaSearch on one of our studies, with its sampler, its pruner and its own way to tell how a trial ended."""

    def __init__(self, study: Study) -> None:
        super().__init__(space=study.space, mode="min", storage=study.storage, study_name=study.search.study)
        self.study = study
        self._ot_study: Any = study.optuna

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        self._ot_study.sampler = self.study.sampler()
        return super().suggest(trial_id)

    def hopeless(self, trial_id: str, now: Progress) -> bool:
        """Whether the trial is to be ended."""
        return self.study.hopeless(self._ot_trials[trial_id], now)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """The scheduler has reported it already."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.last = self.study.tell(self._ot_trials[trial_id], None if error else _progress(result))


class Searches(Searcher):
    """All searches as one: a new trial is one of the search with the most work left that may have another."""

    def __init__(self, studies: Sequence[Study], on_end: OnEnd) -> None:
        super().__init__()
        self.turns, self.on_end = Turns(studies), on_end
        self.own = {study.search.study: StudySearch(study) for study in studies}
        self.limited = {name: ConcurrencyLimiter(own, own.study.parallel) for name, own in self.own.items()}
        self.names: dict[str, str] = {}  # of the study, by Tune's trial

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves what it was called with to be able to resume; a search goes on from Optuna's file.
        return {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        for study in self.turns.order():
            name = study.search.study
            values = self.limited[name].suggest(trial_id)
            if values is not None:
                self.turns.take(study)
                self.names[trial_id] = name
                return {"study": name, "values": values}
        return None

    def hopeless(self, trial_id: str, now: Progress) -> bool:
        """Whether the trial is to be ended."""
        return self.own[self.names[trial_id]].hopeless(trial_id, now)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        name = self.names[trial_id]
        self.limited[name].on_trial_complete(trial_id, result, error)
        self.on_end(self.own[name].study, self.own[name].last)

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a search is not restored by Tune")


class Pruning(FIFOScheduler):
    """Ends the trials that their study calls hopeless."""

    def __init__(self, searches: Searches) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.searches = searches

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        now = _progress(result)
        hopeless = now is not None and self.searches.hopeless(trial.trial_id, now)
        return TrialScheduler.STOP if hopeless else TrialScheduler.CONTINUE


def run(studies: Sequence[Study], store: RunStore, workers: int, on_end: OnEnd) -> None:
    """Make the trials that are missing, `workers` of them at a time; on CUDA they share the GPUs evenly."""
    middles = [study.search.cell(study.search.method.middle, store)[0] for study in studies]
    found = machines(None)
    gpus = found.gpus if any(cell.trial.device == "cuda" for cell in middles) else 0
    threads = worker_threads(workers, gpus, found.cpus)
    searches = Searches(studies, on_end)
    trainer = tune.with_parameters(
        Trainer, searches=[study.search for study in studies], url=store.url, threads=threads
    )
    with connected(None, threads * workers), tempfile.TemporaryDirectory(prefix="scionlab-tune-") as scratch:
        tune.Tuner(
            tune.with_resources(trainer, {"cpu": threads, "gpu": min(gpu_shares(workers, gpus))}),
            tune_config=tune.TuneConfig(
                search_alg=searches,
                scheduler=Pruning(searches),
                num_samples=searches.turns.total,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=scratch,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
