"""Texts as documents, one after the other: lines of JSON, whole files, or the parts that `path:FILE` sees in one."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from scionlab.errors import UserError
from scionlab.problems.data.corpus import cut_documents, is_validation

JSON_LINES = ".jsonl"
CUTS = ("parts", "files")


def documents(paths: Iterable[Path], cut: str = "parts") -> Iterator[bytes]:
    """The documents of these files, in order; empty ones are left out.

    In a .jsonl file a document is the `text` of a line. Another file is one document with `cut` "files", and is cut as
    `path:FILE` is with "parts": at blank lines, or at line ends. UserError for a file or a line that cannot be read.
    """
    for path in paths:
        found = _lines(path) if path.suffix == JSON_LINES else _parts(path, cut)
        yield from (document for document in found if document)


def held_out(document: bytes, share: float) -> bool:
    """Whether a document is validated on, by its content: equal ones, blanks around them apart, are on one side."""
    return is_validation(hashlib.sha256(document.strip()).hexdigest(), share)


def _parts(path: Path, cut: str) -> Iterator[bytes]:
    try:
        text = path.read_bytes()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    yield from [text] if cut == "files" else cut_documents(text)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _document(path, number, line)
    except OSError as error:
        raise _unreadable(path, error) from None


def _document(path: Path, number: int, line: bytes) -> bytes:
    try:
        text = json.loads(line)["text"]
        return text.encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f'texts: line {number} of {str(path)!r} is no document; it must be a JSON object with {{"text": "…"}}'
        ) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"texts: {str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}")
