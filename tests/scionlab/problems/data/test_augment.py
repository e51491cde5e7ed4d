"""Changes of images against plain loops: what they give, that they keep classes, and that they follow from numbers."""

from itertools import chain, pairwise

import numpy as np
import pytest
import torch

from scionlab.problems.data.augment import (
    erase,
    flipped,
    mix,
    patch_moments,
    random_box,
    translated,
    uniform,
    views_of,
    words_of_draws,
    words_of_images,
)
from scionlab.problems.data.images import Images, Labelled, StoredOptions

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 5, 6)).astype(np.uint8)


def padded_and_cut(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Padded by reflection and cut out again, by numpy."""
    high, wide = image.shape[1:]
    padded = np.pad(image, ((0, 0), (4, 4), (4, 4)), mode="reflect")
    return padded[:, 4 + down : 4 + down + high, 4 + right : 4 + right + wide]


def test_a_shift_is_a_cut_out_of_the_reflected_image():
    shifts = np.array([[down, right] for down in (-4, -2, 0, 1) for right in (-3, 0, 4)])
    expected = [padded_and_cut(image, *shift) for image, shift in zip(PIXELS, shifts, strict=True)]
    assert np.array_equal(translated(PIXELS, shifts), np.stack(expected))


def test_flips_are_their_own_inverse_and_only_where_they_are_asked_for():
    which = np.arange(12) % 3 == 0
    once = flipped(PIXELS, which)
    assert np.array_equal(once[which], PIXELS[which][:, :, :, ::-1])
    assert np.array_equal(once[~which], PIXELS[~which])
    assert np.array_equal(flipped(once, which), PIXELS)


def test_words_follow_from_seed_stage_and_draw_alone():
    whole = words_of_draws(3, 0, 0, 50)
    assert np.array_equal(np.concatenate([words_of_draws(3, 0, 0, 20), words_of_draws(3, 0, 20, 30)]), whole)
    assert len(np.unique(whole)) == whole.size
    others = [words_of_draws(4, 0, 0, 50), words_of_draws(3, 1, 0, 50), words_of_images(3, 200).reshape(50, 4)]
    assert all(not np.isin(whole, other).any() for other in others)


def test_words_are_uniform_numbers():
    found = uniform(words_of_draws(0, 0, 0, 5_000)).ravel()
    assert 0 <= found.min() < found.max() < 1
    counts = np.histogram(found, bins=10, range=(0, 1))[0]
    assert abs(counts - 2_000).max() < 5 * np.sqrt(2_000)  # five standard deviations


@pytest.mark.parametrize(("count", "shares"), [(1, [1]), (2, [0.5] * 2), (6, [0.25] * 2 + [0.125] * 4)])
def test_views_are_the_image_its_mirror_image_and_both_moved_by_a_pixel(count, shares):
    batch = torch.from_numpy(PIXELS).float()
    found = views_of(batch, count)
    assert [share for share, _ in found] == shares
    up, down = (torch.from_numpy(translated(PIXELS, np.full((12, 2), by))).float() for by in (-1, 1))
    expected = [batch, batch.flip(-1), up, up.flip(-1), down, down.flip(-1)]
    assert all(torch.equal(view, other) for (_, view), other in zip(found, expected, strict=False))


def test_moments_of_patches_are_those_of_a_loop():
    batch = torch.from_numpy(PIXELS).float() / 256
    patches = [
        image[:, row : row + 2, column : column + 2].reshape(-1)
        for image in batch
        for row in range(4)
        for column in range(5)
    ]
    stacked = torch.stack(patches).double()
    assert torch.allclose(patch_moments(batch, 2), stacked.T @ stacked / len(stacked), rtol=1e-12)


def problem(**options) -> Images:
    """Twelve images to train on, whose first pixels tell them apart, of classes 0 to 9."""
    pixels = np.zeros((12, 1, 4, 4), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(1, 13)
    labels = (np.arange(12) % 10).astype(np.uint8)
    train = Labelled(pixels, labels)
    return Images("small", "0", train, train).with_options("small", StoredOptions(**options))


def seen(data: Images, batches, steps: int) -> list[list[tuple[int, bool, int]]]:
    """Of every batch: which images came, whether each was flipped, and its class."""
    found = []
    for _ in range(steps):
        inputs, targets = data.unpack(batches.next_batch())
        brightest = inputs[:, 0].flatten(1).argmax(1)
        values = np.searchsorted(data.levels, inputs.flatten(1).amax(1).numpy())
        found.append([(int(v), int(p) == 3, int(t)) for v, p, t in zip(values, brightest, targets, strict=True)])
    return found


def test_alternating_flips_give_both_sides_of_every_image_in_two_epochs():
    data = problem(flip="alternating")
    draws = list(chain(*seen(data, data.training(5, 1, seed=0), 12)))  # five epochs, whose ends are inside of batches
    epochs = [sorted(draws[12 * n : 12 * n + 12]) for n in range(5)]
    for before, after in pairwise(epochs):
        assert [value for value, _, _ in before] == list(range(1, 13))
        assert all(first[1] != second[1] for first, second in zip(before, after, strict=True))
    assert 0 < sum(flip for _, flip, _ in epochs[0]) < 12


def test_random_flips_are_drawn_anew_and_keep_the_class():
    data = problem(flip="random")
    draws = list(chain(*seen(data, data.training(12, 1, seed=0), 40)))
    flips = sum(flip for _, flip, _ in draws)
    assert abs(flips - 240) < 5 * np.sqrt(120)  # five standard deviations of 480 fair coins
    assert all(target == (value - 1) % 10 for value, _, target in draws)


@pytest.mark.parametrize("options", [{"flip": "random"}, {"flip": "alternating"}, {"translate": 2, "flip": "random"}])
def test_batches_go_on_from_a_place_as_they_would_have(options):
    data = problem(**options)
    whole, first = data.training(5, 1, seed=7), data.training(5, 1, seed=7)
    expected = [whole.next_batch() for _ in range(9)]
    found = [first.next_batch() for _ in range(4)]
    later = data.training(5, 1, seed=7)
    later.load_state_dict(first.state_dict())
    found += [later.next_batch() for _ in range(5)]
    assert all(map(torch.equal, found, expected))
    other = data.training(5, 1, seed=8)
    assert not all(torch.equal(other.next_batch(), batch) for batch in expected)


def test_what_changes_an_image_does_not_depend_on_the_batch_size():
    data = problem(translate=2, flip="random")
    by_five, by_three = data.training(5, 1, seed=1), data.training(3, 1, seed=1)
    fives = torch.cat([by_five.next_batch() for _ in range(6)])
    threes = torch.cat([by_three.next_batch() for _ in range(10)])
    assert torch.equal(fives, threes)


def test_shifts_go_as_far_as_they_are_told():
    pixels = np.zeros((10, 1, 9, 9), dtype=np.uint8)
    pixels[:, 0, 4, 4] = 255
    part = Labelled(pixels, np.arange(10, dtype=np.uint8))
    data = Images("dot", "0", part, part).with_options("dot", StoredOptions(translate=2))
    batches = data.training(10, 1, seed=0)
    places = [data.unpack(batches.next_batch())[0].flatten(1).argmax(1) for _ in range(60)]
    counts = np.bincount(torch.cat(places).numpy(), minlength=81).reshape(9, 9)
    assert counts[2:7, 2:7].sum() == counts.sum() == 600
    assert abs(counts[2:7, 2:7] - 24).max() < 5 * np.sqrt(24)  # five standard deviations


def test_validation_images_are_as_they_are():
    plain, changed = problem(), problem(flip="random", translate=2)
    assert torch.equal(plain.held_out(12, 1), changed.held_out(12, 1))


def test_enlarged_images_have_squares_for_pixels():
    plain, large = problem(), problem(enlarge=3)
    assert large.shape.input_shape == (1, 12, 12)
    (small, _), (found, _) = (data.unpack(data.held_out(12, 1)) for data in (plain, large))
    assert torch.equal(found, torch.kron(small, torch.ones(1, 1, 3, 3)))


def test_channels_may_be_standardized_each_by_its_own():
    part = Labelled(PIXELS // np.array([1, 2, 4], dtype=np.uint8)[:, None, None], np.arange(12, dtype=np.uint8) % 10)
    data = Images("three", "0", part, part).with_options("three", StoredOptions(standardize="channels"))
    pixels = part.pixels.astype(np.float64)
    mean, deviation = (f(pixels, axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    found = data.unpack(data.held_out(12, 1))[0].numpy()
    assert np.allclose(found, (pixels - mean) / deviation, atol=1e-6)


def test_an_erased_box_is_noise_and_the_rest_is_as_it_was():
    shares = []
    for seed in range(200):
        image = np.full((3, 40, 30), 7, dtype=np.float32)
        erase(image, np.random.default_rng(seed))
        changed = (image != 7).all(0)
        assert np.array_equal(changed, (image != 7).any(0))
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()  # a box
        assert 0.25 < len(rows) / len(columns) < 4  # 0.3 to 1/0.3, but for rounding
        shares.append(changed.mean())
    assert 0.015 < min(shares) < 0.06
    assert 0.28 < max(shares) < 0.35
    noise = image[:, changed]
    assert abs(float(noise.mean())) < 5 / np.sqrt(noise.size)


def test_a_random_box_lies_inside_and_is_as_large_and_wide_as_it_may_be():
    boxes = np.array([random_box(90, 120, np.random.default_rng(seed)) for seed in range(500)])
    top, left, high, wide = boxes.T
    assert (top >= 0).all()
    assert (top + high <= 90).all()
    assert (left >= 0).all()
    assert (left + wide <= 120).all()
    shares, ratios = high * wide / (90 * 120), wide / high
    assert 0.07 < shares.min() < 0.15
    assert 0.85 < shares.max() <= 1
    assert 0.72 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.37
    # of an image so wide that no box of these ratios and areas fits, the middle
    assert random_box(10, 1000, np.random.default_rng(0)) == (0, 493, 10, 13)


def mixtures(mixup: float, cutmix: float) -> list[tuple[np.ndarray, float]]:
    """Of four images of constant 0, 1, 2 and 3: what they are after mixing, and the share that is theirs."""
    found = []
    for seed in range(100):
        batch = np.full((4, 1, 20, 10), 0.0, dtype=np.float32) + np.arange(4, dtype=np.float32)[:, None, None, None]
        share = mix(batch, mixup, cutmix, np.random.default_rng(seed))
        found.append((batch[:, 0], share))
    return found


def test_mixed_up_images_are_weighted_means_with_the_reversed_batch():
    for images, share in mixtures(0.8, 0.0):
        expected = share * np.arange(4) + (1 - share) * np.arange(4)[::-1]
        assert np.allclose(images, expected[:, None, None], atol=1e-6)
    shares = np.array([share for _, share in mixtures(0.8, 0.0)])
    # Beta(a, a) has mean 1/2 and variance 1/(4(2a + 1)); within five standard deviations of 100 draws
    assert abs(shares.mean() - 0.5) < 5 * np.sqrt(1 / 4 / 2.6 / 100)
    assert shares.var() == pytest.approx(1 / 4 / 2.6, rel=0.5)


def test_boxes_of_other_images_have_the_area_that_their_label_counts():
    for images, share in mixtures(0.0, 1.0):
        foreign = images != np.arange(4)[:, None, None]
        assert np.array_equal(images[foreign], np.broadcast_to(np.arange(4)[::-1, None, None], images.shape)[foreign])
        assert np.array_equal(foreign, np.broadcast_to(foreign[:1], foreign.shape))
        assert share == pytest.approx(1 - foreign[0].mean())


def test_with_both_about_half_of_the_batches_have_boxes():
    boxed = [len(np.unique(images[0])) == 2 for images, share in mixtures(0.8, 1.0) if share < 1]
    assert abs(sum(boxed) - len(boxed) / 2) < 5 * np.sqrt(len(boxed)) / 2


def test_labels_go_with_the_images_that_are_mixed_in():
    data = problem(mixup=0.8, cutmix=1.0)
    plain = problem()
    mixed, unmixed = (source.training(7, 1, seed=0).next_batch() for source in (data, plain))
    inputs, targets = data.in_training.unpack(mixed)
    images, labels = plain.unpack(unmixed)
    assert torch.equal(targets[:, 0], labels.float())
    assert torch.equal(targets[:, 1], labels.flip(0).float())
    assert len(set(targets[:, 2].tolist())) == 1
    share = float(targets[0, 2])
    pure = inputs.sum((1, 2, 3)), share * images.sum((1, 2, 3)) + (1 - share) * images.flip(0).sum((1, 2, 3))
    boxed = torch.isclose(inputs, images).flatten(1).any(1)
    assert bool(boxed.all()) or torch.allclose(*pure, atol=1e-4)
