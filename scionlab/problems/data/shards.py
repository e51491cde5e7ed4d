"""Tokenized text in files that may be larger than memory: `tokens:MANIFEST`, `tokens:FOLDER` or `tokens:GLOB`.

A window of S tokens is S inputs and their S next tokens, S + 1 tokens of one file; windows start every S tokens. Files
are mapped for one batch at a time, and the order of an epoch is computed (`order`), so memory does not depend on how
many tokens there are. Without a manifest, one is made of the files' headers and sizes, and of blocks of them.
"""

import glob
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scionlab.errors import UserError, unknown
from scionlab.problems.data.base import DataShape, Order, ShuffledBatches
from scionlab.problems.data.manifest import NAME, SAMPLED, Manifest, Shard, Split, padded, read_manifest
from scionlab.problems.data.order import Permutation, permutation
from scionlab.problems.data.shard_files import TYPES, ShardFile, detected, looks_like_uint32
from scionlab.problems.data.windows import LIMIT_SEED, PROBE_SEED, NextToken

OPTIONS = ("dtype", "vocabulary", "multiple")
VALIDATION = "val"  # part of the names of files that are validated on, as in both projects


class Windows:
    """All windows of `seq_len` tokens of some files, in their order. UserError for a token beyond the vocabulary."""

    def __init__(self, files: Sequence[ShardFile], seq_len: int, vocabulary: int) -> None:
        self.files, self.seq_len, self.vocabulary = files, seq_len, vocabulary
        self._ends = np.cumsum([(file.tokens - 1) // seq_len for file in files])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def take(self, numbers: np.ndarray) -> Tensor:
        """The windows of these numbers, (N, S + 1), int64."""
        which = np.searchsorted(self._ends, numbers, side="right")
        before = np.concatenate(([0], self._ends))[which]
        places = ((numbers - before) * self.seq_len)[:, None] + np.arange(self.seq_len + 1)
        found = np.empty(places.shape, dtype=np.int64)
        for index in np.unique(which).tolist():
            rows, file = which == index, self.files[index]
            tokens = file.view()[places[rows]]
            file.refuse_beyond(tokens, self.vocabulary)
            found[rows] = tokens
        return torch.from_numpy(found)


class ShardBatches(ShuffledBatches):
    """Batches (B, S + 1), int64, without replacement within an epoch, in an order that follows from its number.

    With a `limit`, windows of so many tokens are drawn, chosen at random from all files, once and for all seeds.
    """

    def __init__(self, windows: Windows, batch_size: int, seed: int, stage: int, limit: int) -> None:
        self.windows, n_windows = windows, len(windows)
        if 0 < limit < windows.seq_len:
            raise UserError(
                f"train_limit: {limit} is not allowed: it is less than one window of seq_len {windows.seq_len}"
            )
        self.chosen: Permutation | None = None
        if limit and limit // windows.seq_len < n_windows:
            self.chosen = Permutation(n_windows, (LIMIT_SEED,))
            n_windows = limit // windows.seq_len
        super().__init__(n_windows, batch_size, windows.seq_len, seed, stage)

    def _permutation(self) -> Order:
        return permutation(self.n_windows, (self.seed, self.epoch, self.stage))

    def _gather(self, indices: np.ndarray) -> Tensor:
        return self.windows.take(indices if self.chosen is None else self.chosen.at(indices))


class TokenShards(NextToken):
    """The shards of a manifest that lies in `folder`. Batches are windows (B, S + 1), int64.

    The loss is the mean cross-entropy of the next token, in nats. Raises UserError where a file is missing, or has
    another size than the manifest says.
    """

    def __init__(self, name: str, manifest: Manifest, folder: Path) -> None:
        self.name, self.manifest, self.sha256 = name, manifest, manifest.sha256
        self.vocabulary = manifest.vocabulary
        self.train, self.validation = (manifest.files(split, folder) for split in (manifest.train, manifest.val))

    @property
    def split_sha256(self) -> str:
        """The manifest's hash: it says which files are validated on."""
        return self.sha256

    @property
    def shape(self) -> DataShape:
        """A text of so many tokens as the padded vocabulary has."""
        return DataShape("text", self.manifest.padded)

    @cached_property
    def bytes_per_token(self) -> float | None:
        """Of the whole validation set, where the manifest knows its bytes."""
        split = self.manifest.val
        return None if split.text_bytes is None else split.text_bytes / split.tokens

    def training(self, batch_size: int, seq_len: int, seed: int, stage: int = 0, limit: int = 0) -> ShardBatches:
        """Training windows of `limit` tokens, 0 for all."""
        windows = self._windows(self.train, seq_len, 1, "training", "one window")
        return ShardBatches(windows, batch_size, seed, stage, limit)

    def held_out(self, n_tokens: int, seq_len: int) -> Tensor:
        """Windows spread evenly over the validation files."""
        count = n_tokens // seq_len
        windows = self._windows(self.validation, seq_len, count, "validation", f"val_tokens {n_tokens}")
        return windows.take(np.arange(count, dtype=np.int64) * len(windows) // count)

    def probe(self, least: int, seq_len: int, n_tokens: int = 0) -> Tensor:
        """Different training windows, the same for every seed."""
        windows = self._windows(self.train, seq_len, least, "training", f"a probe of {least} windows")
        count = max(least, min(len(windows), n_tokens // seq_len))
        return windows.take(Permutation(len(windows), (PROBE_SEED,))[:count])

    def _windows(self, files: Sequence[ShardFile], seq_len: int, least: int, which: str, what: str) -> Windows:
        windows = Windows(files, seq_len, self.vocabulary)
        if len(windows) < least:
            tokens = sum(file.tokens for file in files)
            held = f"{tokens:,} {which} tokens ({len(windows)} windows of {seq_len} within a file)"
            raise UserError(f"data: {self.name!r} has {held}, too few for {what}")
        return windows

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the next token, in nats; `outputs` are logits (B, S, V), V not below the vocabulary."""
        if outputs.shape[-1] < self.vocabulary:
            raise UserError(
                f"the model tells {outputs.shape[-1]} tokens apart, but the vocabulary of data {self.name!r} has "
                f"{self.vocabulary} (padded: {self.manifest.padded})"
            )
        return super().loss(outputs, targets)


def token_shards(argument: str) -> TokenShards:
    """What `tokens:ARGUMENT` names: a manifest, a folder that has one, or files by a glob, with options after commas.

    Options are `dtype`, `vocabulary` and `multiple`, as in `tokens:data/*.bin,vocabulary=50257,multiple=128`; a
    manifest takes none. UserError where there is nothing that can be read.
    """
    name = f"tokens:{argument}"
    pattern, options = _parsed(name, argument)
    path = Path(os.path.expanduser(pattern))
    if path.is_dir() and (path / NAME).exists():
        path = path / NAME
    if path.suffix == ".json":
        if options:
            raise UserError(f"data: {name!r} is not allowed: a manifest takes no options, it says all of them itself")
        return TokenShards(name, read_manifest(path), path.parent)
    folder, pattern = (path, "*.bin") if path.is_dir() else (Path(), str(path))
    paths = [folder / found for found in sorted(glob.glob(pattern, root_dir=folder, recursive=True))]
    paths = [found for found in paths if not found.is_dir()]
    if not paths:
        raise UserError(f"data: {name!r} names no file; give a manifest, a folder with one, or a glob of .bin files")
    return TokenShards(name, derived(name, paths, options), Path())


def _parsed(name: str, argument: str) -> tuple[str, dict[str, str]]:
    """The path, and the options behind it."""
    pattern, options = argument, dict[str, str]()
    while found := re.fullmatch(r"(.+),(\w+)=(\w+)", pattern):
        pattern, key, value = found.groups()
        if key not in OPTIONS:
            raise unknown(f"data: option of {name!r}", key, OPTIONS)
        options[key] = value
    return pattern, options


def derived(name: str, paths: Sequence[Path], options: Mapping[str, str]) -> Manifest:
    """The manifest of files that have none: those with `val` in their names are validated on.

    Their hashes are of blocks (`ShardFile.sampled`). UserError where files are not alike, no vocabulary is known, a
    split is missing, or a token of the blocks is beyond the vocabulary.
    """
    dtype = options.get("dtype")
    if dtype not in (None, *TYPES):
        raise unknown(f"data: dtype of {name!r}", str(dtype), TYPES)
    found = [detected(path, dtype) for path in paths]
    (first, known), files = found[0], [file for file, _ in found]
    for other, header in found:
        if (other.dtype, header) != (first.dtype, known):
            raise UserError(
                f"data: {name!r} names files of two kinds, such as {str(first.path)!r} and {str(other.path)!r}: "
                "headers and types must be the same"
            )
    vocabulary = _whole(name, "vocabulary", options, known or 0)
    if not vocabulary:
        raise UserError(
            f"data: {name!r} has no manifest, and its files do not say how many tokens there are; say it behind the "
            "name, as in ',vocabulary=50257'"
        )
    held_out = [VALIDATION in file.path.name for file in files]
    if all(held_out) or not any(held_out):
        missing = "training" if all(held_out) else "validation"
        raise UserError(
            f"data: {name!r} has no manifest, and no file for {missing}: files with {VALIDATION!r} in their names are "
            "validated on, the others trained on"
        )
    shards = [_sampled(name, file, vocabulary) for file in files]
    train, val = (
        Split(files=tuple(shard for shard, held in zip(shards, held_out, strict=True) if held == wanted))
        for wanted in (False, True)
    )
    multiple = _whole(name, "multiple", options, 1)
    made = {"dtype": first.dtype, "vocabulary": vocabulary, "padded": padded(vocabulary, multiple)}
    return Manifest.model_validate({**made, "train": train, "val": val})


def _sampled(name: str, file: ShardFile, vocabulary: int) -> Shard:
    digest, seen = file.sampled()
    if file.dtype == "uint16" and not file.header_bytes and looks_like_uint32(seen):
        raise UserError(
            f"data: {str(file.path)!r} looks like uint32, but is read as uint16: say dtype=uint32 behind {name!r}"
        )
    file.refuse_beyond(seen, vocabulary)
    known = {"name": str(file.path), "tokens": file.tokens, "header_bytes": file.header_bytes}
    return Shard(**known, sha256=SAMPLED + digest)  # type: ignore[arg-type]


def _whole(name: str, option: str, options: Mapping[str, str], default: int) -> int:
    text = options.get(option, str(default))
    if not text.isdecimal() or (option in options and not 0 < int(text) <= 2**32):
        raise UserError(f"data: {option}={text} of {name!r} is not allowed; it must be a whole number above 0")
    return int(text)
