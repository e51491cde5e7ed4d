"""Images of a folder, one sub-folder a class, read when they are needed: the whole need not fit into memory.

    folder:PATH,size=224      PATH/train/CLASS/*.jpg      PATH/val/CLASS/*.jpg

What is trained on is resized so that it just covers a square of `size` pixels a side, and its middle is cut out; with
crop=random a random part of it is resized to that square. What is validated on covers a square larger by 8/7, of which
the middle is cut out, as DeiT's. Both in bicubic interpolation, by Pillow, in as many threads as the process has cores:
what they give does not depend on that. Pixels are standardized by the means and deviations usual for ImageNet.

The identity of the data are the names of the files and their sizes, not what is in them.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from scionlab.errors import UserError
from scionlab.problems.data.augment import CROPPING, RANDOM_CHANGES, patch_moments, random_box
from scionlab.problems.data.base import DataShape, one_token
from scionlab.problems.data.image_problem import Draws, ImageBatches, ImageOptions, ImageProblem, with_options
from scionlab.problems.data.images import SHUFFLE_SEED, WHAT
from scionlab.problems.data.rand_augment import rand_augmented

FORM = "it must be a folder that holds train and val, each with a folder of images for every class"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm")
# Of ImageNet, by channel, of pixels from 0 to 1.
MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VALIDATION_CROP = 0.875  # DeiT's
# Validation is scored by class where there are at most so many.
MOST_GROUPS = 100
THREADS = 16


class FolderOptions(ImageOptions):
    """Those of images in a folder.

    size: of the square that they are brought to, in pixels a side.
    crop: which part of a training image that is of.
    randaugment: magnitude of `scionlab.problems.data.rand_augment`, up to 10; 0: no such changes.
    repeat: how often an image comes in a row, changed anew each time.
    """

    size: int = Field(default=224, ge=8, le=1024)
    crop: Literal["middle", "random"] = "middle"
    randaugment: float = Field(default=0.0, ge=0, le=10)
    repeat: int = Field(default=1, ge=1, le=16)


@dataclass(frozen=True, eq=False)
class Files:
    """Paths of images, relative to `root`, their classes (N,) and sizes (N,) in bytes."""

    root: Path
    paths: tuple[str, ...]
    labels: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def opened(self, index: int) -> Image.Image:
        """The image with three channels. UserError where it cannot be read."""
        path = self.root / self.paths[index]
        try:
            with Image.open(path) as image:
                return image.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"data: image {str(path)!r} cannot be read: {error}") from None

    def shuffled(self) -> "Files":
        """In an order that has nothing to do with their names; no seed enters."""
        order = np.random.default_rng(SHUFFLE_SEED).permutation(len(self))
        return Files(self.root, tuple(self.paths[i] for i in order), self.labels[order], self.sizes[order])


@dataclass(frozen=True, eq=False)
class Folder(ImageProblem):
    """Training and validation images in files, and the names of their classes in order."""

    name: str
    classes: tuple[str, ...]
    train: Files
    validation: Files
    options: FolderOptions
    trains: bool = False

    @property
    def groups(self) -> tuple[str, ...]:  # type: ignore[override]
        """The classes, where there are not too many."""
        return self.classes if len(self.classes) <= MOST_GROUPS else ()

    @cached_property
    def sha256(self) -> str:  # type: ignore[override]
        """Hash of names and sizes of the files."""
        digest = hashlib.sha256(" ".join(self.classes).encode())
        for part in (self.train, self.validation):
            for path, size in zip(part.paths, part.sizes.tolist(), strict=True):
                digest.update(f"{path} {size}\n".encode())
        return digest.hexdigest()

    @cached_property
    def split_sha256(self) -> str:
        """The same, and the options."""
        return self.optioned(self.sha256)

    @property
    def shape(self) -> DataShape:
        """Images (3, size, size)."""
        size = self.options.size
        return DataShape("image", len(self.classes), (3, size, size), patches=self.patches)

    @property
    def labels(self) -> np.ndarray:
        """The training images' classes."""
        return self.train.labels

    def training_pixels(self, indices: np.ndarray, draws: Draws) -> np.ndarray:
        """Squares of training images."""

        def one(place: int) -> np.ndarray:
            image, size = self.train.opened(int(indices[place])), self.options.size
            if self.options.crop == "middle":
                square = middle(image, size, size)
            else:
                top, left, high, wide = random_box(image.height, image.width, draws.generator(place, CROPPING))
                part = image.crop((left, top, left + wide, top + high))
                square = part.resize((size, size), Image.Resampling.BICUBIC)
            if self.options.randaugment:
                generator = draws.generator(place, RANDOM_CHANGES)
                square = rand_augmented(square, self.options.randaugment, generator)
            return _bytes(square)

        return self._together(one, range(len(indices)))

    def validation_pixels(self, indices: Iterable[int]) -> np.ndarray:
        """Squares of validation images."""
        size = self.options.size
        side = int(size / VALIDATION_CROP)
        return self._together(lambda index: _bytes(middle(self.validation.opened(index), side, size)), indices)

    def standardized(self, pixels: np.ndarray) -> np.ndarray:
        """Bytes (B, 3, H, W) by the means and deviations of ImageNet."""
        levels = (np.arange(256) / 255 - np.array(MEANS)[:, None]) / np.array(DEVIATIONS)[:, None]
        found: np.ndarray = levels.astype(np.float32)[np.arange(3)[:, None, None], pixels]
        return found

    def training(self, batch_size: int, seq_len: int, seed: int, stage: int = 0, limit: int = 0) -> ImageBatches:
        """Batches of the first `limit` training images, 0 for all."""
        one_token("seq_len", seq_len, WHAT)
        return ImageBatches(self, batch_size, seed, stage, limit, self.options.repeat)

    def held_out(self, n_tokens: int, seq_len: int) -> "HeldOut":
        """The first `n_tokens` validation images, which are read when they are asked for."""
        one_token("val_seq_len", seq_len, WHAT)
        if n_tokens > len(self.validation):
            raise UserError(
                f"data: {self.name!r} has {len(self.validation)} validation images, too few for val_tokens {n_tokens}; "
                "give fewer validation tokens"
            )
        return HeldOut(self, range(n_tokens))

    def patches(self, kernel: int, count: int) -> Tensor:
        """E[x xᵀ] of the kernel × kernel patches x of the middles of the first `count` training images."""
        with torch.device("cpu"):
            size, indices = self.options.size, range(min(count, len(self.train)))
            pixels = self._together(lambda index: _bytes(middle(self.train.opened(index), size, size)), indices)
            return patch_moments(torch.from_numpy(self.standardized(pixels)), kernel)

    def _together(self, read: Callable[[int], np.ndarray], indices: Iterable[int]) -> np.ndarray:
        return np.stack(list(self._threads.map(read, indices)))

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1), "images")


