"""What all sources of labelled images share: their options, their batches, and what is lost and scored on classes.

Options stand behind a source's name, as in `cifar10:data/cifar-10,flip=alternating,translate=2,smoothing=0.2,views=6`,
and are part of the identity of its trials. The loss is the cross-entropy of the class; what is trained on may be a
smoothed label, or that of an image mixed with another, what is validated on never is.

Batches are (B, C·H·W + 1), float32: standardized pixels, and the label in the last column. Where images are mixed there
are three columns in its place: the label, that of the image mixed in, and the share of the first.
"""

import hashlib
import re
from abc import abstractmethod
from collections.abc import Hashable
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from scionlab.errors import from_validation, unknown
from scionlab.problems.data import augment
from scionlab.problems.data.base import PerExample, ShuffledBatches, Source

# A part of the identity of data with options: raise it when a change to the code changes what these do.
VERSION = 1


class ImageOptions(BaseModel):
    """What is done to images besides reading them; by default nothing.

    flip, translate, erase, mixup, cutmix: to those that are trained on, `scionlab.problems.data.augment`.
    smoothing: share of a label, in training, that all classes get alike.
    views: of an image, over which its logits are averaged in validation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: Literal["no", "random", "alternating"] = "no"
    translate: int = Field(default=0, ge=0, le=16)
    erase: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0, le=100)
    cutmix: float = Field(default=0.0, ge=0, le=100)
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    views: Literal[1, 2, 6] = 1

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with each other."""
        return bool(self.mixup or self.cutmix)

    @property
    def text(self) -> str:
        """Those that are not at their defaults, in one order; empty if all are."""
        given = self.model_dump(exclude_defaults=True)
        return ",".join(f"{name}={given[name]}" for name in sorted(given))


Options = TypeVar("Options", bound=ImageOptions)


def with_options(data: str, kind: type[Options]) -> tuple[str, Options]:
    """A source's name without its options, and these. UserError for one that is not known or out of its range."""
    name, given = data, dict[str, Any]()
    while found := re.fullmatch(r"(.+),(\w+)=([\w.]+)", name):
        name, option, value = found.groups()
        if option not in kind.model_fields:
            raise unknown(f"data: option of {data!r}", option, kind.model_fields)
        given[option] = int(value) if value.isdecimal() else value
    try:
        return name, kind(**given)
    except ValidationError as error:
        raise from_validation(error, where=f"data: option of {data!r}: ") from None


