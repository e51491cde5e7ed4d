"""The fifteen changes of RandAugment against numpy, and how they are drawn."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from scionlab.problems.data.rand_augment import CHANGES, FILL, drawn, rand_augmented

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 40, 3)).astype(np.uint8)
IMAGE = Image.fromarray(PIXELS)
GEOMETRIC = ("rotate", "shear-x", "shear-y", "translate-x", "translate-y")
STRONGER = ("color", "contrast", "brightness", "sharpness")


def changed(name, share=0.9, sign=1, image=IMAGE):
    return np.asarray(CHANGES[name](image, share, sign)).astype(int)


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_gives_an_image_of_the_same_size_and_kind(name):
    for share in (0.0, 0.5, 1.0):
        for sign in (-1, 1):
            found = CHANGES[name](IMAGE, share, sign)
            assert (found.size, found.mode) == (IMAGE.size, "RGB")


@pytest.mark.parametrize("name", [*GEOMETRIC, *STRONGER, "solarize", "solarize-add"])
def test_at_level_zero_nothing_changes(name):
    assert np.array_equal(changed(name, 0.0), PIXELS)


def test_values_are_mapped_as_they_should_be():
    values = PIXELS.astype(int)
    assert np.array_equal(changed("invert"), 255 - values)
    assert np.array_equal(changed("posterize", 0.9), values & 0b10000000)  # 4 - int(3.6) bits are kept
    assert np.array_equal(changed("posterize", 0.5), values & 0b11000000)
    assert not changed("posterize", 1.0).any()
    assert np.array_equal(changed("solarize", 0.9), np.where(values < 26, values, 255 - values))  # 256 - int(230.4)
    assert np.array_equal(changed("solarize-add", 0.9), np.where(values < 128, np.minimum(255, values + 99), values))
    assert abs(changed("brightness", 1.0, 1) - np.minimum(255, 1.9 * values)).max() <= 1
    assert abs(changed("brightness", 0.5, -1) - 0.55 * values).max() <= 1
    grey = changed("color", 1.0, -1)
    assert np.ptp(grey, axis=2).max() <= 0.1 * np.ptp(values, axis=2).max() + 1


def test_images_are_shifted_by_up_to_their_size_and_filled_with_the_mean():
    right = changed("translate-x", 0.5, -1)  # by 0.225 · 40 = 9
    assert np.array_equal(right[:, 9:], PIXELS[:, :-9])
    assert np.array_equal(right[:, :9], np.broadcast_to(FILL, (20, 9, 3)))
    up = changed("translate-y", 2 / 3, 1)  # by 0.3 · 20 = 6
    assert np.array_equal(up[:-6], PIXELS[6:])
    assert np.array_equal(up[-6:], np.broadcast_to(FILL, (6, 40, 3)))


def test_rows_are_sheared_in_proportion_to_their_place():
    lines = np.zeros((20, 40, 3), dtype=np.uint8)
    lines[:, 20] = 255
    found = changed("shear-x", 1.0, -1, Image.fromarray(lines))[..., 0]
    assert [int(row.argmax()) for row in found[::5]] == pytest.approx([20, 21.5, 23, 24.5], abs=1)


def test_two_of_fifteen_are_drawn_each_by_chance_around_the_magnitude():
    draws = [drawn(9.0, np.random.default_rng(seed)) for seed in range(3000)]
    lengths = Counter(map(len, draws))
    assert all(abs(lengths[n] - 3000 * p) < 5 * np.sqrt(3000 * p) for n, p in ((0, 0.25), (1, 0.5), (2, 0.25)))
    names = Counter(name for of_one in draws for name, _, _ in of_one)
    assert names.keys() == CHANGES.keys()
    assert all(abs(count - 200) < 5 * np.sqrt(200) for count in names.values())
    shares = np.array([share for of_one in draws for _, share, _ in of_one])
    assert shares.max() == 1.0  # levels above 10 are 10
    assert np.median(shares) == pytest.approx(0.9, abs=0.01)
    signs = np.array([sign for of_one in draws for _, _, sign in of_one])
    assert abs(signs.mean()) < 5 / np.sqrt(len(signs))


def test_the_same_generator_gives_the_same_image():
    first, again = (np.asarray(rand_augmented(IMAGE, 9.0, np.random.default_rng(3))) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, PIXELS)
