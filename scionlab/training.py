"""One trial → one summary row and its curve: a pure function of the trial and its text; no disk, no Ray.

    for k in 0 … K − 1:   g ← ∇ cross-entropy of batch k;   every optimizer steps with γ·schedule(k)

Losses are in nats a token. On a CPU a trial runs on one thread and gives the same numbers bit for bit, whoever runs it.
"""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from scionlab.data import VOCAB_SIZE, Corpus, TrainingWindows, validation_windows
from scionlab.errors import UserError, unknown
from scionlab.models import MODELS, Architecture
from scionlab.optim import recipe
from scionlab.optim.roles import Claim, assign_roles
from scionlab.optim.schedule import schedule
from scionlab.spec import Trial

# A trial logs at most this many curve rows, so that what it keeps in memory does not grow with its length.
MAX_CURVE_ROWS = 128
# The summary's train_loss averages the logged losses of this last share of the steps.
TAIL_SHARE = 0.1


@dataclass
class Outcome:
    """What a trial gives back: `summary` (columns of the runs table) and `curve` (rows of the curves table)."""

    summary: dict[str, Any]
    curve: list[dict[str, Any]] = field(default_factory=list)


def resolve(trial: Trial) -> Trial:
    """The trial with nothing left to chance: device, dtype and every option of its optimizer made explicit.

    Raises UserError where the machine cannot do what is asked or a name is unknown.
    """
    if trial.model not in MODELS:
        raise unknown("model", trial.model, MODELS)
    device = trial.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: 'cuda' is not available on this machine; use 'cpu' or 'auto'")
    dtype = trial.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    method = recipe(trial)
    method.check(trial.lr)
    return trial.replace(device=device, dtype=dtype, options=method.model_dump())


def architecture(trial: Trial) -> Architecture:
    """The trial's model with its counts."""
    return MODELS[trial.model](trial, VOCAB_SIZE, recipe(trial).output_scale(trial.width))


def train_flops(trial: Trial) -> int:
    """Forward and backward floating-point operations of the whole trial."""
    return architecture(trial).train_flops_per_token * trial.exact_tokens


def build(trial: Trial) -> tuple[nn.Module, list[Claim]]:
    """The initialized model on the CPU, and the roles of its parameters. Seeded by the trial."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)  # for what modules draw while they are built
        model = architecture(trial).build()
    claims = assign_roles(model)
    recipe(trial).initialize(claims, torch.Generator().manual_seed(trial.seed))
    return model, claims


def train(trial: Trial, corpus: Corpus) -> Outcome:
    """Train a resolved trial. Ends early with status `diverged` on a loss that is not finite or too large."""
    with _threads(trial):
        return _Run(trial, corpus).outcome()


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


class _Run:
    """The state of one training run: model, optimizers, data and the losses not yet logged."""

    def __init__(self, trial: Trial, corpus: Corpus) -> None:
        self.began = time.perf_counter()
        self.trial = trial
        self.device = torch.device(trial.device)
        self.model, claims = build(trial)
        self.model.to(self.device)
        self.optimizers = recipe(trial).optimizers(claims, trial.lr, trial.momentum, trial.width)
        factor = schedule(trial.schedule, trial.steps, trial.decay_fraction)
        self.schedulers = [LambdaLR(optimizer, factor) for optimizer in self.optimizers]
        self.factor = factor
        self.windows = TrainingWindows(corpus, trial.batch_size, trial.seq_len, trial.seed)
        self.validation = validation_windows(corpus, trial.val_tokens, trial.val_seq_len)
        self.curve: list[dict[str, Any]] = []
        self.initial_loss = math.nan

    def outcome(self) -> Outcome:
        """Run to the end, or to divergence."""
        status, steps_done = self._loop()
        val_loss = self.validation_loss() if status == "ok" else None
        if val_loss is not None and not math.isfinite(val_loss):
            status, val_loss = "diverged", None
        return Outcome(self._summary(status, steps_done, val_loss), self.curve)

    def _loop(self) -> tuple[str, int]:
        steps = self.trial.steps
        log_every = 1 if steps <= MAX_CURVE_ROWS else math.ceil(steps / (MAX_CURVE_ROWS - 1))  # row 1 is extra
        pending: list[Tensor] = []  # losses stay on the device until a log point
        for step in range(1, steps + 1):
            pending.append(self._step())
            if step == 1 or step % log_every == 0 or step == steps:
                if not self._log(step, pending):
                    return "diverged", step
                pending = []
        return "ok", steps

    def _step(self) -> Tensor:
        batch = self._to_device(self.windows.next_batch())
        loss = self._loss(batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            scheduler.step()
        return loss.detach()

    def _to_device(self, batch: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return batch.pin_memory().to(self.device, non_blocking=True)
        return batch

    def _loss(self, windows: Tensor) -> Tensor:
        """Mean cross-entropy of the next byte over windows (B, S + 1), in nats."""
        inputs, targets = windows[:, :-1], windows[:, 1:]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.trial.dtype == "bfloat16"):
            logits = self.model(inputs)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    def _log(self, step: int, pending: list[Tensor]) -> bool:
        """Append a curve row; False if the run has diverged."""
        losses = torch.stack(pending).tolist()
        if step == 1:
            self.initial_loss = losses[0]
        self.curve.append(
            {
                "step": step,
                "tokens": step * self.trial.batch_size * self.trial.seq_len,
                "lr": self.trial.lr * self.factor(step - 1),
                "train_loss": sum(losses) / len(losses),
            }
        )
        limit = self.trial.divergence_factor * self.initial_loss
        return all(math.isfinite(loss) and loss <= limit for loss in losses)

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean over the fixed validation windows, in batches of about the training batch's size."""
        trial = self.trial
        batch = max(1, trial.batch_size * trial.seq_len // trial.val_seq_len)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for windows in self.validation.split(batch):
            total += self._loss(self._to_device(windows)).double() * len(windows)
        return float(total) / len(self.validation)

    def _train_loss(self) -> float:
        """Mean logged loss over the last TAIL_SHARE of the curve."""
        tail = self.curve[-max(1, round(TAIL_SHARE * len(self.curve))) :]
        return sum(row["train_loss"] for row in tail) / len(tail)

    def _summary(self, status: str, steps_done: int, val_loss: float | None) -> dict[str, Any]:
        trial, counts = self.trial, architecture(self.trial)
        wall_time = time.perf_counter() - self.began
        tokens_done = steps_done * trial.batch_size * trial.seq_len
        return {
            "status": status,
            "n_params": counts.n_params,
            "n_params_hidden": counts.n_params_hidden,
            "vocab_size": VOCAB_SIZE,
            "steps": trial.steps,
            "steps_done": steps_done,
            "tokens": trial.exact_tokens,
            "tokens_budget": trial.tokens,
            "epochs": self.windows.epochs,
            "initial_loss": self.initial_loss,
            "train_loss": self._train_loss(),
            "val_loss": val_loss,
            "wall_time_s": wall_time,
            "tokens_per_s": tokens_done / wall_time,
            "flops": counts.train_flops_per_token * tokens_done,
        }
