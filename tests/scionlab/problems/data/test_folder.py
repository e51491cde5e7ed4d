"""Images of a folder: what is cut out of them, how they are read, and what is refused."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from published_data import write_folder

from scionlab import training
from scionlab.errors import UserError
from scionlab.problems.data import load
from scionlab.problems.data.folder import Folder, image_folder, middle
from scionlab.spec import Trial
from scionlab.training.passes import Passes
from scionlab.training.prepare import build, data_of, resolve

MIXED = "crop=random,flip=random,randaugment=9,repeat=3,erase=0.5,mixup=0.8,cutmix=1.0,smoothing=0.1"


@pytest.fixture
def root(tmp_path):
    """Two classes of 8 images to train on and 4 to validate on, each."""
    write_folder(tmp_path / "pets")
    return tmp_path / "pets"


def folder(root, options: str = "size=32") -> Folder:
    return image_folder(f"{root},{options}")


def trial(root, options: str, **fields) -> Trial:
    sizes = {"seq_len": 1, "val_seq_len": 1, "val_tokens": 8, "batch_size": 6, "tokens": 6 * 20, "device": "cpu"}
    given = {"optimizer": "scion", "lr": 2**-10, "model": "deit", "width": 16, "depth": 1, "initialization": "model"}
    return resolve(Trial(**given | sizes | {"data": f"folder:{root},size=32,{options}"} | fields))


def test_classes_are_the_folders_in_order_and_only_images_count(root):
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    data = folder(root)
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.validation)) == (16, 8)
    assert data.shape.input_shape == (3, 32, 32)
    assert data.shape.n_outputs == 2
    assert data.groups == ("cat", "dog")
    for part in (data.train, data.validation):
        assert [data.classes[label] for label in part.labels] == [path.split("/")[1] for path in part.paths]
    assert list(data.train.labels) != sorted(data.train.labels)


def test_the_middle_is_cut_out_of_the_shorter_side(tmp_path):
    drawn = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    image = Image.fromarray(drawn)
    assert np.array_equal(np.asarray(middle(image, 40, 40)), drawn[:, 10:50])
    assert np.array_equal(np.asarray(middle(image, 40, 32)), drawn[4:36, 14:46])
    smaller = image.resize((30, 20), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(middle(image, 20, 16)), np.asarray(smaller)[2:18, 7:23])
    assert middle(Image.fromarray(drawn[:1]), 32, 32).size == (32, 32)


def test_pixels_are_standardized_as_usual_for_imagenet(root):
    data = folder(root)
    pixels = data.validation_pixels(range(4))
    mean, deviation = (np.array(of)[:, None, None] for of in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected = (pixels / 255 - mean) / deviation
    inputs, targets = data.unpack(data.held_out(4, 1)[:4])
    assert np.allclose(inputs.numpy(), expected, atol=1e-6)
    assert targets.tolist() == data.validation.labels[:4].tolist()


def test_validation_images_are_read_in_parts_and_not_before(root):
    data = folder(root, "size=32,mixup=0.8")
    held = data.held_out(8, 1)
    assert len(held) == 8
    assert torch.equal(torch.cat(list(held.split(3))), held[:])
    assert data.unpack(held[:])[1].dtype == torch.int64
    shutil.rmtree(root / "val" / "dog")
    with pytest.raises(UserError, match=r"data: image '.*val/dog/.*' cannot be read: .*No such file"):
        list(held.split(8))


def test_the_score_of_parts_is_that_of_the_whole(root):
    one = trial(root, "views=1")
    data = data_of(one)
    model, _ = build(one, data.shape)
    passes = Passes(model, data, one)
    held = data.held_out(8, 1)
    whole, by_class = passes.validate(held)
    loss = torch.nn.functional.cross_entropy(model(data.unpack(held[:])[0]), data.unpack(held[:])[1])
    assert float(whole[0]) == pytest.approx(float(loss.detach()), rel=1e-5)
    assert by_class[:, 2].tolist() == [4, 4]


def test_an_image_comes_as_often_in_a_row_as_it_is_repeated_each_time_another(root):
    data = folder(root, "size=32,crop=random,repeat=3")
    batches = data.training(6, 1, seed=0)
    drawn = [batches.next_batch() for _ in range(16)]  # two passes of 48
    for batch in drawn:
        assert not torch.equal(batch[0], batch[1])
    indices = np.concatenate([batches._draw(1) // 3 for _ in range(48)]).reshape(16, 3)
    assert (indices == indices[:, :1]).all()
    assert sorted(indices[:, 0]) == list(range(16))
    assert batches.epochs == 3 * 3


@pytest.mark.parametrize("options", ["crop=random", "crop=random,flip=random,repeat=3", "randaugment=9", MIXED])
def test_batches_are_the_same_again_and_after_a_break(root, options):
    data = folder(root, f"size=32,{options}")
    whole, first, later = (data.training(6, 1, seed=3) for _ in range(3))
    expected = [whole.next_batch() for _ in range(9)]
    found = [first.next_batch() for _ in range(4)]
    later.load_state_dict(first.state_dict())
    found += [later.next_batch() for _ in range(5)]
    assert all(map(torch.equal, found, expected))


def test_a_run_on_everything_goes_on_after_a_break_bit_for_bit(root):
    mixed = trial(root, MIXED)
    data = data_of(mixed)
    whole, first, later = (training.Run(mixed, data) for _ in range(3))
    first.run_steps(7)
    later.load_state_dict(first.state_dict())
    for run in (whole, later):
        run.run_steps(20)
    found, expected = later.outcome().summary, whole.outcome().summary
    assert found["status"] == "ok"
    assert all(found[name] == expected[name] for name in ("train_loss", "val_loss", "val_accuracy", "epochs"))


def test_parts_of_a_batch_give_what_the_batch_gives(root):
    mixed = trial(root, MIXED)
    whole, parts = (training.train(mixed, data_of(mixed), micro_batch=size).summary for size in (0, 2))
    assert parts["micro_batch"] == 2
    assert parts["val_loss"] == pytest.approx(whole["val_loss"], rel=1e-3)  # the same up to rounding, in 20 steps


def test_the_identity_is_of_names_sizes_and_options(root):
    before = folder(root)
    assert folder(root).split_sha256 == before.split_sha256
    assert folder(root, "size=16").split_sha256 != before.split_sha256
    assert folder(root, "size=32,crop=random").split_sha256 != before.split_sha256
    (root / "train" / "cat" / "0.png").rename(root / "train" / "cat" / "renamed.png")
    assert folder(root).split_sha256 != before.split_sha256


def unreadable(root):
    (root / "train" / "cat" / "0.png").write_bytes(b"no image")


def without(path):
    return lambda root: shutil.rmtree(root / path)


def empty(root):
    for path in (root / "val" / "dog").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("."), "data: 'folder:.*' cannot be read: train: No such file or directory; it must be a folder that"),
        (without("val"), "data: 'folder:.*' cannot be read: val: No such file or directory; it must be a folder that"),
        (
            without("train/cat"),
            "data: 'folder:.*' is not allowed: train has 1 folders of classes, and two are the least",
        ),
        (without("val/cat"), "data: 'folder:.*' .* must have folders of the same classes, and 'cat' is in one of them"),
        (empty, "data: 'folder:.*' is not allowed: val/dog has no image, a file that ends in .jpg, .*"),
    ],
)
def test_what_is_no_folder_of_images_is_refused_in_one_sentence(root, spoil, message):
    spoil(root)
    with pytest.raises(UserError, match=message) as said:
        folder(root)
    assert "\n" not in str(said.value)


def test_an_image_that_cannot_be_read_is_named(root):
    unreadable(root)
    with pytest.raises(UserError, match=r"data: image '.*train/cat/0\.png' cannot be read: cannot identify image file"):
        folder(root).training(16, 1, seed=0).next_batch()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("enlarge=2", "data: option of .*: 'enlarge' is not known"),
        ("size=4", "data: option of .*: size: 4 is not allowed: .*greater than or equal to 8"),
        ("crop=left", "data: option of .*: crop: 'left' is not allowed: .*'middle' or 'random'"),
        ("randaugment=11", "data: option of .*: randaugment: 11 is not allowed: .*less than or equal to 10"),
        ("repeat=0", "data: option of .*: repeat: 0 is not allowed: .*greater than or equal to 1"),
    ],
)
def test_options_that_are_none_are_refused(root, options, message):
    with pytest.raises(UserError, match=message):
        load(f"folder:{root},{options}")


def test_more_validation_images_than_there_are_are_refused(root):
    with pytest.raises(UserError, match=r"data: 'folder:.*' has 8 validation images, too few for val_tokens 9"):
        folder(root).held_out(9, 1)
