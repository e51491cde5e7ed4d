"""Trials of equal shape trained together, as one model with a leading axis of trials: fewer, larger operations.

    weights (N, …), batches (N, B, …), losses (N,)      N trials with their own rates, momentum, radii, seeds, schedules

Each trial takes the steps it would take alone, on the same batches from the same start, so its numbers are those of
`train` up to rounding. One that diverges ends there; its weights go on as they may, and no other trial sees them.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from scionlab.errors import UserError
from scionlab.optim import method_of
from scionlab.optim.method import Batch, OneGradient
from scionlab.optim.schedule import FIELDS, schedule_of
from scionlab.optim.steps.stacked import StackedMethod, stackable
from scionlab.problems.data import Batches, Source
from scionlab.problems.models import OVER_BATCHES
from scionlab.spec import Trial
from scionlab.spec.identity import fields_hash
from scionlab.training.feed import Feed
from scionlab.training.graphs import load_compiler
from scionlab.training.log import Log, OnRow, Outcome, Row
from scionlab.training.oracle import StackedOracle
from scionlab.training.passes import Clock, Passes, known, threads
from scionlab.training.prepare import build, flops_per_call
from scionlab.training.run import Run
from scionlab.training.scores import score_rows

CLIP_EPS = 1e-6  # PyTorch's, in `clip_grad_norm_`
# Fields in which the trials of a stack may differ, besides those options of their method that are fractional numbers.
FREE = {"lr", "momentum", "seed", *FIELDS, "divergence_factor", "divergence_scale"}
# Options that are numbers and parts of a method all the same: networks of a stack share them.
SHARED = ("floor", "anchor_fade_start", "anchor_fade_end")


def stack_key(trial: Trial) -> str | None:
    """A hash of what resolved trials that can share a stack agree in; None for one that cannot.

    What is measured within a run, stages, averages of weights, a network's dual norm, models that gather statistics and
    drop path are trained alone, and so are models, optimizers and samplers of the caller's own, which may do anything.
    """
    measured = trial.is_measured or trial.validate_every or trial.model in OVER_BATCHES
    alone = trial.has_own_code or trial.stages or trial.ema or trial.drop_path
    if measured or alone or (trial.clip_norm and trial.clip_by == "dual"):
        return None
    fields = trial.model_dump(exclude=FREE)
    options = trial.options.items()
    fields["options"] = {name: value for name, value in options if name in SHARED or not isinstance(value, float)}
    return fields_hash(fields)


def can_stack(trial: Trial, corpus: Source) -> bool:
    """Whether trials like this one can be stacked: their data and all their optimizers know how."""
    if stack_key(trial) is None or not corpus.traceable:
        return False
    _, claims = build(trial, corpus.shape)
    method = method_of(trial, claims)
    return type(method) is OneGradient and all(map(stackable, method.optimizers))


def train_stack(
    trials: Sequence[Trial], corpus: Source, compiled: bool = False, on_rows: Sequence[OnRow | None] | None = None
) -> list[Outcome]:
    """Train resolved trials of one `stack_key` together. The outcomes are in their order, as are those in `on_rows`.

    Every trial's wall_time_s is an equal share of the stack's. Raises UserError where they cannot share a stack.
    """
    keys = {stack_key(trial) for trial in trials}
    if len(keys) > 1 or None in keys or not corpus.traceable:
        raise UserError("stack: these trials cannot be trained together")
    stack = Stack(trials, corpus, compiled, on_rows)
    while not stack.finished:
        stack.advance()
    return stack.outcomes()


def seconds_per_step(trials: Sequence[Trial], corpus: Source, steps: int) -> float:
    """Seconds of one step of a trial alone, or of a stack, in eager mode: the median of `steps` after a first one."""
    first = trials[0]
    short = [trial.replace(tokens=(steps + 1) * trial.counted_tokens(trial)) for trial in trials]
    run = Run(short[0], corpus) if len(short) == 1 else Stack(short, corpus)
    with threads(first):
        run.advance()
        ticks = [_now(first)]
        for _ in range(steps):
            run.advance()
            ticks.append(_now(first))
    return median(after - before for before, after in pairwise(ticks))


def _now(trial: Trial) -> float:
    if trial.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Stack:
    """A run of N trials. Memory is N times that of one."""

    def __init__(
        self,
        trials: Sequence[Trial],
        corpus: Source,
        compiled: bool = False,
        on_rows: Sequence[OnRow | None] | None = None,
    ) -> None:
        self.trials, self.corpus, self.first = trials, corpus, trials[0]
        self.clock, self.step = Clock(), 0
        listeners = on_rows or [None] * len(trials)
        self.logs = [Log(trial, on_row) for trial, on_row in zip(trials, listeners, strict=True)]
        self.ended: list[Row | None] = [None] * len(trials)  # what was done until then
        self.pending: list[Tensor] = []
        self.norms: list[Tensor] = []  # of the gradients, (N,) a step since the last row, where they are clipped
        self.clipped = torch.zeros(len(trials), dtype=torch.int64)
        load_compiler()
        with self._at_work():
            self._build(compiled)
        self.call_flops = flops_per_call(self.first, self.first.plan[0], corpus.shape)

    def _build(self, compiled: bool) -> None:
        """Every trial's start and method as it would be alone, put together; and the streams of batches."""
        device, steps = torch.device(self.first.device), self.first.steps
        networks, methods = [], []
        for trial in self.trials:
            model, claims = build(trial, self.corpus.shape)
            methods.append(method_of(trial, claims).optimizers)
            networks.append(dict(model.named_parameters()))
        self.method = StackedMethod(networks, methods, device)
        self.passes = Passes(model.to(device), self.corpus, self.first)
        self.oracle = StackedOracle(self.passes, self.method.weights, compiled)
        seeds = sorted({trial.seed for trial in self.trials})
        streams = [self._stream(seed) for seed in seeds]
        self.stream_of = torch.tensor([seeds.index(trial.seed) for trial in self.trials], device=device)
        self.feed = Feed(streams, self.passes, steps)
        self.validation = self.corpus.held_out(self.first.val_tokens, self.first.val_seq_len)
        self.factors = [self._factors(trial) for trial in self.trials]  # by trial and step
        self.rates = torch.tensor(self.factors, dtype=torch.float64).T.contiguous().to(device)

    def _stream(self, seed: int) -> Batches:
        trial = self.first
        return self.corpus.training(trial.batch_size, trial.seq_len, seed, limit=trial.train_limit)

    def _factors(self, trial: Trial) -> list[float]:
        shape = schedule_of(trial, trial.steps)
        return [shape(k) for k in range(trial.steps)]

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """The clock runs; on a CPU, attention is made of operations that can be batched over trials."""
        with self.clock.running(self.first):
            if self.first.device == "cpu":
                with sdpa_kernel(SDPBackend.MATH):
                    yield
            else:
                yield

    @property
    def finished(self) -> bool:
        """True after the last step, and after every trial has diverged."""
        return self.step == self.first.steps or None not in self.ended

    def advance(self) -> None:
        """One step of every trial."""
        with self._at_work():
            reading = self.oracle.at(Batch(self.feed.next()[self.stream_of]))
            vanishing = self.first.momentum_schedule == "vanishing"
            momentum = 1 / math.sqrt(self.step + 1) if vanishing else None
            gradients = self._clipped(reading.gradients) if self.first.clip_norm else reading.gradients
            self.method.step(gradients, self.rates[self.step], momentum, self.step / self.first.steps)
            self.pending.append(reading.loss)
            self.step += 1
            if self.logs[0].due(self.step):
                self._log()

    def _clipped(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every trial's gradients, scaled down as `Clipping` does."""
        squares = [grad.flatten(1).square().sum(1) for grad in gradients.values()]
        norms = torch.stack(squares).sum(0).sqrt()
        self.norms.append(norms)
        scales = (self.first.clip_norm / (norms + CLIP_EPS)).clamp(max=1.0)
        return {name: grad * scales.view(-1, *[1] * (grad.ndim - 1)) for name, grad in gradients.items()}

    def _done(self) -> Row:
        steps = self.step
        tokens = steps * self.first.batch_size * self.first.seq_len
        done = {"steps_done": steps, "tokens": tokens, "epochs": self.feed.epochs, "flops": steps * self.call_flops}
        return done | {"gradient_calls": steps}  # methods that take more than one a step are trained alone

    def _log(self) -> None:
        """Append a row to every curve, and end those trials that have diverged."""
        losses = torch.stack(self.pending).T.tolist()
        self.pending = []
        done = self._done()
        norms = self._norms()
        for n, trial in enumerate(self.trials):
            if self.ended[n] is None:
                rate = trial.lr * self.factors[n][self.step - 1]
                place = {"step": self.step, "tokens": done["tokens"], "lr": rate, **norms[n]}
                if not self.logs[n].append(place, losses[n]):
                    self.ended[n] = done | self._clipping(n)

    def _norms(self) -> list[Row]:
        """Of every trial, the mean norm of its gradients since the last row; counts what was clipped."""
        if not self.norms:
            return [{}] * len(self.trials)
        norms = torch.stack(self.norms)
        self.norms = []
        self.clipped += (norms > self.first.clip_norm).sum(0).cpu()
        return [{"grad_norm": norm} for norm in norms.mean(0).tolist()]

    def _clipping(self, n: int) -> Row:
        return {"clipped_share": int(self.clipped[n]) / self.step} if self.first.clip_norm else {}

    def _validate(self) -> tuple[list[float], list[float | None], list[Tensor]]:
        """Of every trial: mean loss over the validation set, accuracy, and the scores of groups (G, 3)."""
        stacked = torch.vmap(self.passes.totals, in_dims=(None, 0))
        whole, groups = self.passes.validate(self.validation, lambda batch: stacked(batch, self.method.weights))
        losses, accuracies = whole.T.tolist()
        return losses, [known(accuracy) for accuracy in accuracies], list(groups)

    def outcomes(self) -> list[Outcome]:
        """Validate the finished trials, and sum each up."""
        with self._at_work():
            scores = list(zip(*self._validate(), strict=True)) if None in self.ended else []
        count = len(self.trials)
        seconds, compiler = self.clock.seconds / count, self.oracle.compiler.columns()
        how = {**compiler, "compile_s": compiler["compile_s"] / count, "stack": count}
        how |= {"micro_batch": 0, "micro_batch_note": None, "stem_steps": 0}
        found = []
        for n, ended in enumerate(self.ended):
            loss, accuracy, groups = scores[n] if ended is None else (None, None, None)
            done = (ended or self._done() | self._clipping(n)) | how
            summary = self.logs[n].summary(self.corpus, (loss, accuracy), done, seconds)
            rows = [] if groups is None else score_rows(self.corpus, self.step, groups)
            found.append(Outcome(summary, self.logs[n].curve, scores=rows))
        return found
