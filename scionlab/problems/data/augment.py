"""Random changes of images that keep their class, and how predictions are averaged over such changes.

    flip=random          left and right change places, with probability 1/2 at every draw
    flip=alternating     with probability 1/2 in the first epoch, and from then on in every epoch the other way round
    translate=N          shifted by −N … N pixels in each direction; what comes in from outside is reflected

All follow from numbers of the run: draw c of a run has four words of 64 bits, by Philox, a generator that counts: so
they do not depend on how large batches are, and a run that goes on from its c draws on as it would have. Images are
bytes (B, C, H, W). Flip and shift are those of airbench (arXiv 2404.00498).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WORDS = 4  # of a draw: one block of Philox
# What a key is for, so that no two of them are the same.
_BY_DRAW, _BY_IMAGE = 0, 1
VIEWS = (1, 2, 6)


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images: `flip` is "no", "random" or "alternating", `translate` in pixels."""

    flip: str = "no"
    translate: int = 0

    def __bool__(self) -> bool:
        return self != Augmentation()


def words_of_draws(seed: int, stage: int, first: int, count: int) -> np.ndarray:
    """(count, WORDS) uint64, those of the draws from `first` on; of (seed, stage) and the number of the draw alone."""
    generator = np.random.Philox(key=_key(seed, stage, _BY_DRAW), counter=[first, 0, 0, 0])
    return np.asarray(generator.random_raw(count * WORDS)).reshape(count, WORDS)


def words_of_images(seed: int, count: int) -> np.ndarray:
    """(count,) uint64, one for every image, the same throughout a run."""
    return np.asarray(np.random.Philox(key=_key(seed, 0, _BY_IMAGE)).random_raw(count))


def _key(seed: int, stage: int, use: int) -> list[int]:
    return [seed, 2 * stage + use]


def uniform(words: np.ndarray) -> np.ndarray:
    """Words as float64 in [0, 1)."""
    return (words >> np.uint64(11)) * 2.0**-53


def flipped(pixels: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Images with left and right exchanged where `which` (B,) says so."""
    return np.where(which[:, None, None, None], pixels[..., ::-1], pixels)


def translated(pixels: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Images cut out of themselves, reflected at their edges, `shifts` (B, 2) pixels further down and to the right."""
    high, wide = pixels.shape[2:]
    rows = _reflected(np.arange(high) + shifts[:, :1], high)
    columns = _reflected(np.arange(wide) + shifts[:, 1:], wide)
    image, channel = np.arange(len(pixels)), np.arange(pixels.shape[1])
    cut: np.ndarray = pixels[
        image[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
    ]
    return cut


def _reflected(places: np.ndarray, size: int) -> np.ndarray:
    """Places beyond the ends as those on the other side of the first and the last, which come once."""
    inside: np.ndarray = (size - 1) - np.abs((size - 1) - np.abs(places))
    return inside


def views_of(images: Tensor, count: int) -> list[tuple[float, Tensor]]:
    """What a prediction is averaged over, with weights that sum to 1: `count` is 1, 2 or 6.

    1: the image. 2: and its mirror image, as much. 6: these two, a half; and both moved by a pixel down and right and
    by one up and left, reflected at the edges, an eighth each.
    """
    if count == 1:
        return [(1.0, images)]
    both = [images, images.flip(-1)]
    if count == 2:
        return [(0.5, view) for view in both]
    padded = F.pad(images, (1, 1, 1, 1), "reflect")
    moved = [padded[..., :-2, :-2], padded[..., 2:, 2:]]
    return [(0.25, view) for view in both] + [(0.125, view) for one in moved for view in (one, one.flip(-1))]


def patch_moments(images: Tensor, kernel: int) -> Tensor:
    """E[x xᵀ] of all kernel × kernel patches x of images (N, C, H, W): (C·k², C·k²) float64, not centred."""
    total = torch.zeros((images.shape[1] * kernel**2,) * 2, dtype=torch.float64)
    count = 0
    for part in images.split(500):
        patches = F.unfold(part.double(), kernel).transpose(0, 1).flatten(1)
        total += patches @ patches.T
        count += patches.shape[1]
    return total / count
