"""Files as the authors of the published runs have them, where presets look, with few tokens that come in circles."""

from pathlib import Path

import numpy as np
from PIL import Image
from token_files import headed, raw


def write_published(folder: Path) -> None:
    """What presets for GPUs read, in the folder's data/: fineweb10B, shakespeare_char, cifar-10 and imagenet.

    Texts have 3000 tokens to train on and 1000 to validate on, each.
    """
    write_cifar(folder / "data" / "cifar-10")
    write_folder(folder / "data" / "imagenet")
    fineweb, characters = folder / "data" / "fineweb10B", folder / "data" / "shakespeare_char"
    for made in (fineweb, characters):
        made.mkdir(parents=True)
    walk = np.random.default_rng(0).integers(1, 3, 4000).cumsum() % 60
    headed(fineweb / "fineweb_train_000001.bin", 50_000 + walk[:2000])
    headed(fineweb / "fineweb_train_000002.bin", 50_000 + walk[2000:3000])
    headed(fineweb / "fineweb_val_000000.bin", 50_000 + walk[3000:])
    raw(characters / "train.bin", walk[:3000])
    raw(characters / "val.bin", walk[3000:])


def write_cifar(folder: Path, count: int = 40) -> None:
    """The binary version of CIFAR-10 with `count` images a batch: of every class a noisy picture of its own."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (10, 3 * 32 * 32))
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        labels = np.arange(count) % 10
        pixels = (pictures[labels] + random.integers(-20, 21, (count, 3 * 32 * 32))).clip(0, 255)
        np.concatenate([labels[:, None], pixels], axis=1).astype(np.uint8).tofile(folder / f"{name}.bin")


def write_folder(folder: Path) -> None:
    """Images of two classes in train and val, 8 and 4 of each, of many shapes: bright ones and dark ones."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for name, middle in (("cat", 60), ("dog", 190)):
            (folder / split / name).mkdir(parents=True)
            for n in range(count):
                high, wide = random.integers(36, 60, 2)
                pixels = (middle + random.integers(-60, 61, (high, wide, 3))).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{n}.png")
