"""Files as the authors of the published runs have them, where presets look, with few tokens that come in circles."""

from pathlib import Path

import numpy as np
from token_files import headed, raw


def write_published(folder: Path) -> None:
    """data/fineweb10B and data/shakespeare_char in the folder: 3000 tokens to train on, 1000 to validate on, each."""
    fineweb, characters = folder / "data" / "fineweb10B", folder / "data" / "shakespeare_char"
    for made in (fineweb, characters):
        made.mkdir(parents=True)
    walk = np.random.default_rng(0).integers(1, 3, 4000).cumsum() % 60
    headed(fineweb / "fineweb_train_000001.bin", 50_000 + walk[:2000])
    headed(fineweb / "fineweb_train_000002.bin", 50_000 + walk[2000:3000])
    headed(fineweb / "fineweb_val_000000.bin", 50_000 + walk[3000:])
    raw(characters / "train.bin", walk[:3000])
    raw(characters / "val.bin", walk[3000:])