class ImageProblem(Source):
    """Images and their classes. `trains` says whether the loss in use is that of training."""

    options: ImageOptions
    trains: bool

    @property
    @abstractmethod
    def labels(self) -> np.ndarray:
        """The classes of all training images, (N,) integers."""

    @abstractmethod
    def training_pixels(self, indices: np.ndarray, draws: "Draws") -> np.ndarray:
        """Of training images the bytes (B, C, H, W), at draws of these numbers."""

    @abstractmethod
    def standardized(self, pixels: np.ndarray) -> np.ndarray:
        """Bytes (B, C, H, W) as float32 of about mean 0 and deviation 1, a copy."""

    @cached_property
    def in_training(self) -> Self:
        """The problem with the labels of training."""
        other = bool(self.options.smoothing) or self.options.mixes
        return replace(self, trains=True) if other else self  # type: ignore[type-var]

    @property
    def form(self) -> Hashable:
        """Columns of labels, and how they are read."""
        return self.trains, self.options.smoothing, self.options.mixes

    @property
    def smoothing(self) -> float:
        """That of the loss in use."""
        return self.options.smoothing if self.trains else 0.0

    def optioned(self, sha256: str) -> str:
        """The hash of what trials see, from that of the images and the options."""
        text = self.options.text
        return hashlib.sha256(f"{sha256} {VERSION} {text}".encode()).hexdigest() if text else sha256

    def rows(self, pixels: np.ndarray, labels: np.ndarray) -> Tensor:
        """Images (B, C, H, W) of bytes and their classes (B,) as rows of a batch."""
        return self.joined(self.standardized(pixels), labels, labels, np.ones(len(labels)))

    def joined(self, images: np.ndarray, labels: np.ndarray, others: np.ndarray, shares: np.ndarray) -> Tensor:
        """Rows of standardized images, of their classes, and of those of the images mixed in."""
        columns = (labels, others, shares) if self.options.mixes else (labels,)
        last = np.stack(columns, axis=1).astype(np.float32)
        return torch.from_numpy(np.concatenate((images.reshape(len(labels), -1), last), axis=1))

    def views(self, inputs: Tensor) -> list[tuple[float, Tensor]]:
        """What a prediction is averaged over."""
        return augment.views_of(inputs, self.options.views)

    def unpack(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and their classes (B,); of mixed ones both classes and the share of the first, (B, 3)."""
        columns = 3 if self.options.mixes else 1
        images = batch[:, :-columns].unflatten(1, self.shape.input_shape)
        return images, batch[:, -3:] if columns == 3 and self.trains else batch[:, -columns].long()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the class, in nats; `outputs` are logits (B, classes)."""
        if targets.is_floating_point():
            return self._losses(outputs, targets).mean()
        return F.cross_entropy(outputs.float(), targets, label_smoothing=self.smoothing)

    def _losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of every image. A mixed label's is the mean of both labels', as cross-entropy is linear in the label."""
        if not targets.is_floating_point():
            return F.cross_entropy(outputs.float(), targets, reduction="none", label_smoothing=self.smoothing)
        first, second = (self._losses(outputs, targets[:, column].long()) for column in (0, 1))
        return targets[:, 2] * first + (1 - targets[:, 2]) * second

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How many have their largest logit at their class."""
        return (outputs.argmax(dim=-1) == targets).sum()

    def per_example(self, outputs: Tensor, targets: Tensor) -> PerExample:
        """Every image's cross-entropy, and whether its largest logit is not at its class, the first of a mixed one."""
        classes = targets[:, 0].long() if targets.is_floating_point() else targets
        return PerExample(self._losses(outputs, targets), (outputs.argmax(dim=-1) != classes).double())

    def group_of(self, targets: Tensor) -> Tensor:
        """The classes."""
        return targets


class Draws:
    """Of a run, the numbers of the draws of a batch: `first` and the `count` − 1 after it."""

    def __init__(self, seed: int, stage: int, first: int, count: int) -> None:
        self.seed, self.stage, self.first, self.count = seed, stage, first, count

    @cached_property
    def words(self) -> np.ndarray:
        """(count, 4) uint64."""
        return augment.words_of_draws(self.seed, self.stage, self.first, self.count)

    def generator(self, place: int, use: int) -> np.random.Generator:
        """For a use at the draw in this place of the batch."""
        return augment.generator_of(self.seed, self.stage, self.first + place, use)


class ImageBatches(ShuffledBatches):
    """Batches of images, changed as their options say; an epoch sees every image once.

    With `repeat` above 1 every image comes so many times in a row, each time changed anew, and an epoch so often.
    """

    def __init__(
        self, images: ImageProblem, batch_size: int, seed: int, stage: int = 0, limit: int = 0, repeat: int = 1
    ) -> None:
        n_images = min(limit or len(images.labels), len(images.labels))
        super().__init__(n_images, batch_size, 1, seed, stage)
        self.images, self.repeat = images, repeat
        self.n_images, self.n_windows, self._position = n_images, n_images * repeat, n_images * repeat

    @property
    def groups(self) -> np.ndarray:
        """The images' classes."""
        return np.repeat(self.images.labels[: self.n_images], self.repeat)

    @property
    def epochs(self) -> float:
        """How often the training set has been seen so far."""
        return super().epochs * self.repeat

    def _gather(self, indices: np.ndarray) -> Tensor:
        options, count = self.images.options, len(indices)
        indices = indices // self.repeat
        draws = Draws(self.seed, self.stage, self.drawn - count, count)
        pixels = self.images.training_pixels(indices, draws)
        if options.flip != "no":
            pixels = augment.flipped(pixels, self._flips(indices, draws))
        if options.translate:
            sides = np.uint64(2 * options.translate + 1)
            pixels = augment.translated(pixels, (draws.words[:, 1:3] % sides).astype(np.int64) - options.translate)
        images, labels = self.images.standardized(pixels), self.images.labels[indices]
        if options.erase:
            for place in np.flatnonzero(augment.uniform(draws.words[:, 3]) < options.erase).tolist():
                augment.erase(images[place], draws.generator(place, augment.ERASING))
        others, shares = labels.copy(), np.ones(count)
        for begin in range(0, count, augment.GROUP) if options.mixes else ():
            part = slice(begin, begin + augment.GROUP)
            generator = draws.generator(begin, augment.MIXING)
            shares[part] = augment.mix(images[part], options.mixup, options.cutmix, generator)
            others[part] = labels[part][::-1]
        return self.images.joined(images, labels, others, shares)

    def _flips(self, indices: np.ndarray, draws: Draws) -> np.ndarray:
        if self.images.options.flip == "random":
            random: np.ndarray = draws.words[:, 0] % 2 == 1
            return random
        epochs = (draws.first + np.arange(draws.count)) // self.n_windows
        alternating: np.ndarray = (self._flipped_first[indices] + epochs) % 2 == 1
        return alternating

    @cached_property
    def _flipped_first(self) -> np.ndarray:
        """Of every image, 1 where it is flipped in the first epoch."""
        return (augment.words_of_images(self.seed, self.n_images) % np.uint64(2)).astype(np.int64)

    def _permutation(self) -> np.ndarray:
        order = np.random.default_rng((self.seed, self.epoch, self.stage)).permutation(self.n_images)
        return order if self.repeat == 1 else (order[:, None] * self.repeat + np.arange(self.repeat)).ravel()
