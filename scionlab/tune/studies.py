"""A search as an Optuna study: what is asked, what is told, when a trial is hopeless, and its rows for the store.

All studies of an experiment lie in one SQLite file, results/tuning/<experiment>.db, which optuna-dashboard opens. Only
the driver touches it, under a lock. What a study samples depends on what it was told and on nothing else: every trial
has a sampler of its own, seeded by the search's seed and the number of trials before it, without those that were
killed. So a search whose trials run one after another gives the same numbers again, also where it was stopped in
between.
"""

import contextlib
import hashlib
import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from scionlab.errors import UserError
from scionlab.tune.attempt import COMPLETE, DIVERGED, FAILED, PRUNED, RUNNING, Progress
from scionlab.tune.search import Search

# With median pruning a trial is hopeless if its training loss is above the median of the whole trials at equal steps:
# not before so many of these are known, and not in the first share of its steps, where a large rate looks good or bad
# for little. Without pruning none is: only divergence ends a trial early (`scionlab.spec.tuning` says why).
MEDIAN_OF, WARM_UP = 5, 0.4
# Where Optuna keeps what a trial's row needs; a Progress as a dictionary.
RECORD = "scionlab"


def database(folder: Path, experiment: str) -> Path:
    """The SQLite file of an experiment's studies."""
    return folder / f"{experiment}.db"


@contextlib.contextmanager
def opened(folder: Path, experiment: str) -> Iterator[RDBStorage]:
    """The storage, for this process alone. UserError where another one is at it, or it cannot be used."""
    path = database(folder, experiment)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=0), _storage(path) as storage:
            yield storage
    except Timeout:
        raise UserError(f"results: another process is tuning in {str(path)!r}; wait until it ends") from None
    except OSError as error:
        raise UserError(f"results: cannot write to {str(folder)!r}: {error.strerror or error}") from None


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[RDBStorage]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = RDBStorage(f"sqlite:///{path}")
    except Exception as error:
        raise UserError(f"results: {str(path)!r} cannot be opened as Optuna's storage: {_first_line(error)}") from None
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _pruner(search: Search) -> BasePruner:
    if search.preset.pruning == "none":
        return NopPruner()
    return MedianPruner(
        n_startup_trials=MEDIAN_OF, n_warmup_steps=round(WARM_UP * search.steps), n_min_trials=MEDIAN_OF
    )


class Study:
    """The study of a search in a storage; it is made if there is none."""

    def __init__(self, search: Search, storage: RDBStorage, parallel: int = 1) -> None:
        """`parallel` trials of it may run at the same time."""
        self.search, self.storage, self.parallel = search, storage, parallel
        self.optuna = optuna.create_study(
            storage=storage,
            study_name=search.study,
            direction="minimize",
            load_if_exists=True,
            pruner=_pruner(search),
        )

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions, all of them uniform on a log scale."""
        return {name: FloatDistribution(low, high, log=True) for name, (low, high) in self.search.method.space.items()}

    def heal(self) -> None:
        """Tell the trials that a killed call left under way that they have failed; they will be made up for."""
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
            if trial.state == TrialState.WAITING:
                self.optuna.ask()
            self.optuna.tell(trial.number, state=TrialState.FAIL)

    @property
    def finished(self) -> int:
        """Trials that need not be made again."""
        return len(self.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))

    def sampler(self) -> BaseSampler:
        """For the next trial. Before the first, the middle of all ranges is put into the queue."""
        trials = self.optuna.get_trials(deepcopy=False)
        before = sum(trial.state == TrialState.RUNNING or RECORD in trial.user_attrs for trial in trials)
        if before == 0:
            self.optuna.enqueue_trial(self.search.method.middle)
        text = f"{self.search.seed} {before}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        return TPESampler(seed=seed, constant_liar=self.parallel > 1)

    def ask(self) -> optuna.Trial:
        """The next trial, with its values as `params`."""
        self.optuna.sampler = self.sampler()
        return self.optuna.ask(fixed_distributions=self.space)

    def hopeless(self, trial: optuna.Trial, now: Progress) -> bool:
        """Report how far a running trial is; True if it is to be ended."""
        if now.loss is None or not math.isfinite(now.loss):
            return False
        trial.report(now.loss, now.steps_done)
        return trial.should_prune()

    def tell(self, trial: optuna.Trial, last: Progress | None) -> Progress:
        """End a trial by its last progress; None is a worker that died. One that is `running` has been pruned."""
        if last is None:
            last = Progress(FAILED, datetime.now(UTC).isoformat(), error="the worker process died")
        if last.state == RUNNING:
            last = Progress(**{**asdict(last), "state": PRUNED, "loss": None})
        trial.set_user_attr(RECORD, asdict(last))
        if last.state == COMPLETE:
            self.optuna.tell(trial, last.val_loss)
        else:
            ended = TrialState.PRUNED if last.state in (PRUNED, DIVERGED) else TrialState.FAIL
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a trial may be pruned before its first report
                self.optuna.tell(trial, state=ended)
        return last

    def rows(self) -> list[dict[str, Any]]:
        """Its rows of the `tunings` table, of all trials that have ended."""
        ended = self.optuna.get_trials(deepcopy=False)
        return [self._row(trial) for trial in ended if trial.state.is_finished()]

    def _row(self, trial: FrozenTrial) -> dict[str, Any]:
        record = dict(trial.user_attrs.get(RECORD) or {"state": FAILED})
        record.pop("loss", None)
        begun = record.get("started_at")
        return {
            **record,
            **_describe(self.search),
            "number": trial.number,
            "params": json.dumps(trial.params),
            "started_at": datetime.fromisoformat(begun) if begun else None,
        }


def _describe(search: Search) -> dict[str, Any]:
    return {
        "study": search.study,
        "experiment": search.experiment,
        "preset": search.preset_name,
        "method": search.method_name,
        "optimizer": search.method.optimizer,
        "place": search.place.name,
        "seed": search.seed,
    }
