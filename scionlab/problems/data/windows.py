"""A text and its windows of bytes: training windows without replacement within an epoch, fixed sets to validate and
to probe on.

A window of S tokens is S inputs and their S next bytes, so it spans S + 1 bytes; training windows start every S bytes
and share only that one byte.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scionlab.errors import UserError
from scionlab.problems.data.base import DataShape, PerExample, ShuffledBatches, Source

VOCAB_SIZE = 256
# The probe's windows have a seed of their own, beyond those of trials: they are the same whatever a trial's seed.
PROBE_SEED = 2**31
LIMIT_SEED = 2**31 + 1
LIMIT_VERSION = 2  # part of the identity of trials with a limit. 1: a text's beginning; 2: windows at random


class NextToken(Source):
    """A text whose batches are windows (B, S + 1), int64: the loss is the mean cross-entropy of the next token."""

    def unpack(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and their next tokens, each (B, S)."""
        return batch[:, :-1], batch[:, 1:]

    @property
    def is_cross_entropy(self) -> bool:
        """It is."""
        return True

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the next token, in nats; `outputs` are logits (B, S, V)."""
        return F.cross_entropy(outputs.float().flatten(0, 1), targets.flatten())

    def per_example(self, outputs: Tensor, targets: Tensor) -> PerExample:
        """Every window's mean cross-entropy."""
        return PerExample(F.cross_entropy(outputs.float().transpose(1, 2), targets, reduction="none").mean(1))


@dataclass(frozen=True)
class Corpus(NextToken):
    """Training and validation text; `sha256` is of all documents in order, joined by blank lines.

    Batches are windows (B, S + 1), int64; the loss is the mean cross-entropy of the next byte.
    """

    name: str
    sha256: str
    train: bytes
    validation: bytes

    @cached_property
    def split_sha256(self) -> str:
        """Hash of what trials see: the same bytes split differently are another corpus to them."""
        parts = (hashlib.sha256(text).digest() for text in (self.train, self.validation))
        return hashlib.sha256(b"".join(parts)).hexdigest()

    @property
    def shape(self) -> DataShape:
        """256 bytes to predict."""
        return DataShape("text", VOCAB_SIZE)

    @property
    def bytes_per_token(self) -> float:
        """1: a token is a byte."""
        return 1.0

    def training(self, batch_size: int, seq_len: int, seed: int, stage: int = 0, limit: int = 0) -> "TrainingWindows":
        """Training windows of `limit` tokens of the text, 0 for all."""
        return TrainingWindows(self, batch_size, seq_len, seed, stage, limit)

    def held_out(self, n_tokens: int, seq_len: int) -> Tensor:
        """Windows of the validation text."""
        return validation_windows(self, n_tokens, seq_len)

    def probe(self, least: int, seq_len: int, n_tokens: int = 0) -> Tensor:
        """Windows of the training text, the same for every seed."""
        return probe_windows(self, least, seq_len, n_tokens)


class TrainingWindows(ShuffledBatches):
    """Batches of shape (B, S + 1), int64, in an order drawn anew for every epoch from (seed, epoch, stage).

    Holds the text and one permutation of its windows: memory does not depend on the number of batches drawn.
    `batch_size` may be changed at any time, and the order goes on. Windows of another length are another object, with
    the number of the training stage as `stage`: its order has nothing to do with the earlier one, so text that was seen
    may come again before the rest. With a `limit`, only windows of so many tokens are drawn: chosen at random from the
    whole text, once and for all seeds, as its beginning may be of another kind than the rest. Raises UserError for a
    text or a limit too short for one window.
    """

    def __init__(
        self, corpus: Corpus, batch_size: int, seq_len: int, seed: int, stage: int = 0, limit: int = 0
    ) -> None:
        self.text = np.frombuffer(corpus.train, dtype=np.uint8)
        n_windows = (len(self.text) - 1) // seq_len
        if n_windows < 1:
            raise UserError(
                f"data: {corpus.name!r} has {len(self.text)} training bytes, too short for one window of "
                f"seq_len {seq_len}"
            )
        if 0 < limit < seq_len:
            raise UserError(f"train_limit: {limit} is not allowed: it is less than one window of seq_len {seq_len}")
        self.chosen: np.ndarray | None = None
        if limit and limit // seq_len < n_windows:
            self.chosen = np.random.default_rng(LIMIT_SEED).permutation(n_windows)[: limit // seq_len]
            n_windows = len(self.chosen)
        super().__init__(n_windows, batch_size, seq_len, seed, stage)

    def _gather(self, indices: np.ndarray) -> Tensor:
        if self.chosen is not None:
            indices = self.chosen[indices]
        return _gather(self.text, indices * self.seq_len, self.seq_len)


def validation_windows(corpus: Corpus, n_tokens: int, seq_len: int) -> Tensor:
    """n_tokens/seq_len windows spread evenly over the validation documents, (N, S + 1), int64; no seed enters."""
    text = np.frombuffer(corpus.validation, dtype=np.uint8)
    count = n_tokens // seq_len
    available = (len(text) - 1) // seq_len
    if count > available:
        raise UserError(
            f"data: {corpus.name!r} has {len(text)} validation bytes ({available} windows of {seq_len}), too short for "
            f"val_tokens {n_tokens}; give more text or fewer validation tokens"
        )
    starts = (np.arange(count, dtype=np.int64) * available // count) * seq_len
    return _gather(text, starts, seq_len)


def probe_windows(corpus: Corpus, least: int, seq_len: int, n_tokens: int = 0) -> Tensor:
    """Different training windows drawn once and for all, (N, S + 1), int64; no trial's seed enters.

    N is n_tokens/seq_len, or as many as the text has, and not below `least`.
    """
    text = np.frombuffer(corpus.train, dtype=np.uint8)
    available = (len(text) - 1) // seq_len
    if least > available:
        raise UserError(
            f"data: {corpus.name!r} has {len(text)} training bytes ({available} windows of {seq_len}), too short for a "
            f"probe of {least} windows; give more text, or set probe and noise_probe to 0"
        )
    count = max(least, min(available, n_tokens // seq_len))
    starts = np.random.default_rng(PROBE_SEED).choice(available, count, replace=False) * seq_len
    return _gather(text, starts, seq_len)


def _gather(text: np.ndarray, starts: np.ndarray, seq_len: int) -> Tensor:
    return torch.from_numpy(text[starts[:, None] + np.arange(seq_len + 1)].astype(np.int64))
