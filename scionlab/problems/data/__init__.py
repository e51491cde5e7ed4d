"""Data: sources by name (texts, tokens, images, noise) and the batches trials are trained and validated on.

To add one, write a function that gives a `Source` and add its line to `sources.SOURCES`.
"""

from scionlab.problems.data.base import Batches, DataShape, Examples, PerExample, Sizes, Source
from scionlab.problems.data.images import Images
from scionlab.problems.data.manifest import Manifest
from scionlab.problems.data.noise import Noise
from scionlab.problems.data.shards import TokenShards
from scionlab.problems.data.sources import is_own, load, load_sized
from scionlab.problems.data.windows import VOCAB_SIZE, Corpus, TrainingWindows, probe_windows, validation_windows

__all__ = [
    "VOCAB_SIZE",
    "Batches",
    "Corpus",
    "DataShape",
    "Examples",
    "Images",
    "Manifest",
    "Noise",
    "PerExample",
    "Sizes",
    "Source",
    "TokenShards",
    "TrainingWindows",
    "is_own",
    "load",
    "load_sized",
    "probe_windows",
    "validation_windows",
]
