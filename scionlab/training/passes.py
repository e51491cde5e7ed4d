"""What a model does with a batch of its data: outputs, loss, gradients, and the score on the validation set."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from scionlab.own.randomness import Stream, Use
from scionlab.problems.data import Examples, Source
from scionlab.problems.models import chunks
from scionlab.problems.models.deit import DeiT
from scionlab.problems.models.gpt import GPT
from scionlab.spec import Trial
from scionlab.training.parts import cut

# Fewer tokens in a pass cost nearly as much time: it is spent on calling the operations.
VALIDATION_TOKENS = 2**11


@contextmanager
def threads(trial: Trial) -> Iterator[None]:
    """One thread on a CPU: sums are grouped by thread, so this makes the numbers independent of the machine's cores.

    On CUDA the cores only build and initialize the model, and whoever started the process has divided them.
    """
    before = torch.get_num_threads()
    if trial.device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Clock:
    """Adds up the seconds of the blocks it is entered for."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self, trial: Trial) -> Iterator[None]:
        """The clock runs, and the trial has its number of threads."""
        began = time.perf_counter()
        with threads(trial):
            yield
        self.seconds += time.perf_counter() - began


def validation_batch(trial: Trial) -> int:
    """Validation examples at a time: about as many tokens as a training batch has, but at least VALIDATION_TOKENS."""
    return max(1, max(VALIDATION_TOKENS, trial.batch_size * trial.seq_len) // trial.val_seq_len)


def known(accuracy: float) -> float | None:
    """An accuracy; None where nothing is classified."""
    return None if math.isnan(accuracy) else accuracy


# Of a batch: losses and right answers summed, and by group.
Totals = Callable[[Tensor], tuple[Tensor, Tensor]]


class Passes:
    """A model on batches of its data, on the trial's device and in its precision. Losses are means, in nats."""

    def __init__(self, model: nn.Module, source: Source, trial: Trial) -> None:
        self.model, self.source, self.trial = model, source, trial
        self.device = torch.device(trial.device)

    def to_device(self, batch: Tensor) -> Tensor:
        """The batch where the model is; the copy to a GPU does not wait for what the GPU is doing."""
        if self.device.type == "cuda":
            return batch.pin_memory().to(self.device, non_blocking=True)
        return batch

    def forward(self, batch: Tensor, weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The model's output on a batch, the targets, and the loss; of `weights` by name instead of its own."""
        inputs, targets = self.problem.unpack(batch)
        outputs = self._call((inputs,), weights)
        return outputs, targets, self.problem.loss(outputs, targets)

    @property
    def problem(self) -> Source:
        """The data with the loss in use: that of training, unless the model is as it is used."""
        return self.source.in_training if self.model.training else self.source

    def _call(self, arguments: tuple[Tensor, ...], weights: Mapping[str, Tensor] | None) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.trial.dtype == "bfloat16"):
            if weights is None:
                outputs: Tensor = self.model(*arguments)
            else:
                outputs = functional_call(self.model, dict(weights), arguments)
        return outputs

    def _loss_in_chunks(self, batch: Tensor, weights: Mapping[str, Tensor] | None) -> Tensor | None:
        """The loss of a batch whose logits would be large, without them; None where the plain loss serves."""
        if not isinstance(self.model, GPT) or not self.source.is_cross_entropy:
            return None
        vocabulary = self.model.config.vocab_size
        if vocabulary < chunks.LARGE_VOCABULARY:
            return None
        inputs, targets = self.source.unpack(batch)
        if targets.is_floating_point() or targets.ndim < 2 or not chunks.serve(targets.numel(), vocabulary):
            return None
        return self._call((inputs, targets), weights)

    def draws(self, step: int, use: Use = Use.TRAINING_STEP) -> AbstractContextManager[None]:
        """What a model of the caller's draws in this block, as dropout does, follows from seed, step and use."""
        if not self.trial.has_own_model:
            return nullcontext()
        return Stream(use, self.trial.seed, step, device=self.trial.device).entered()

    def drawing(self, step: int) -> Callable[[int], dict[str, Tensor]]:
        """At a step, what a built-in model draws for a pass over so many examples: buffers by name, mostly none.

        Called for one part of a batch after the other it draws what it draws for the batch.
        """
        model = self.model
        if not isinstance(model, DeiT) or not model.config.drop_path:
            return lambda n_examples: {}
        generator = np.random.default_rng((Use.DROP_PATH, self.trial.seed, step))
        return lambda n_examples: {
            name: buffer.to(self.device) for name, buffer in model.drawn(n_examples, generator).items()
        }

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The model is as it is used, not trained: without dropout, and with the statistics it has gathered."""
        training = self.model.training
        self.model.eval()
        try:
            with self.draws(0, Use.EVALUATION):
                yield
        finally:
            self.model.train(training)

    def evaluated_loss(self, batch: Tensor) -> Tensor:
        """Mean loss of a batch with the model as it is used."""
        with self.evaluating():
            return self.loss(batch)

    def loss(self, batch: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Mean loss of a batch, 0-d."""
        found = self._loss_in_chunks(batch, weights)
        return self.forward(batch, weights)[2] if found is None else found

    def totals(self, batch: Tensor, weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Of a batch, in float64: (2,), the loss summed over the examples and how many are classified correctly; and
        (G, 3), the same of every group, and how many examples it has.

        What is not known is NaN; without groups, G is 0.
        """
        in_chunks = None if self.source.groups else self._loss_in_chunks(batch, weights)
        if in_chunks is not None:  # of a text, where nothing is classified
            whole = torch.stack([in_chunks.double() * len(batch), in_chunks.double() * math.nan])
            return whole, whole.new_empty(0, 3)
        inputs, targets = self.source.unpack(batch)
        views = self.source.views(inputs)
        if len(views) == 1:
            outputs = self._call((inputs,), weights)
        else:
            outputs = torch.stack([share * self._call((view,), weights).float() for share, view in views]).sum(0)
        loss = self.source.loss(outputs, targets)
        correct = self.source.correct(outputs, targets)
        right = torch.full_like(loss, math.nan) if correct is None else correct
        whole = torch.stack([loss.double() * len(batch), right.double()])
        return whole, self.source.tally(outputs, targets) if self.source.groups else whole.new_empty(0, 3)

    @torch.no_grad()
    def validate(self, examples: Examples, totals: Totals | None = None, most: int = 0) -> tuple[Tensor, Tensor]:
        """Over the examples: mean loss and accuracy, (2,), and the same with the count of every group, (G, 3).

        With `totals` of a batch that have further axes in front, (…, 2) and (…, G, 3); by default they are its own.
        Batches have `validation_batch` examples; with `most` they are read in parts of so many, which changes the sums
        by rounding.
        """
        count = totals or self.totals
        batches = map(self.to_device, examples.split(validation_batch(self.trial)))
        with self.evaluating():
            found = [self._in_parts(batch, count, most) if 0 < most < len(batch) else count(batch) for batch in batches]
        whole, groups = (torch.as_tensor(sum(of_batches)) for of_batches in zip(*found, strict=True))
        counts = groups[..., 2:]
        return whole / len(examples), torch.cat([groups[..., :2] / counts, counts], dim=-1)

    def _in_parts(self, batch: Tensor, count: Totals, most: int) -> tuple[Tensor, Tensor]:
        """Totals of a batch from those of its parts."""
        found = [(len(batch) * share / len(part), *count(part)) for share, part in cut(self.source, batch, most)]
        loss = torch.stack([weight * whole[..., 0] for weight, whole, _ in found]).sum(0)
        right = torch.stack([whole[..., 1] for _, whole, _ in found]).sum(0)
        return torch.stack([loss, right], dim=-1), torch.stack([groups for _, _, groups in found]).sum(0)
