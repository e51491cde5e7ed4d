"""The contract of a problem: what a trial is trained and validated on, what its loss is, and how it is scored.

    inputs, targets = data.unpack(batch)        loss = data.loss(model(inputs), targets)

A batch is one tensor whose first axis counts its examples (windows of a text, images, samples of noise), so that it can
be split, pinned and moved whatever it holds. A loss is the mean over them, in nats where the model predicts something.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scionlab.errors import UserError
from scionlab.problems.data.sampler import Sampler

Kind = Literal["text", "image", "noise", "game"]
# The target that cross-entropy leaves out.
IGNORED = -100


@dataclass(frozen=True)
class PerExample:
    """What single examples of a batch come to: their losses (B,), and whether they are wrong (B,), as 0 and 1.

    `errors` is None where nothing is classified.
    """

    losses: Tensor
    errors: Tensor | None = None


@dataclass(frozen=True)
class DataShape:
    """What a model must fit: `n_outputs` is the vocabulary or the number of classes, `input_shape` (C, H, W).

    `n_outputs` is 0 where nothing is predicted, or nobody said; `example` is one input, (1, …), of a caller's data.
    `patches` gives, of (k, n), the second moments of the k × k patches of the first n training images.
    """

    kind: Kind
    n_outputs: int = 0
    input_shape: tuple[int, ...] = ()
    example: Tensor | None = field(default=None, compare=False, repr=False)
    patches: Callable[[int, int], Tensor] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Sizes:
    """The sizes of a trial that data of the caller's depend on."""

    batch_size: int
    seq_len: int
    val_tokens: int
    val_seq_len: int


class Batches(ABC):
    """Training batches, in an order that follows from the seed and the number of the training stage.

    `batch_size` may be changed at any time, and the order goes on. `n_windows` is the number of different examples.
    """

    batch_size: int
    seq_len: int
    n_windows: int
    epoch: int
    # Of the batch last drawn: what the loss weighs its examples by, (B,); None where all count the same.
    weights: Tensor | None = None

    @abstractmethod
    def next_batch(self) -> Tensor:
        """The next batch."""

    @property
    def listens(self) -> bool:
        """Whether the next batch depends on how the last one did: then none is drawn ahead of its step."""
        return False

    def heard(self, examples: PerExample) -> None:
        """How the batch last drawn did, at the weights that the step was taken by."""
        return

    def choose_by(self, sampler: Sampler) -> None:
        """Let a sampler choose the examples. UserError where they cannot be chosen one by one."""
        raise UserError("sampler: is not allowed with these data: their batches come in an order of their own")

    @property
    @abstractmethod
    def epochs(self) -> float:
        """How often the training set has been seen so far."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """The place in the order, as plain values; the order itself follows from them."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a place in the order of the same data, window length, limit and seed."""


class Examples(Protocol):
    """A fixed set of examples: a tensor of them, or what reads parts of one when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...

    def split(self, size: int, /) -> Iterable[Tensor]:
        """Parts of `size` examples, the last one of what is left."""
        ...


class Order(Protocol):
    """A permutation that can be read in parts: an array of it, or what computes one."""

    def __getitem__(self, places: slice, /) -> np.ndarray: ...


class ShuffledBatches(Batches):
    """Examples without replacement within an epoch, in an order drawn anew from (seed, epoch, stage).

    Holds one permutation: memory does not depend on the number of batches drawn. A sampler takes the order's place;
    its epochs are examples drawn over examples there are.
    """

    def __init__(self, n_windows: int, batch_size: int, seq_len: int, seed: int, stage: int = 0) -> None:
        self.n_windows, self.batch_size, self.seq_len, self.seed, self.stage = (
            n_windows,
            batch_size,
            seq_len,
            seed,
            stage,
        )
        self.epoch, self._position = -1, n_windows  # as at the end of an epoch before the first
        self._order: Order = np.empty(0, dtype=np.int64)
        self.sampler: Sampler | None = None

    @property
    def groups(self) -> np.ndarray | None:
        """The group of every example, (n_windows,) integers, as its class; None where there are none."""
        return None

    @property
    def listens(self) -> bool:
        """Whether a sampler listens."""
        return self.sampler is not None and self.sampler.listens

    def choose_by(self, sampler: Sampler) -> None:
        """Let a sampler choose the examples."""
        self.sampler = sampler
        self.epoch, self._position = 0, 0

    def heard(self, examples: PerExample) -> None:
        """How the batch last drawn did, for the sampler."""
        if self.sampler is not None:
            errors = None if examples.errors is None else examples.errors.double().cpu().numpy()
            self.sampler.heard(examples.losses.double().cpu().numpy(), errors)

    @abstractmethod
    def _gather(self, indices: np.ndarray) -> Tensor:
        """The batch of these examples."""

    def next_batch(self) -> Tensor:
        """The next batch."""
        return self._gather(self._draw(self.batch_size) if self.sampler is None else self._chosen(self.sampler))

    def _chosen(self, sampler: Sampler) -> np.ndarray:
        """The indices that the sampler chooses; keeps their weights."""
        drawn = sampler.checked_draw(self.batch_size)
        self.weights = None if drawn.weights is None else torch.from_numpy(drawn.weights).float()
        self._position += self.batch_size
        return drawn.indices

    def _draw(self, count: int) -> np.ndarray:
        """The next `count` indices; opens a new epoch whenever the old one is used up."""
        drawn = []
        while count > 0:
            if self._position == self.n_windows:
                self.epoch += 1
                self._position = 0
                self._order = self._permutation()
            take = self._order[self._position : self._position + count]
            drawn.append(take)
            self._position += len(take)
            count -= len(take)
        return np.concatenate(drawn)

    def _permutation(self) -> Order:
        # numpy reads (seed, epoch, 0) as (seed, epoch): stage 0 has the order of runs without stages
        return np.random.default_rng((self.seed, self.epoch, self.stage)).permutation(self.n_windows)

    @property
    def drawn(self) -> int:
        """Examples drawn so far."""
        return self.epoch * self.n_windows + self._position

    @property
    def epochs(self) -> float:
        """How often the training set has been seen so far."""
        return self.epoch + self._position / self.n_windows

    def state_dict(self) -> dict[str, Any]:
        """The place in the order, as plain values; the order itself follows from them."""
        state = {"stage": self.stage, "epoch": self.epoch, "position": self._position}
        return state if self.sampler is None else {**state, "sampler": self.sampler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a place in the order of the same data, window length, limit and seed."""
        self.stage, self.epoch, self._position = state["stage"], state["epoch"], state["position"]
        if self.sampler is not None:
            self.sampler.load_state_dict(state["sampler"])
        elif self.epoch >= 0:
            self._order = self._permutation()


