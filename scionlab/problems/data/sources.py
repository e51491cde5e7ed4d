"""Data by name. To add a source, write a function that gives a `Source`, and add its line to `SOURCES` (or to
`PREFIXES`, for a name that takes an argument). Other names with a colon are functions of the caller's own.
"""

from collections.abc import Callable
from functools import lru_cache

from scionlab.errors import unknown
from scionlab.problems.data.base import Sizes, Source
from scionlab.problems.data.cifar import cifar10
from scionlab.problems.data.corpus import TEXTS, text_file
from scionlab.problems.data.folder import image_folder
from scionlab.problems.data.image_problem import with_options
from scionlab.problems.data.images import IMAGES, StoredOptions
from scionlab.problems.data.noise import noise
from scionlab.problems.data.own import own_data
from scionlab.problems.data.shards import token_shards

SOURCES: dict[str, Callable[[], Source]] = {**TEXTS, **IMAGES}
# What comes before the colon, how the rest is called, and what it gives.
PREFIXES: dict[str, tuple[str, Callable[[str], Source]]] = {
    "path": ("FILE", text_file),
    "tokens": ("GLOB", token_shards),
    "cifar10": ("FOLDER", cifar10),
    "folder": ("PATH", image_folder),
    "noise": ("KIND", noise),
}


@lru_cache(maxsize=4)
def load(data: str) -> Source:
    """The data called `data`: a name in `SOURCES`, or one of `PREFIXES` and its argument. Kept for the next trial."""
    prefix, colon, argument = data.partition(":")
    if colon and prefix in PREFIXES:
        return PREFIXES[prefix][1](argument)
    if is_own(data):
        return own_data(data)
    if (name := data.partition(",")[0]) in IMAGES and name != data:
        name, options = with_options(data, StoredOptions)
        return IMAGES[name]().with_options(data, options)
    if data not in SOURCES:
        names = [*SOURCES, *(f"{name}:{what}" for name, (what, _) in PREFIXES.items()), "MODULE:FUNCTION"]
        raise unknown("data", data, names)
    return SOURCES[data]()


def is_own(data: str) -> bool:
    """Whether the name is that of data of the caller's own, MODULE:FUNCTION."""
    prefix, colon, path = data.partition(":")
    return bool(colon) and prefix not in PREFIXES and all(part.isidentifier() for part in f"{prefix}.{path}".split("."))


@lru_cache(maxsize=64)
def load_sized(data: str, sizes: Sizes) -> Source:
    """The data called `data` as trials of these sizes see them. Kept for the next trial."""
    return load(data).sized(sizes)
