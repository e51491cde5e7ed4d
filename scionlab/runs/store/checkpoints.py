"""Where trials under way are kept: below a store, a file a trial, replaced as the trial goes on.

    results/runs/checkpoints/<trial_id>.pt    removed when the trial's row is written

Each appears whole, so whoever reads one gets the trial as it was at some step. What is in it is `torch.save`'s.
"""

from scionlab.errors import UserError
from scionlab.runs.store.places import LocalPlace, Place

FOLDER, SUFFIX = "checkpoints", ".pt"


class Checkpoints:
    """The checkpoints of the store at `place`."""

    def __init__(self, place: Place) -> None:
        self.store, self.place = place, place.below(FOLDER)

    def where(self, trial_id: str) -> str:
        """What a trial's file is called in messages."""
        return f"{self.place}/{trial_id}{SUFFIX}"

    def trial_ids(self) -> set[str]:
        """Ids of the trials that have one."""
        names = [name for name in self.place.names() if not name.startswith(".")]
        return {name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)}

    def save(self, trial_id: str, content: bytes) -> None:
        """Make a trial's checkpoint, or replace it. UserError where it cannot be written.

        Nor is it where the store's folder has gone: a share that is not mounted any more must not be filled.
        """
        if isinstance(self.store, LocalPlace) and not self.store.path.is_dir():
            raise UserError(f"checkpoint: cannot write {self.where(trial_id)!r}: {str(self.store)!r} has gone")
        try:
            self.place.put(trial_id + SUFFIX, content)
        except OSError as error:
            raise UserError(f"checkpoint: cannot write {self.where(trial_id)!r}: {error.strerror or error}") from None

    def load(self, trial_id: str) -> bytes | None:
        """A trial's checkpoint; None where there is none."""
        try:
            return bytes(self.place.open(trial_id + SUFFIX).read())
        except FileNotFoundError:
            return None

    def remove(self, trial_id: str) -> None:
        """Remove a trial's checkpoint, if it has one."""
        try:
            self.place.remove(trial_id + SUFFIX)
        except OSError as error:
            raise UserError(f"checkpoint: cannot remove {self.where(trial_id)!r}: {error.strerror or error}") from None