@dataclass(frozen=True)
class HeldOut:
    """Validation images in place of the tensor of their rows: parts are read when they are asked for, and not kept."""

    folder: Folder
    indices: range

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, part: slice) -> Tensor:
        indices = self.indices[part]
        return self.folder.rows(self.folder.validation_pixels(indices), self.folder.validation.labels[list(indices)])

    def split(self, size: int) -> Iterator[Tensor]:
        """Rows of `size` images at a time."""
        return (self[begin : begin + size] for begin in range(0, len(self), size))


def middle(image: Image.Image, side: int, size: int) -> Image.Image:
    """Resized to `side` pixels on its shorter side, the square of `size` in its middle."""
    short = min(image.size)
    wide, high = (side if edge == short else max(side, int(side * edge / short)) for edge in image.size)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    resized = image.resize((wide, high), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size))


def _bytes(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


def image_folder(argument: str) -> Folder:
    """The source called `folder:PATH`, with options after commas. UserError where there is no such folder of images."""
    name = f"folder:{argument}"
    path, options = with_options(argument, FolderOptions)
    root = Path(os.path.expanduser(path))
    train, classes = _listed(name, root, "train", None)
    validation, _ = _listed(name, root, "val", classes)
    return Folder(name, tuple(classes), train.shuffled(), validation.shuffled(), options)


def _listed(name: str, root: Path, split: str, known: Sequence[str] | None) -> tuple[Files, list[str]]:
    """The images of a split, and its classes; `known` are those of the other, which must be the same."""
    try:
        classes = sorted(entry.name for entry in os.scandir(root / split) if entry.is_dir())
        if known is not None and classes != list(known):
            odd = sorted(set(classes) ^ set(known))
            raise UserError(
                f"data: {name!r} is not allowed: train and val must have folders of the same classes, and "
                f"{odd[0]!r} is in one of them only"
            )
        if len(classes) < 2:
            raise UserError(
                f"data: {name!r} is not allowed: {split} has {len(classes)} folders of classes, and two are the least"
            )
        paths, labels, sizes = [], [], []
        for label, of_class in enumerate(classes):
            entries = sorted(os.scandir(root / split / of_class), key=lambda entry: entry.name)
            images = [entry for entry in entries if entry.name.lower().endswith(SUFFIXES)]
            if not images:
                raise UserError(
                    f"data: {name!r} is not allowed: {split}/{of_class} has no image, a file that ends in "
                    f"{', '.join(SUFFIXES)}"
                )
            paths += [f"{split}/{of_class}/{entry.name}" for entry in images]
            sizes += [entry.stat().st_size for entry in images]
            labels += [label] * len(images)
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"data: {name!r} cannot be read: {split}: {reason}; {FORM}") from None
    return Files(root, tuple(paths), np.array(labels), np.array(sizes)), classes
