"""One trial → one summary row, its curve and its layers: a pure function of the trial and its data; no disk, no Ray.

    for k in 0 … K − 1:   g ← ∇ loss of batch k;   every optimizer steps with γ·schedule(k)

A trial may have stages that differ in batch size, sequence length and γ: averages and moments go on from one to the
next, and the schedule runs once over all of them, by tokens. Between two stages a `Run` can be saved and loaded.

Losses are in nats a token or image. On a CPU a trial runs on one thread and gives the same numbers bit for bit,
whoever runs it.
"""

import copy
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from scionlab.data import Batches, Source
from scionlab.errors import UserError
from scionlab.optim import ScionLight, geometry, recipe
from scionlab.optim.conditional import network_norm
from scionlab.optim.schedule import schedule
from scionlab.prepare import architecture, build, flops_per_step, resolve, watched
from scionlab.probe import PROBE_TOKENS, PROBE_WINDOWS, Probe, probe_steps
from scionlab.spec import PlannedStage, Trial, trial_id
from scionlab.watch import WATCH_EXAMPLES, Watch, watch_steps

__all__ = ["Outcome", "Run", "build", "resolve", "train"]

# A trial logs its loss in at most this many rows, so that what it keeps in memory does not grow with its length.
MAX_CURVE_ROWS = 128
# The summary's train_loss averages the logged losses of this last share of the steps.
TAIL_SHARE = 0.1
# What a saved run holds besides its trial, model, optimizers and place in the text.
PROGRESS = (
    "stage", "step", "tokens", "flops", "seconds", "diverged", "initial_loss", "curve", "probes", "layers",
    "seen_before",
)  # fmt: skip


@dataclass
class Outcome:
    """What a trial gives back: `summary` (columns of the runs table), `curve` and `layers` (rows of their tables)."""

    summary: dict[str, Any]
    curve: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)


def train(trial: Trial, corpus: Source) -> Outcome:
    """Train a resolved trial. Ends early with status `diverged` on a loss that is not finite or too large."""
    run = Run(trial, corpus)
    while not run.finished:
        run.run_stage()
    return run.outcome()


