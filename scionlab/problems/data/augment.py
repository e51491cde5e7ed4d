"""Random changes of images, and how predictions are averaged over changes that keep their class.

    flip=random          left and right change places, with probability 1/2 at every draw
    flip=alternating     with probability 1/2 in the first epoch, and from then on in every epoch the other way round
    translate=N          shifted by −N … N pixels in each direction; what comes in from outside is reflected
    crop=random          a part of random size and shape, resized
    erase=P              a box of noise, with probability P
    mixup=A, cutmix=A    mixed with another image, and the label with its label

All follow from numbers of the run: draw c of a run has four words of 64 bits, by Philox, a generator that counts: so
they do not depend on how large batches are, and a run that goes on from its c draws on as it would have. Only mixing
needs a second image: a batch's images are mixed by GROUP in the order they were drawn, the first with the last.

Flip and shift are those of airbench (arXiv 2404.00498), the others those of DeiT (2012.12877), with timm's constants.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WORDS = 4  # of a draw: one block of Philox
# What a key is for, so that no two of them are the same.
_BY_DRAW, _BY_IMAGE = 0, 1
VIEWS = (1, 2, 6)

# Random parts of images, and boxes of noise in them: shares of the area, and heights over widths.
CROP_AREA, CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
ERASED_AREA, ERASED_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)
TRIES = 10  # until a box fits
GROUP = 256  # images that are mixed with each other: a GPU's share of a batch, where this was published
CROPPING, ERASING, MIXING, RANDOM_CHANGES = 1, 2, 3, 4  # uses of generators


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


def generator_of(seed: int, stage: int, draw: int, use: int) -> np.random.Generator:
    """As many numbers as are needed for one use, from 1 on, at one draw; of these four numbers alone."""
    return np.random.Generator(np.random.Philox(key=_key(seed, stage, _BY_DRAW), counter=[0, draw, use, 0]))


def _sides(
    area: int, shares: tuple[float, float], ratios: tuple[float, float], generator: np.random.Generator
) -> tuple[int, int]:
    """Two sides of a box: a share of the area, evenly, and the first by the second, evenly in its logarithm."""
    inside = area * generator.uniform(*shares)
    ratio = math.exp(generator.uniform(math.log(ratios[0]), math.log(ratios[1])))
    return round(math.sqrt(inside * ratio)), round(math.sqrt(inside / ratio))


def random_box(high: int, wide: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a part of an image: 8% to 100% of its area, 3/4 to 4/3 as wide as high.

    Where ten tries do not fit, the middle of the image, as much of it as these ratios allow.
    """
    for _ in range(TRIES):
        box_wide, box_high = _sides(high * wide, CROP_AREA, CROP_RATIO, generator)
        if 0 < box_wide <= wide and 0 < box_high <= high:
            top, left = generator.integers(0, high - box_high + 1), generator.integers(0, wide - box_wide + 1)
            return int(top), int(left), box_high, box_wide
    box_wide = min(wide, round(high * CROP_RATIO[1]))
    box_high = min(high, round(wide / CROP_RATIO[0]))
    return (high - box_high) // 2, (wide - box_wide) // 2, box_high, box_wide


def erase(image: np.ndarray, generator: np.random.Generator) -> None:
    """A box of a standardized image (C, H, W), 2% to 33% of its area, becomes Gaussian noise, in place."""
    channels, high, wide = image.shape
    for _ in range(TRIES):
        box_high, box_wide = _sides(high * wide, ERASED_AREA, ERASED_RATIO, generator)
        if box_high < high and box_wide < wide:
            top, left = generator.integers(0, high - box_high + 1), generator.integers(0, wide - box_wide + 1)
            noise = generator.standard_normal((channels, box_high, box_wide))
            image[:, top : top + box_high, left : left + box_wide] = noise
            return


def mix(images: np.ndarray, mixup: float, cutmix: float, generator: np.random.Generator) -> float:
    """Images (B, C, H, W) with the same in reverse order mixed in, in place; the share that is left of each itself.

    By a weighted mean whose weight is Beta(`mixup`, `mixup`), or by a box of the other image, a share of the area that
    is Beta(`cutmix`, `cutmix`) where the box is not cut off by the edge; by chance where both are above 0.
    """
    high, wide = images.shape[2:]
    boxed = bool(cutmix) and (not mixup or generator.random() < 0.5)
    share = generator.beta(*(cutmix if boxed else mixup,) * 2)
    if not boxed:
        images[:] = np.float32(share) * images + np.float32(1 - share) * images[::-1]
        return float(share)
    halves = [int(side * math.sqrt(1 - share)) // 2 for side in (high, wide)]
    middle = generator.integers(0, high), generator.integers(0, wide)
    top, left = (max(0, at - half) for at, half in zip(middle, halves, strict=True))
    bottom, right = (min(side, at + half) for side, at, half in zip((high, wide), middle, halves, strict=True))
    images[..., top:bottom, left:right] = images[::-1, :, top:bottom, left:right].copy()
    return float(1 - (bottom - top) * (right - left) / (high * wide))
