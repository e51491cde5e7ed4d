"""Data by name. To add a source, write a function that gives a `Source`, and add its line to `SOURCES` (or to
`PREFIXES`, for a name that takes an argument).
"""

from collections.abc import Callable
from functools import lru_cache

from scionlab.data.base import Source
from scionlab.data.cifar import cifar10
from scionlab.data.corpus import TEXTS, text_file
from scionlab.data.images import IMAGES
from scionlab.data.noise import noise
from scionlab.errors import unknown

SOURCES: dict[str, Callable[[], Source]] = {**TEXTS, **IMAGES}
# What comes before the colon, how the rest is called, and what it gives.
PREFIXES: dict[str, tuple[str, Callable[[str], Source]]] = {
    "path": ("FILE", text_file),
    "cifar10": ("FOLDER", cifar10),
    "noise": ("KIND", noise),
}


@lru_cache(maxsize=4)
def load(data: str) -> Source:
    """The data called `data`: a name in `SOURCES`, or one of `PREFIXES` and its argument. Kept for the next trial."""
    prefix, colon, argument = data.partition(":")
    if colon and prefix in PREFIXES:
        return PREFIXES[prefix][1](argument)
    if data not in SOURCES:
        raise unknown("data", data, [*SOURCES, *(f"{name}:{what}" for name, (what, _) in PREFIXES.items())])
    return SOURCES[data]()
