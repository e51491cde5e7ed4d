"""Searches in this process, one trial after another: Optuna's own ask and tell, for debugging and for tests."""

from collections.abc import Sequence

from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.sweep.poison import PoisonedError
from scionlab.tune.attempt import RUNNING, Attempt
from scionlab.tune.studies import Study
from scionlab.tune.turns import OnEnd, Turns


def run(studies: Sequence[Study], store: RunStore, workers: int, on_end: OnEnd) -> None:
    """Make the trials that are missing; `workers` does not matter."""
    turns = Turns(studies)
    while turns.total:
        study = turns.order()[0]
        turns.take(study)
        trial = study.ask()
        attempt = Attempt(study.search, trial.params, store)
        try:
            now = attempt.advance()
            while now.state == RUNNING and not study.hopeless(trial, now):
                now = attempt.advance()
        except PoisonedError as error:
            on_end(study, study.tell(trial, None))
            raise UserError(
                f"device: this process has lost its GPU to a trial: {error}; run the same command again to go on"
            ) from None
        on_end(study, study.tell(trial, now))