@contextmanager
def _threads(trial: Trial) -> Iterator[None]:
    """One thread on a CPU: sums are grouped by thread, so this makes the numbers independent of the machine's cores.

    On CUDA the cores only build and initialize the model, and each GPU's trial takes its share of them.
    """
    before = torch.get_num_threads()
    cores = 1 if trial.device == "cpu" else (os.cpu_count() or 1) // torch.cuda.device_count()
    torch.set_num_threads(max(1, cores))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Run:
    """A run of a resolved trial, stage by stage; between stages it can be saved, and go on in another process.

        run = Run(trial, corpus)
        run.run_stage()
        torch.save(run.state_dict(), path)
        …
        run = Run(trial, corpus)
        run.load_state_dict(torch.load(path, weights_only=True))
        while not run.finished:
            run.run_stage()
        outcome = run.outcome()

    On a CPU the numbers are those of the run that was never saved, bit for bit. Raises UserError for a text too short.
    """

    def __init__(self, trial: Trial, corpus: Source) -> None:
        self.trial, self.corpus, self.plan, self.steps = trial, corpus, trial.plan, trial.steps
        self.device = torch.device(trial.device)
        self.stage, self.step, self.tokens, self.flops = 0, 0, 0, 0  # stages ended, steps taken, tokens seen
        self.seconds, self.seen_before = 0.0, 0.0  # time at work; passes over the text in windows of other lengths
        self.diverged, self.initial_loss = False, math.nan
        self.curve: list[dict[str, Any]] = []
        self.probes: list[dict[str, Any]] = []
        self.layers: list[dict[str, Any]] = []
        self.pending: list[Tensor] = []  # losses stay on the device until a log point
        self.log_every = 1 if self.steps <= MAX_CURVE_ROWS else math.ceil(self.steps / (MAX_CURVE_ROWS - 1))
        self.probe_steps = probe_steps(trial.probe, self.steps)
        self.watch_steps = watch_steps(trial.watch, self.steps)
        # A point of the schedule is a number of first-stage steps: without later stages, exactly the step.
        self.unit = self.plan[0].step_tokens
        self.shape = schedule(trial.schedule, trial.exact_tokens / self.unit, trial.decay_fraction)
        with self._at_work():
            self.model, self.claims = build(trial, corpus.shape)
            self.model.to(self.device)
            self.optimizers: list[Optimizer] = []
            self.windows = self._training_windows(0)
            self.validation = corpus.held_out(trial.val_tokens, trial.val_seq_len)
            self.watch = Watch(self.model, watched(self.model, self.claims, trial), self._watched_batch)
            if self.watch_steps:
                self.layers += self.watch.measure({"step": 0, "tokens": 0})
            self._enter_stage()

    @property
    def finished(self) -> bool:
        """True after the last stage, and after divergence."""
        return self.diverged or self.stage == len(self.plan)

    def run_stage(self) -> None:
        """Train the next stage to its end, or to divergence."""
        if self.finished:
            raise AssertionError("run_stage: no stage is left")
        with self._at_work():
            for _ in range(self._now.steps):
                if not self._advance():
                    self.diverged = True
                    return
            self.stage += 1
            if not self.finished:
                self._enter_stage()

    def outcome(self) -> Outcome:
        """Validate the finished run, and sum it up."""
        if not self.finished:
            raise AssertionError("outcome: a stage is left")
        val_loss, accuracy = None, None
        with self._at_work():
            if not self.diverged:
                val_loss, accuracy = self.validate()
        rows = sorted([*self.curve, *self.probes], key=lambda row: row["step"])
        return Outcome(self._summary(val_loss, accuracy), rows, self.layers)

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that decides how the run goes on: tensors and plain values. Only between stages."""
        state = {
            "trial_id": trial_id(self.trial, self.corpus.split_sha256),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "windows": self.windows.state_dict(),
            "pending": self.pending,
            "averages": [light.gradient_buffers() for light in self._light()],
            "watch": self.watch.state_dict(),
            **{name: getattr(self, name) for name in PROGRESS},
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises UserError for the state of another trial, or of a run on another text."""
        if state["trial_id"] != trial_id(self.trial, self.corpus.split_sha256):
            raise UserError("checkpoint: it is of another trial, or of the same on another text")
        # what a state has not got is older than it, and its trial has no use for it
        state = {"layers": [], "averages": [], "watch": self.watch.state_dict()} | copy.deepcopy(state)
        for name in PROGRESS:
            setattr(self, name, state[name])
        self.windows = self._training_windows(self.stage)
        self.windows.load_state_dict(state["windows"])
        self._enter_stage()
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for light, averages in zip(self._light(), state["averages"], strict=True):
            light.load_gradient_buffers(averages)
        self.watch.load_state_dict(state["watch"])
        self.pending = [loss.to(self.device) for loss in state["pending"]]

    @property
    def _now(self) -> PlannedStage:
        """The stage under way or next; of a finished run, the last."""
        return self.plan[min(self.stage, len(self.plan) - 1)]

    def _training_windows(self, stage: int) -> Batches:
        """Training batches of the stage under way, from the beginning of the order that has this number."""
        now, trial = self._now, self.trial
        return self.corpus.training(now.batch_size, now.seq_len, trial.seed, stage, trial.train_limit)

    def _light(self) -> list[ScionLight]:
        """The optimizers whose averages live in the gradients."""
        return [optimizer for optimizer in self.optimizers if isinstance(optimizer, ScionLight)]

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """The clock runs, and the trial has its number of threads."""
        began = time.perf_counter()
        with _threads(self.trial):
            yield
        self.seconds += time.perf_counter() - began

    def _enter_stage(self) -> None:
        """Restart the hyperparameters: optimizers at the stage's rate keep their averages and moments."""
        trial, stage, shape, unit, start = self.trial, self._now, self.shape, self.unit, self.tokens
        fresh = recipe(trial).optimizers(self.claims, stage.lr, trial.momentum, trial.width)
        for new, old in zip(fresh, self.optimizers, strict=False):  # none before the first stage
            new.state.update(old.state)

        def factor(k: int) -> float:
            return shape((start + k * stage.step_tokens) / unit)

        self.optimizers, self.schedulers = fresh, [LambdaLR(optimizer, factor) for optimizer in fresh]
        if stage.seq_len != self.windows.seq_len:
            self.seen_before += self.windows.epochs
            self.windows = self._training_windows(self.stage)
        self.windows.batch_size = stage.batch_size
        self.step_flops = flops_per_step(trial, stage, self.corpus.shape)

    def _advance(self) -> bool:
        """One step and what is measured around it; False if the run has diverged."""
        self.step += 1
        probe = self._probe() if self.step in self.probe_steps else None
        self.pending.append(self._step())
        self.tokens += self._now.step_tokens
        self.flops += self.step_flops
        if self.watch_steps:
            self.watch.stepped(self._place()["lr"])
            if self.step in self.watch_steps:
                self.layers += self.watch.measure({"step": self.step, "tokens": self.tokens})
        if probe is not None:
            self.probes += [{**self._place(), **row} for row in probe.after_step()]
        logged = self.step == 1 or self.step % self.log_every == 0 or self.step == self.steps
        return self._log() if logged else True

    def _probe(self) -> Probe:
        windows = self.corpus.probe(PROBE_WINDOWS, self._now.seq_len, PROBE_TOKENS)
        norm = network_norm(self.claims, geometry(self.trial))
        return Probe(self._loss, [claim.parameter for claim in self.claims], norm, self._to_device(windows))

    def _step(self) -> Tensor:
        batch = self._to_device(self.windows.next_batch())
        loss = self._loss(batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.trial.momentum_schedule == "vanishing":
            for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
                group["momentum"] = 1 / math.sqrt(self.step)
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            scheduler.step()
        return loss.detach()

    def _to_device(self, batch: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return batch.pin_memory().to(self.device, non_blocking=True)
        return batch

    def _forward(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The model's output on a batch, the targets, and the loss."""
        inputs, targets = self.corpus.unpack(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.trial.dtype == "bfloat16"):
            outputs = self.model(inputs)
        return outputs, targets, self.corpus.loss(outputs, targets)

    def _loss(self, batch: Tensor) -> Tensor:
        """Mean loss of a batch, in nats."""
        return self._forward(batch)[2]

    def _watched_batch(self) -> tuple[Tensor, Tensor]:
        """The model's output and the loss on the first validation examples."""
        outputs, _, loss = self._forward(self._to_device(self.validation[:WATCH_EXAMPLES]))
        return outputs, loss

    def _place(self) -> dict[str, Any]:
        """Where in the run the last step was taken, and its rate."""
        now = self._now
        rate = now.lr * self.shape((self.tokens - now.step_tokens) / self.unit)
        return {"step": self.step, "tokens": self.tokens, "lr": rate}

    def _log(self) -> bool:
        """Append a curve row; False if the run has diverged."""
        losses = torch.stack(self.pending).tolist()
        self.pending = []
        if self.step == 1:
            self.initial_loss = losses[0]
        self.curve.append({**self._place(), "train_loss": sum(losses) / len(losses)})
        limit = self.trial.divergence_factor * self.initial_loss
        return all(math.isfinite(loss) and loss <= limit for loss in losses)

    @torch.no_grad()
    def validate(self) -> tuple[float, float | None]:
        """Mean loss over the fixed validation set, in batches of about the training batch's size, and the accuracy."""
        trial = self.trial
        batch = max(1, trial.batch_size * trial.seq_len // trial.val_seq_len)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        right: Tensor | None = None
        for part in self.validation.split(batch):
            outputs, targets, loss = self._forward(self._to_device(part))
            total += loss.double() * len(part)
            if (correct := self.corpus.correct(outputs, targets)) is not None:
                right = correct if right is None else right + correct
        count = len(self.validation)
        return float(total) / count, None if right is None else float(right) / count

    def _train_loss(self) -> float:
        """Mean logged loss over the last TAIL_SHARE of the curve."""
        tail = self.curve[-max(1, round(TAIL_SHARE * len(self.curve))) :]
        return sum(row["train_loss"] for row in tail) / len(tail)

    def _summary(self, val_loss: float | None, accuracy: float | None) -> dict[str, Any]:
        counts = architecture(self.trial, self.corpus.shape)
        ok = val_loss is not None and math.isfinite(val_loss)
        return {
            "status": "ok" if ok else "diverged",
            "n_params": counts.n_params,
            "n_params_hidden": counts.n_params_hidden,
            "vocab_size": self.corpus.shape.n_outputs,
            "steps": self.steps,
            "steps_done": self.step,
            "tokens": self.trial.exact_tokens,
            "tokens_budget": self.trial.tokens,
            "epochs": self.seen_before + self.windows.epochs,
            "initial_loss": self.initial_loss,
            "train_loss": self._train_loss(),
            "val_loss": val_loss if ok else None,
            "val_accuracy": accuracy if ok else None,
            "wall_time_s": self.seconds,
            "tokens_per_s": self.tokens / self.seconds,
            "flops": self.flops,
        }
