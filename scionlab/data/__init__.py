"""Data: sources by name (texts, images, noise) and the batches trials are trained and validated on.

To add one, write a function that gives a `Source` and add its line to `sources.SOURCES`.
"""

from scionlab.data.base import Batches, DataShape, Source
from scionlab.data.images import Images
from scionlab.data.noise import Noise
from scionlab.data.sources import load
from scionlab.data.windows import VOCAB_SIZE, Corpus, TrainingWindows, probe_windows, validation_windows

__all__ = [
    "VOCAB_SIZE",
    "Batches",
    "Corpus",
    "DataShape",
    "Images",
    "Noise",
    "Source",
    "TrainingWindows",
    "load",
    "probe_windows",
    "validation_windows",
]
