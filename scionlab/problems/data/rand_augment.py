"""RandAugment (arXiv 1909.13719) as DeiT has it, timm's rand-mM-mstd0.5-inc1: two of fifteen changes, each by chance.

A change is done with probability 1/2, at a level from 0 to 10 that is normal around the magnitude M with deviation 1/2.
Colours, contrast, brightness and sharpness become more or less, by up to 0.9; images are rotated by up to 30 degrees,
sheared by up to 0.3 and shifted by up to 0.45 of their size, to either side, and what comes in is ImageNet's mean.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

LAYERS, PROBABILITY, DEVIATION, HIGHEST = 2, 0.5, 0.5, 10.0
FILL = (124, 116, 104)  # of 255, by channel
SOLARIZED_BELOW = 128

# Of an image, a share of the highest level from 0 to 1, and a sign.
Change = Callable[[Image.Image, float, int], Image.Image]


def affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """The image whose place (x, y) is that of (ax + by + c, dx + ey + f) in this one."""
    how = Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    return image.transform(image.size, *how, fillcolor=FILL)


def rotated(image: Image.Image, degrees: float) -> Image.Image:
    """Turned around its middle, counter-clockwise."""
    return image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=FILL)


def solarized_add(image: Image.Image, add: int) -> Image.Image:
    """Dark values become brighter by `add`."""
    levels = np.arange(256)
    return image.point(np.where(levels < SOLARIZED_BELOW, np.minimum(255, levels + add), levels).tolist() * 3)


def posterized(image: Image.Image, bits: int) -> Image.Image:
    """Of every value its highest `bits`; with none an image is black, which Pillow's own function refuses to make."""
    return image.point([value & ~(2 ** (8 - bits) - 1) for value in range(256)] * 3)


def enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Change:
    """More or less of something, by a factor of 1 ± 0.9 at the highest level."""
    return lambda image, share, sign: kind(image).enhance(max(0.1, 1 + sign * 0.9 * share))


CHANGES: dict[str, Change] = {
    "auto-contrast": lambda image, share, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, share, sign: ImageOps.equalize(image),
    "invert": lambda image, share, sign: ImageOps.invert(image),
    "rotate": lambda image, share, sign: rotated(image, sign * 30 * share),
    "posterize": lambda image, share, sign: posterized(image, 4 - int(4 * share)),
    "solarize": lambda image, share, sign: ImageOps.solarize(image, 256 - int(256 * share)),
    "solarize-add": lambda image, share, sign: solarized_add(image, int(110 * share)),
    "color": enhanced(ImageEnhance.Color),
    "contrast": enhanced(ImageEnhance.Contrast),
    "brightness": enhanced(ImageEnhance.Brightness),
    "sharpness": enhanced(ImageEnhance.Sharpness),
    "shear-x": lambda image, share, sign: affine(image, (1, sign * 0.3 * share, 0, 0, 1, 0)),
    "shear-y": lambda image, share, sign: affine(image, (1, 0, 0, sign * 0.3 * share, 1, 0)),
    "translate-x": lambda image, share, sign: affine(image, (1, 0, sign * 0.45 * share * image.width, 0, 1, 0)),
    "translate-y": lambda image, share, sign: affine(image, (1, 0, 0, 0, 1, sign * 0.45 * share * image.height)),
}


def drawn(magnitude: float, generator: np.random.Generator) -> list[tuple[str, float, int]]:
    """The changes of one image: names, shares of the highest level, and signs."""
    found = []
    for name in generator.choice(list(CHANGES), LAYERS):
        done, level = generator.random() < PROBABILITY, generator.normal(magnitude, DEVIATION)
        sign = 1 if generator.random() < 0.5 else -1
        if done:
            found.append((str(name), float(np.clip(level, 0, HIGHEST)) / HIGHEST, sign))
    return found


def rand_augmented(image: Image.Image, magnitude: float, generator: np.random.Generator) -> Image.Image:
    """The image changed at random at this magnitude, from 0 to 10; of three channels, and of the same size."""
    for name, share, sign in drawn(magnitude, generator):
        image = CHANGES[name](image, share, sign)
    return image
