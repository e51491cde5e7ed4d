"""One trial → one summary row, its curve and its layers: a pure function of the trial and its data; no disk, no Ray.

    for k in 0 … K − 1:   the method steps on batch k, with γ·schedule(k) and gradients of the oracle

A trial may have stages that differ in batch size, sequence length and γ: averages and moments go on from one to the
next, and the schedule runs once over all of them, by tokens. Between two steps a `Run` can be saved and loaded.

Losses are in nats a token or image. On a CPU a trial runs on one thread and gives the same numbers bit for bit,
whoever runs it.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from scionlab.errors import UserError
from scionlab.optim import LmoRecipe, geometry, method_of, recipe
from scionlab.optim.method import Method
from scionlab.optim.recipes.conditional import network_norm
from scionlab.optim.schedule import schedule_of
from scionlab.problems.data import Batches, Source
from scionlab.spec import PlannedStage, Trial
from scionlab.training.clipping import Clipping
from scionlab.training.feed import Feed
from scionlab.training.graphs import load_compiler
from scionlab.training.log import Log, OnRow, Outcome, Row
from scionlab.training.measure.noise import NOISE_WINDOWS, noise_rows
from scionlab.training.measure.probe import PROBE_TOKENS, PROBE_WINDOWS, Probe, probe_steps
from scionlab.training.measure.watch import WATCH_EXAMPLES, Watch, watch_steps
from scionlab.training.oracle import ModelOracle
from scionlab.training.passes import Clock, Passes, known
from scionlab.training.prepare import build, flops_per_call, identity, training_batches, watched
from scionlab.training.scores import NOISE, VALIDATION, score_rows

# Raise it when a saved run holds other things.
STATE_VERSION = 3
# What a saved run holds besides its trial, model, method and place in the text.
PROGRESS = (
    *("stage", "step", "tokens", "flops", "diverged", "probes", "layers", "scores", "validations"),
    *("seen_before", "stem_steps", "lent"),
)


def train(
    trial: Trial, corpus: Source, compiled: bool = False, on_row: OnRow | None = None, micro_batch: int = 0
) -> Outcome:
    """Train a resolved trial. Ends early with status `diverged` on a loss that is not finite or too large.

    `compiled` takes the gradients from a compiled graph (`scionlab.training.graphs`); `on_row` hears of every row
    of the curve as it is logged. Batches of more than `micro_batch` examples are read in parts of so many; 0 for none.
    """
    run = Run(trial, corpus, compiled, on_row, micro_batch)
    while not run.finished:
        run.run_stage()
    return run.outcome()


class Run:
    """A run of a resolved trial; between steps it can be saved, and go on in another process.

        run = Run(trial, corpus)
        run.run_steps(1000)
        torch.save(run.state_dict(), path)
        …
        run = Run(trial, corpus)
        run.load_state_dict(torch.load(path, weights_only=True))
        while not run.finished:
            run.run_stage()
        outcome = run.outcome()

    On a CPU the numbers are those of the run that was never saved, bit for bit. Raises UserError for a text too short.
    """

    def __init__(
        self,
        trial: Trial,
        corpus: Source,
        compiled: bool = False,
        on_row: OnRow | None = None,
        micro_batch: int = 0,
    ) -> None:
        self.trial, self.corpus, self.plan, self.steps = trial, corpus, trial.plan, trial.steps
        self.device = torch.device(trial.device)
        self.stage, self.step, self.tokens, self.flops = 0, 0, 0, 0  # stages ended, steps taken, tokens seen
        self.stem_steps, self.lent = 0, 0.0  # steps of a stem it began with; their tokens that count for others
        self.clock, self.seen_before = Clock(), 0.0  # time at work; passes over the text in windows of other lengths
        self.diverged, self.log = False, Log(trial, on_row)
        self.probes: list[Row] = []
        self.validations: list[Row] = []
        self.layers: list[Row] = []
        self.scores: list[Row] = []
        self.pending: list[Tensor] = []  # losses stay on the device until a log point
        self.probe_steps = probe_steps(trial.probe, self.steps)
        self.noise_steps = probe_steps(trial.noise_probe, self.steps)
        self.watch_steps = watch_steps(trial.watch, self.steps)
        # A point of the schedule is a number of first-stage steps: without later stages, exactly the step.
        self.unit = self.plan[0].step_tokens
        self.shape = schedule_of(trial, trial.exact_tokens / self.unit)
        if compiled or not isinstance(recipe(trial), LmoRecipe):  # Scion needs none of it
            load_compiler()
        with self.clock.running(self.trial):
            self.model, self.claims = build(trial, corpus.shape)
            self.model.to(self.device)
            self.passes = Passes(self.model, corpus, trial)
            self.windows = self._training_windows(0)
            may_compile = compiled and not trial.has_own_sampler
            self.oracle = ModelOracle(self.passes, may_compile, micro_batch, self.windows.listens)
            self.clipping = Clipping(trial, self.claims) if trial.clip_norm else None
            averaged = get_ema_multi_avg_fn(trial.ema)
            self.average = AveragedModel(self.model, multi_avg_fn=averaged) if trial.ema else None
            self.method = self._method()
            self.validation = corpus.held_out(trial.val_tokens, trial.val_seq_len)
            self.watch = Watch(self.model, watched(self.model, self.claims, trial), self._watched_batch)
            if self.watch_steps:
                self.layers += self.watch.measure({"step": 0, "tokens": 0})
            self._open_feed()

    @property
    def finished(self) -> bool:
        """True after the last stage, and after divergence."""
        return self.diverged or self.stage == len(self.plan)

    def run_stage(self) -> None:
        """Train the next stage to its end, or to divergence."""
        self.run_steps(self._stage_end - self.step)

    def run_steps(self, count: int) -> None:
        """Take `count` steps; fewer at the end of the stage under way, and on divergence."""
        if self.finished:
            raise AssertionError("run_steps: no stage is left")
        with self.clock.running(self.trial):
            for _ in range(min(count, self._stage_end - self.step)):
                if not self.advance():
                    self.diverged = True
                    return
            if self.step == self._stage_end:
                self.stage += 1
                if not self.finished:
                    self._enter_stage()

    def outcome(self) -> Outcome:
        """Validate the finished run, and sum it up."""
        if not self.finished:
            raise AssertionError("outcome: a stage is left")
        val_loss, accuracy = None, None
        with self.clock.running(self.trial):
            if not self.diverged:
                val_loss, accuracy = self.validate()
        rows = sorted([*self.log.curve, *self.validations, *self.probes], key=lambda row: row["step"])
        epochs = self.seen_before + self.feed.epochs
        done = {"steps_done": self.step, "tokens": self.tokens, "epochs": epochs, "flops": self.flops}
        done["gradient_calls"] = self.oracle.calls
        if self.clipping is not None:
            done["clipped_share"] = self.clipping.clipped / self.step
        how = {**self.oracle.compiler.columns(), **self.oracle.parts.columns()}
        how |= {"stack": 0, "stem_steps": self.stem_steps}
        if self.lent:  # seconds and tokens of a stem are shared out alike
            how["tokens_per_s"] = (self.tokens - self.lent) / self.clock.seconds
        summary = self.log.summary(self.corpus, (val_loss, accuracy), {**done, **how}, self.clock.seconds)
        return Outcome(summary, rows, self.layers, self.scores)

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that decides how the run goes on: tensors and plain values."""
        state = {
            "version": STATE_VERSION,
            "trial_id": identity(self.trial, self.corpus),
            "model": self.model.state_dict(),
            "method": self.method.state_dict(),
            "buffers": dict(self.model.named_buffers()),  # also those that a module keeps out of its state
            "windows": self.feed.places[0],
            "pending": self.pending,
            "ema": None if self.average is None else self.average.state_dict(),
            "clipping": None if self.clipping is None else self.clipping.state_dict(),
            "watch": self.watch.state_dict(),
            "seconds": self.clock.seconds,
            "calls": self.oracle.calls,
            "parts": self.oracle.parts.state_dict(),
            "initial_loss": self.log.initial_loss,
            "curve": self.log.curve,
            **{name: getattr(self, name) for name in PROGRESS},
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. UserError for the state of another trial or version, or of a run on another text."""
        if state.get("version") != STATE_VERSION:
            raise UserError("checkpoint: it was saved by another version of scionlab")
        if state["trial_id"] != identity(self.trial, self.corpus):
            raise UserError("checkpoint: it is of another trial, or of the same on another text")
        state = copy.deepcopy(state)
        for name in PROGRESS:
            setattr(self, name, state[name])
        self.clock.seconds, self.oracle.calls = state["seconds"], state["calls"]
        self.oracle.parts.load_state_dict(state["parts"])
        self.log.initial_loss, self.log.curve = state["initial_loss"], state["curve"]
        self.windows = self._training_windows(self.stage)
        self.windows.load_state_dict(state["windows"])
        self._enter_stage()
        self.model.load_state_dict(state["model"])
        for name, buffer in self.model.named_buffers():
            buffer.copy_(state["buffers"][name])
        self.method.load_state_dict(state["method"])
        self.watch.load_state_dict(state["watch"])
        if self.average is not None:
            self.average.load_state_dict(state["ema"])
        if self.clipping is not None:
            self.clipping.load_state_dict(state["clipping"])
        self.pending = [loss.to(self.device) for loss in state["pending"]]

    @property
    def _now(self) -> PlannedStage:
        """The stage under way or next; of a finished run, the last."""
        return self.plan[len(self._before)]

    @property
    def _stage_end(self) -> int:
        """Steps taken when the stage under way has ended."""
        return sum(stage.steps for stage in self.plan[: self.stage + 1])

    @property
    def _before(self) -> tuple[PlannedStage, ...]:
        """The stages before the one under way; of a finished run, before the last."""
        return self.plan[: min(self.stage, len(self.plan) - 1)]

    def _training_windows(self, stage: int) -> Batches:
        """Training batches of the stage under way, from the beginning of the order that has this number."""
        now, trial = self._now, self.trial
        return training_batches(trial, self.corpus, now.batch_size, now.seq_len, stage)

    def _method(self) -> Method:
        """The method at the rate of the stage under way, before its first step."""
        method = method_of(self.trial, self.claims, self._now.lr)
        method.clip = None if self.clipping is None else self.clipping.step
        return method

    def _enter_stage(self) -> None:
        """Restart the hyperparameters: a method at the stage's rate keeps its averages and moments."""
        before, self.method = self.method, self._method()
        self.method.take_over(before)
        self._open_feed()

    def _open_feed(self) -> None:
        """Batches of the stage under way, from where the run is in them."""
        stage = self._now
        if stage.seq_len != self.windows.seq_len:
            self.seen_before += self.windows.epochs
            self.windows = self._training_windows(self.stage)
        self.windows.batch_size = stage.batch_size
        left = stage.steps - (self.step - sum(earlier.steps for earlier in self._before))
        self.feed = Feed([self.windows], self.passes, left)
        self.call_flops = flops_per_call(self.trial, stage, self.corpus.shape)

    def advance(self) -> bool:
        """One step and what is measured around it; False if the run has diverged."""
        self.step += 1
        probe = self._probe() if self.step in self.probe_steps else None
        if self.step in self.noise_steps:
            self.scores += self._noise()
        calls = self.oracle.calls
        self.pending.append(self._step())
        self.tokens += self._now.step_tokens
        self.flops += (self.oracle.calls - calls) * self.call_flops
        if self.average is not None:
            self.average.update_parameters(self.model)
        if self._validation_due:
            loss, accuracy = self.validate()
            self.validations.append({**self._place(), "val_loss": loss, "val_accuracy": accuracy})
            self.log.tell(self.validations[-1])
        if self.watch_steps:
            self.watch.stepped(self._place()["lr"])
            if self.step in self.watch_steps:
                self.layers += self.watch.measure({"step": self.step, "tokens": self.tokens})
        if probe is not None:
            self.probes += [{**self._place(), **row} for row in probe.after_step()]
        return self._log() if self.log.due(self.step) else True

    @property
    def _validation_due(self) -> bool:
        """Whether the step has reached another multiple of `validate_every` tokens."""
        every = self.trial.validate_every
        return bool(every) and self.tokens // every > (self.tokens - self._now.step_tokens) // every

    def _probe(self) -> Probe:
        windows = self.corpus.probe(PROBE_WINDOWS, self._now.seq_len, PROBE_TOKENS)
        norm = network_norm(self.claims, geometry(self.trial))
        parameters = [claim.parameter for claim in self.claims]
        return Probe(self.passes.evaluated_loss, parameters, norm, self.passes.to_device(windows))

    def _noise(self) -> list[Row]:
        """Rows of the scores table: the noise of gradients at the weights before this step."""
        windows = self.passes.to_device(self.corpus.probe(NOISE_WINDOWS, self._now.seq_len)[:NOISE_WINDOWS])
        norm = network_norm(self.claims, geometry(self.trial))
        parameters = {claim.names[0]: claim.parameter for claim in self.claims}
        rows = noise_rows(self.passes.evaluated_loss, parameters, norm, windows, self._now.batch_size)
        return [{"step": self.step, "split": NOISE, **row} for row in rows]

    def _step(self) -> Tensor:
        batch = self.feed.next_batch()
        vanishing = self.trial.momentum_schedule == "vanishing"
        momentum = 1 / math.sqrt(self.step) if vanishing else None
        self.method.set_rates(self.shape(self.tokens / self.unit), momentum, self.tokens / self.trial.exact_tokens)
        self.oracle.step = self.step
        loss = self.method.step(self.oracle, batch)
        if self.oracle.heard is not None:
            self.windows.heard(self.oracle.heard)
        return loss

    def _watched_batch(self) -> tuple[Tensor, Tensor]:
        """The model's output and the loss on the first validation examples."""
        with self.passes.evaluating():
            outputs, _, loss = self.passes.forward(self.passes.to_device(self.validation[:WATCH_EXAMPLES]))
        return outputs, loss

    def _place(self) -> Row:
        """Where in the run the last step was taken, and its rate."""
        now = self._now
        rate = now.lr * self.shape((self.tokens - now.step_tokens) / self.unit)
        return {"step": self.step, "tokens": self.tokens, "lr": rate}

    def _log(self) -> bool:
        """Append a curve row; False if the run has diverged."""
        losses = torch.stack(self.pending).tolist()
        self.pending = []
        norms = {} if self.clipping is None else {"grad_norm": self.clipping.logged()}
        return self.log.append({**self._place(), **norms}, losses)

    def validate(self) -> tuple[float, float | None]:
        """Mean loss over the fixed validation set, in batches of about the training batch's size, and the accuracy.

        Of the average of the weights, where the trial takes one. Adds the groups' rows to the scores.
        """
        passes = self.passes if self.average is None else Passes(self.average.module, self.corpus, self.trial)
        most = math.ceil(self.oracle.parts.size * self._now.seq_len / self.trial.val_seq_len)
        whole, groups = passes.validate(self.validation, most=most)
        kept = [row for row in self.scores if (row["step"], row["split"]) != (self.step, VALIDATION)]
        self.scores = kept  # the last step may have had its own
        self.scores += score_rows(self.corpus, self.step, groups)
        loss, accuracy = whole.tolist()
        return loss, known(accuracy)
