"""From an experiment's grid to the cells that still need training."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from scionlab.errors import UserError
from scionlab.optim import recipe
from scionlab.problems.own_model import model_sha256, optimizer_sha256
from scionlab.runs.store import RunStore
from scionlab.spec import Trial
from scionlab.training import check_own, stack_key, stem_key
from scionlab.training.measure.noise import NOISE_WINDOWS
from scionlab.training.measure.probe import PROBE_TOKENS, PROBE_WINDOWS, probe_steps
from scionlab.training.prepare import data_of, identity, resolve, train_flops
from scionlab.training.unread import unread_fields

# What a step costs beyond its matrix products, as FLOPs at their speed: measured on one core of a laptop-class CPU at
# widths 32 to 128. It only orders cells and predicts the time left, so it need not be exact.
STEP_OVERHEAD_FLOPS = 4e8
# A probe takes as long as about this many steps of so many sequences, measured likewise, and its two passes over the
# fixed set of text.
PROBE_STEPS, PROBE_BATCH = 40, 16


@dataclass(frozen=True)
class Cell:
    """A resolved trial with its identity and cost; all that a worker needs to train it and write its row."""

    trial: Trial
    trial_id: str
    flops: int
    data_sha256: str
    experiment: str
    preset: str
    model_sha256: str | None = None
    optimizer_sha256: str | None = None

    @cached_property
    def stack_key(self) -> str | None:
        """What cells that can be trained together agree in, or None."""
        return stack_key(self.trial)

    @cached_property
    def stem_key(self) -> str | None:
        """What cells that can begin with one stem agree in, or None."""
        return stem_key(self.trial)

    @property
    def cost(self) -> float:
        """Expected work, for ordering and for the time left: FLOPs, the overhead of every step, and the probes."""
        return self.flops + STEP_OVERHEAD_FLOPS * self.trial.steps + self.probe_cost

    @property
    def probe_cost(self) -> float:
        """The probes' share of the cost."""
        trial = self.trial
        per_token = self.flops / trial.exact_tokens
        step = per_token * PROBE_BATCH * trial.seq_len + STEP_OVERHEAD_FLOPS
        probe = PROBE_STEPS * step + 2 * PROBE_TOKENS * per_token
        # A pass over every window alone, and one over all of them together.
        noise = NOISE_WINDOWS * (2 * per_token * trial.seq_len + STEP_OVERHEAD_FLOPS)
        counts = (len(probe_steps(count, trial.steps)) for count in (trial.probe, trial.noise_probe))
        return sum(cost * count for cost, count in zip((probe, noise), counts, strict=True))


@dataclass(frozen=True)
class Plan:
    """All cells of a grid, and those of them not yet in the store, the longest first."""

    cells: tuple[Cell, ...]
    todo: tuple[Cell, ...]


def make_plan(trials: Sequence[Trial], store: RunStore, experiment: str, preset: str) -> Plan:
    """Check every trial against this machine and its text, identify it, and look it up in the store.

    Raises UserError before anything is written or trained.
    """
    cells = tuple(_cell(trial, experiment, preset) for trial in trials)
    _check_unique(trials, cells)
    for trial in {_data_needs(cell.trial): cell.trial for cell in cells}.values():
        _check_data(trial)
    check_own([cell.trial for cell in cells])
    finished = store.finished([cell.trial_id for cell in cells])
    todo = [cell for cell in cells if cell.trial_id not in finished]
    return Plan(cells, tuple(sorted(todo, key=lambda cell: -cell.cost)))


def _cell(trial: Trial, experiment: str, preset: str) -> Cell:
    resolved = resolve(trial)
    corpus = data_of(resolved)
    corpus.check_repeats()
    known_as = identity(resolved, corpus)
    flops = train_flops(resolved, corpus.shape)
    code = model_sha256(resolved), optimizer_sha256(resolved)
    return Cell(resolved, known_as, flops, corpus.sha256, experiment, preset, *code)


def _check_unique(trials: Sequence[Trial], cells: Sequence[Cell]) -> None:
    """Two equal trials in one grid are a mistake of its author, also where they differ in what nothing reads."""
    seen: dict[str, Trial] = {}
    for trial, cell in zip(trials, cells, strict=True):
        if cell.trial_id in seen:
            first = seen[cell.trial_id]
            unread = sorted(unread_fields(trial, recipe(trial)))
            differing = [name for name in unread if getattr(trial, name) != getattr(first, name)]
            why = f"; nothing in it reads {' or '.join(differing)}, in which the two differ" if differing else ""
            raise UserError(f"trials: the grid holds this trial twice: {cell.trial.model_dump_json()}{why}")
        seen[cell.trial_id] = trial


def _data_needs(trial: Trial) -> tuple[object, ...]:
    sizes = tuple((stage.batch_size, stage.seq_len) for stage in trial.plan)
    probed = trial.probe > 0, trial.noise_probe > 0
    return trial.data, sizes, trial.val_tokens, trial.val_seq_len, trial.train_limit, probed


def _check_data(trial: Trial) -> None:
    corpus = data_of(trial)
    corpus.held_out(trial.val_tokens, trial.val_seq_len)
    for stage in trial.plan:
        windows = corpus.training(stage.batch_size, stage.seq_len, trial.seed, limit=trial.train_limit)
        if stage.batch_size > windows.n_windows:
            what = "images" if corpus.shape.kind == "image" else f"windows of seq_len {stage.seq_len}"
            within = f" within train_limit {trial.train_limit}" if trial.train_limit else ""
            raise UserError(
                f"batch_size: {stage.batch_size} is not allowed: {corpus.name!r} has {windows.n_windows} training "
                f"{what}{within}"
            )
        if trial.probe:
            corpus.probe(PROBE_WINDOWS, stage.seq_len)
        if trial.noise_probe:
            corpus.probe(NOISE_WINDOWS, stage.seq_len)
