"""What all sources of labelled images share: their options, and what is lost and scored on their classes.

Options stand behind a source's name, as in `cifar10:data/cifar-10,flip=alternating,translate=2,smoothing=0.2,views=6`,
and are part of the identity of its trials. The loss is the cross-entropy of the class; what is trained on may be a
smoothed label, what is validated on never is.
"""

import hashlib
import re
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, Self

import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from scionlab.errors import from_validation, unknown
from scionlab.problems.data.augment import Augmentation, views_of
from scionlab.problems.data.base import PerExample, Source

# A part of the identity of data with options: raise it when a change to the code changes what these do.
VERSION = 1


class ImageOptions(BaseModel):
    """What is done to images besides reading them; by default nothing.

    flip, translate: `scionlab.problems.data.augment`.
    enlarge: pixels become squares of so many pixels a side.
    standardize: by mean and deviation of all pixels of the training images, or of those of each channel.
    smoothing: share of a label, in training, that all classes get alike.
    views: of an image, over which its logits are averaged in validation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: Literal["no", "random", "alternating"] = "no"
    translate: int = Field(default=0, ge=0, le=16)
    enlarge: int = Field(default=1, ge=1, le=16)
    standardize: Literal["together", "channels"] = "together"
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    views: Literal[1, 2, 6] = 1

    @property
    def augmentation(self) -> Augmentation:
        """What is done to training images."""
        return Augmentation(self.flip, self.translate)

    @property
    def text(self) -> str:
        """Those that are not at their defaults, in one order; empty if all are."""
        given = self.model_dump(exclude_defaults=True)
        return ",".join(f"{name}={given[name]}" for name in sorted(given))


PLAIN = ImageOptions()


def with_options(data: str) -> tuple[str, ImageOptions]:
    """A source's name without its options, and these. UserError for one that is not known or out of its range."""
    name, given = data, dict[str, Any]()
    while found := re.fullmatch(r"(.+),(\w+)=([\w.]+)", name):
        name, option, value = found.groups()
        if option not in ImageOptions.model_fields:
            raise unknown(f"data: option of {data!r}", option, ImageOptions.model_fields)
        given[option] = int(value) if value.isdecimal() else value
    try:
        return name, ImageOptions(**given)
    except ValidationError as error:
        raise from_validation(error, where=f"data: option of {data!r}: ") from None


class ImageProblem(Source):
    """Images and their classes. `smoothing` is that of the loss in use: 0 but for the problem as it is trained on."""

    options: ImageOptions
    smoothing: float

    @cached_property
    def in_training(self) -> Self:
        """The problem with smoothed labels."""
        return replace(self, smoothing=self.options.smoothing) if self.options.smoothing else self  # type: ignore

    @property
    def form(self) -> float:
        """The smoothing."""
        return self.smoothing

    def optioned(self, sha256: str) -> str:
        """The hash of what trials see, from that of the images and the options."""
        if self.options == PLAIN:
            return sha256
        return hashlib.sha256(f"{sha256} {VERSION} {self.options.text}".encode()).hexdigest()

    def views(self, inputs: Tensor) -> list[tuple[float, Tensor]]:
        """What a prediction is averaged over."""
        return views_of(inputs, self.options.views)

    def unpack(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and their classes (B,)."""
        return batch[:, :-1].unflatten(1, self.shape.input_shape), batch[:, -1].long()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the class, in nats; `outputs` are logits (B, classes)."""
        return F.cross_entropy(outputs.float(), targets, label_smoothing=self.smoothing)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How many have their largest logit at their class."""
        return (outputs.argmax(dim=-1) == targets).sum()

    def per_example(self, outputs: Tensor, targets: Tensor) -> PerExample:
        """Every image's cross-entropy, and whether its largest logit is not at its class."""
        losses = F.cross_entropy(outputs.float(), targets, reduction="none", label_smoothing=self.smoothing)
        return PerExample(losses, (outputs.argmax(dim=-1) != targets).double())

    def group_of(self, targets: Tensor) -> Tensor:
        """The classes."""
        return targets
