"""Data of the caller's own, named as MODULE:FUNCTION.

    function("train" or "validation", batch_size, seq_len, seed) → an iterable of (inputs, targets)

Training asks for a new iterable, with another seed, when one is used up. What a batch holds is kept as the bytes of its
examples, one row each, so that it is one tensor as other data's (`scionlab.problems.data.base`). The code draws from
random states of its own (`scionlab.own.randomness`), so the same trial sees the same batches in every process.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from scionlab.errors import UserError
from scionlab.own.finding import accepts, described, find, find_function, told
from scionlab.own.hashing import code_sha256
from scionlab.own.randomness import Stream, Use
from scionlab.problems.data.base import IGNORED, DataShape, PerExample, Sizes, Source
from scionlab.problems.data.own_batches import OwnBatches
from scionlab.problems.data.packed import Form, Packing, Pair

EXAMPLE = "my_data:batches"
ARGUMENTS = ("split", "batch_size", "seq_len", "seed")
# Validation examples are asked for in batches of about so many tokens.
VALIDATION_TOKENS = 2**11
# Training batches that enter the data's identity.
HASHED_BATCHES = 2


def own_data(name: str) -> Source:
    """The data that `name` says: a function's, or a `Source` of the caller's, or one that a function makes.

    Raises UserError where it is none of them.
    """
    module, found = find("data", name, "MODULE:FUNCTION", EXAMPLE)
    if callable(found) and not isinstance(found, Source) and accepts(found) and not accepts(found, *ARGUMENTS):
        try:
            found = found()
        except Exception as error:
            raise UserError(f"data: {name!r} raised {told(error, module)}") from error
        if not isinstance(found, Source):
            raise UserError(
                f"data: {name!r} takes no arguments and returned {described(found)}; it must be called as "
                f"{name.partition(':')[2]}({', '.join(ARGUMENTS)}), or return a scionlab.problems.data.Source"
            )
    if isinstance(found, Source):
        return found
    return OwnData(name, *find_function("data", name, EXAMPLE, *ARGUMENTS))


@dataclass(frozen=True)
class Held:
    """A validation set as it was read, and the form of its examples."""

    rows: Tensor
    form: Form


@dataclass(frozen=True, eq=False)
class OwnData(Source):
    """Batches from a function of the caller's. What depends on sizes, as hashes and shape, needs `sized`.

    `loss` is the attribute of that name of the function, else of its module, else the cross-entropy of targets that are
    integers, over the last axis of the outputs, and the mean squared error of others.
    """

    traceable: ClassVar[bool] = False  # the loss may be the caller's

    name: str
    module: ModuleType
    function: Callable[..., Any]
    sizes: Sizes | None = None
    # Validation sets by n_tokens and seq_len, shared by the data of all sizes: a loader may take minutes.
    held: dict[tuple[int, int], Held] = field(default_factory=dict)
    repeated: set[tuple[int, int]] = field(default_factory=set)  # those that were read twice and were the same

    @cached_property
    def packing(self) -> Packing:
        """How batches are kept as one tensor."""
        return Packing(self.name)

    def sized(self, sizes: Sizes) -> "OwnData":
        """The same function's data as trials of these sizes see them; what is validated on is read once for all."""
        return OwnData(self.name, self.module, self.function, sizes, self.held, self.repeated)

    @property
    def known_sizes(self) -> Sizes:
        """The sizes that were given; UserError where none were."""
        if self.sizes is None:
            raise UserError(f"data: {self.name!r} depends on the trial; ask scionlab.training.prepare.data_of for it")
        return self.sizes

    @cached_property
    def sha256(self) -> str:  # type: ignore[override]  # it takes reading, so it is found when asked for
        """Hash of the function's code and of the validation set."""
        sizes = self.known_sizes
        digest = hashlib.sha256(code_sha256(self.module.__name__).encode())
        digest.update(self.held_out(sizes.val_tokens, sizes.val_seq_len).numpy().data)
        return digest.hexdigest()

    def check_repeats(self) -> None:
        """UserError unless the validation set comes again when it is asked for again; each is, once in a process."""
        key = self.known_sizes.val_tokens, self.known_sizes.val_seq_len
        if key not in self.repeated and not torch.equal(self.held_out(*key), self._read(*key)):
            raise UserError(
                f"data: {self.name!r} gave another validation set when it was called again; it must give the same "
                "examples whenever it is called with the same arguments"
            )
        self.repeated.add(key)

    @cached_property
    def split_sha256(self) -> str:
        """Hash of `sha256` and of the first training batches of seed 0."""
        sizes = self.known_sizes
        digest = hashlib.sha256(self.sha256.encode())
        with self._asked():
            batches = self.training(sizes.batch_size, sizes.seq_len, 0)
            for _ in range(HASHED_BATCHES):
                digest.update(batches.next_batch().numpy().data)
        return digest.hexdigest()

    @cached_property
    def shape(self) -> DataShape:
        """A text where the inputs are integers, else an image; how many outputs, where the function says so."""
        sizes = self.known_sizes
        inputs = self.unpack(self.held_out(sizes.val_tokens, sizes.val_seq_len)[:1])[0]
        n_outputs = self._attribute("n_outputs") or 0
        if not isinstance(n_outputs, int) or n_outputs < 0:
            raise UserError(
                f"data: n_outputs of {self.name!r} is {described(n_outputs)}; it must be a number of outputs"
            )
        if inputs.is_floating_point():
            return DataShape("image", n_outputs, tuple(inputs.shape[1:]), example=inputs)
        return DataShape("text", n_outputs, example=inputs)

    def training(self, batch_size: int, seq_len: int, seed: int, stage: int = 0, limit: int = 0) -> "OwnBatches":
        """The function's training batches."""
        if limit:
            raise UserError(
                f"train_limit: {limit} is not allowed: data {self.name!r} are the function's own to limit; set 0"
            )
        return OwnBatches(self.open, self.packing, batch_size, seq_len, seed, stage)

    def held_out(self, n_tokens: int, seq_len: int) -> Tensor:
        """The first n_tokens/seq_len validation examples."""
        key = n_tokens, seq_len
        if key not in self.held:
            rows = self._read(n_tokens, seq_len)
            self.held[key] = Held(rows, self.packing.forms[seq_len])
        self.packing.expect(seq_len, self.held[key].form)
        return self.held[key].rows

    def probe(self, least: int, seq_len: int, n_tokens: int = 0) -> Tensor:
        """Not known of a function."""
        raise UserError(
            f"data: {self.name!r}, a function that gives batches, has no windows to probe; set probe and noise_probe "
            "to 0, or let it return a scionlab.problems.data.Source that has"
        )

    def _read(self, n_tokens: int, seq_len: int) -> Tensor:
        count = n_tokens // seq_len
        size = min(count, max(1, VALIDATION_TOKENS // seq_len))
        rows, found = [], 0
        stream = Stream(Use.VALIDATION_DATA)
        with self._asked():
            with stream.entered():
                items = iter(self.open("validation", size, seq_len, 0))
            while found < count:
                with stream.entered():
                    item = next(items, None)
                if item is None:
                    raise UserError(
                        f"data: {self.name!r} gave {found} validation examples, too few for val_tokens {n_tokens} of "
                        f"val_seq_len {seq_len}; give more, or fewer validation tokens"
                    )
                rows.append(self.packing.pack(item, seq_len))
                found += len(rows[-1])
        return torch.cat(rows)[:count]

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """What the caller's code raises in this block becomes a sentence."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"data: {self.name!r} raised {told(error, self.module)}") from error

    def open(self, split: str, batch_size: int, seq_len: int, seed: int) -> Any:
        """What the function returns, an iterable."""
        items = self.function(split, batch_size, seq_len, seed)
        if not hasattr(items, "__iter__") or isinstance(items, (Tensor, str, Mapping)):
            raise UserError(
                f"data: {self.name!r} returned {described(items)}; it must return an iterable of (inputs, targets)"
            )
        return items

    def unpack(self, batch: Tensor) -> Pair:
        """Inputs and targets as the function gave them."""
        return self.packing.unpack(batch)

    def _attribute(self, name: str) -> Any:
        return getattr(self.function, name, None) or getattr(self.module, name, None)

    @cached_property
    def own_loss(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """The caller's loss, if there is one."""
        found = self._attribute("loss")
        if found is not None and not (callable(found) and accepts(found, "outputs", "targets")):
            raise UserError(f"data: the loss of {self.name!r} is {described(found)}; it must be loss(outputs, targets)")
        return None if found is None else found

    @property
    def is_cross_entropy(self) -> bool:
        """Of integer targets, unless the caller has a loss."""
        return self.own_loss is None

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The caller's loss, else cross-entropy in nats or mean squared error."""
        if self.own_loss is not None:
            return self.own_loss(outputs, targets)
        real = targets.is_floating_point()
        if (outputs.shape if real else outputs.shape[:-1]) != targets.shape:
            fitting = "the same shape" if real else f"shape {(*targets.shape, 'classes')}".replace("'", "")
            raise UserError(
                f"the outputs have shape {tuple(outputs.shape)}; for targets of shape {tuple(targets.shape)} and "
                f"{targets.dtype} they must have {fitting}, or the data a loss(outputs, targets) of its own"
            )
        if real:
            return F.mse_loss(outputs.float(), targets.float())
        return F.cross_entropy(outputs.float().flatten(0, -2), targets.flatten().long(), ignore_index=IGNORED)

    def per_example(self, outputs: Tensor, targets: Tensor) -> PerExample:
        """Of every example the mean over its targets that count; UserError where the caller has a loss of batches."""
        if self.own_loss is not None:
            return super().per_example(outputs, targets)
        if targets.is_floating_point():
            return PerExample((outputs.float() - targets.float()).square().flatten(1).mean(1))
        classes = targets.long().flatten()
        each = F.cross_entropy(outputs.float().flatten(0, -2), classes, ignore_index=IGNORED, reduction="none")
        counted = (targets != IGNORED).reshape(len(targets), -1)
        losses = each.view(len(targets), -1).sum(1) / counted.sum(1).clamp(min=1)
        wrong = None if targets.ndim != 1 else (outputs.argmax(dim=-1) != targets).double()
        return PerExample(losses, wrong)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """How many have their largest output at their class, where every example has one class."""
        if self.own_loss is not None or targets.ndim != 1 or targets.is_floating_point():
            return None
        return (outputs.argmax(dim=-1) == targets).sum()