class Source(ABC):
    """Data under a name. `sha256` is of all of it, `split_sha256` of what trials see, which enters their identity."""

    name: str
    sha256: str
    # Whether `unpack`, `loss` and `correct` are operations of PyTorch throughout, so that they can be compiled, and
    # batched over trials.
    traceable: ClassVar[bool] = True
    # Of a game: by player, how the names of its parameters begin. Empty: one player has them all.
    players: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    # Names of the groups that validation is scored by, besides the whole.
    groups: tuple[str, ...] = ()

    @property
    @abstractmethod
    def split_sha256(self) -> str:
        """Hash of what trials see: the same data split differently are other data to them."""

    @property
    @abstractmethod
    def shape(self) -> DataShape:
        """What a model must fit."""

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes of text that a token of the validation set stands for, on average; None where that is not known."""
        return None

    def check_repeats(self) -> None:
        """Raise UserError where what is validated on is another when it is read again; built-in data are the same."""
        return

    def sized(self, sizes: Sizes) -> Self:
        """The data as trials of these sizes see them: these, unless they depend on the sizes."""
        return self

    @abstractmethod
    def training(self, batch_size: int, seq_len: int, seed: int, stage: int = 0, limit: int = 0) -> Batches:
        """Training batches of the first `limit` tokens (all of them for 0); UserError where that is too few."""

    @abstractmethod
    def held_out(self, n_tokens: int, seq_len: int) -> Examples:
        """The fixed set to validate on, n_tokens/seq_len examples; UserError where the data has fewer."""

    def probe(self, least: int, seq_len: int, n_tokens: int = 0) -> Tensor:
        """Training windows, the same for every seed, on which the landscape's constants and the noise are measured."""
        raise UserError(f"data: {self.name!r} has no windows to probe, only texts have; set probe and noise_probe to 0")

    @abstractmethod
    def unpack(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The model's inputs and the targets of its outputs."""

    @property
    def in_training(self) -> "Source":
        """The problem as it is trained on, whose loss may be another one than what is validated; by default the same.

        Batches, inputs and targets are the same.
        """
        return self

    @property
    def form(self) -> Hashable:
        """What the loss depends on, besides type and shape of the data: a graph is compiled for each."""
        return None

    def views(self, inputs: Tensor) -> list[tuple[float, Tensor]]:
        """Inputs over whose outputs a validated prediction is the mean, with weights that sum to 1.

        By default the inputs alone.
        """
        return [(1.0, inputs)]

    @property
    def is_cross_entropy(self) -> bool:
        """Whether the loss is the mean cross-entropy of those integer targets that are not −100, over the last axis.

        Then it may be found without the outputs, in chunks (`scionlab.problems.models.chunks`), where targets have
        more than one axis: `correct` is not asked there.
        """
        return False

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over the batch, a 0-d tensor; of a game, its first player's."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Of a game: the loss of every player, 0-d, whose gradient by that player's parameters is taken."""
        raise AssertionError("losses: there are no players")

    def per_example(self, outputs: Tensor, targets: Tensor) -> PerExample:
        """Of every example its loss, and whether it is wrong; the mean of the losses is `loss`, up to rounding."""
        raise UserError(f"data: {self.name!r} has no losses of single examples, which a sampler or groups need")

    def group_of(self, targets: Tensor) -> Tensor:
        """The index in `groups` of every example, (B,) int64."""
        raise AssertionError("group_of: there are no groups")

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(G, 3), float64: of every group the losses, the right answers and the examples of a batch, summed.

        What is right is NaN where nothing is classified.
        """
        examples = self.per_example(outputs, targets)
        losses = examples.losses.double()
        right = torch.full_like(losses, torch.nan) if examples.errors is None else 1 - examples.errors.double()
        members = F.one_hot(self.group_of(targets), len(self.groups)).double()
        return (torch.stack([losses, right, torch.ones_like(losses)]) @ members).T

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """How many of the batch are classified correctly, a 0-d tensor; None where nothing is classified."""
        return None


def one_token(field: str, value: int, what: str) -> None:
    """Raise UserError unless a sequence length is 1, for data whose examples are not sequences."""
    if value != 1:
        raise UserError(f"{field}: {value} is not allowed: {what} is one token; set 1")
