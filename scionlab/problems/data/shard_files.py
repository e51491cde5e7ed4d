"""Files of tokens, as nanoGPT, modded-nanogpt and llm.c write them: whole numbers one after the other, little-endian.

nanoGPT writes uint16 alone. modded-nanogpt and llm.c write 256 int32 before them: a magic number that says the type, a
version, and how many tokens follow.
"""

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scionlab.errors import UserError

HEADER_BYTES = 1024
# By magic number: version, type, and the vocabulary of the tokenizer it stands for (GPT-2's, Llama 3's).
HEADERS = {20240520: (1, "uint16", 50257), 20240801: (7, "uint32", 128256)}
TYPES = ("uint16", "uint32")
# What is looked at of a file that has no manifest.
BLOCKS, BLOCK_BYTES = 8, 4096
# Every second half of tokens below 2^18, read as uint16, is less than this.
HIGH_HALVES = 4
READ_BYTES = 2**24


@dataclass(frozen=True)
class ShardFile:
    """A file of `tokens` tokens of a type, `uint16` or `uint32`, after `header_bytes` bytes."""

    path: Path
    dtype: str
    tokens: int
    header_bytes: int = 0

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.header_bytes + self.tokens * np.dtype(self.dtype).itemsize

    def check(self) -> None:
        """UserError unless the file is there and has its size."""
        found = size_of(self.path)
        if found != self.size:
            raise UserError(
                f"data: {str(self.path)!r} has {found:,} bytes, but {self.tokens:,} tokens of {self.dtype} after "
                f"{self.header_bytes} bytes take {self.size:,}; it was cut or changed"
            )

    def view(self) -> np.ndarray:
        """The tokens, (tokens,), mapped: pages are read when they are used, and let go with the array.

        UserError where the file has gone or become shorter.
        """
        try:
            with self.path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: longer than the file
            raise UserError(f"data: {str(self.path)!r} cannot be read: {_why(error)}") from None
        if hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_RANDOM)  # of a cold file, read the pages of a window, and not those around it
        return np.frombuffer(mapped, np.dtype(self.dtype).newbyteorder("<"), self.tokens, self.header_bytes)

    def refuse_beyond(self, tokens: np.ndarray, vocabulary: int) -> None:
        """UserError where one of these tokens of the file is not below `vocabulary`."""
        largest = int(tokens.max(initial=0))
        if largest >= vocabulary:
            raise UserError(
                f"data: {str(self.path)!r} has token {largest}, beyond the vocabulary of {vocabulary}; it is of "
                f"another tokenizer, or of another type than {self.dtype}"
            )

    def sampled(self) -> tuple[str, np.ndarray]:
        """A hash of the size and of BLOCKS blocks, from the first to the last, and the tokens of these blocks."""
        tokens, per = self.view(), BLOCK_BYTES // np.dtype(self.dtype).itemsize
        starts = np.unique(np.linspace(0, max(0, self.tokens - per), BLOCKS).astype(np.int64) // 2 * 2)
        seen = np.concatenate([tokens[start : start + per] for start in starts.tolist()])
        digest = hashlib.sha256(f"{self.dtype} {self.tokens} {self.header_bytes} {starts.tolist()}".encode())
        digest.update(np.ascontiguousarray(seen).data)
        return digest.hexdigest(), seen


def size_of(path: Path) -> int:
    """Bytes of a file; UserError where there is none."""
    try:
        found = path.stat().st_size
    except (OSError, ValueError) as error:
        raise UserError(f"data: {str(path)!r} cannot be read: {_why(error)}") from None
    if path.is_dir():
        raise UserError(f"data: {str(path)!r} cannot be read: it is a folder")
    return found


def detected(path: Path, dtype: str | None) -> tuple[ShardFile, int | None]:
    """What a file is by its first bytes and its size, and the vocabulary that its header stands for, if it has one.

    Without a header it is `dtype`, or uint16 for None. UserError where the file is empty, of another type, or has not
    the size that its header says.
    """
    size, magic, version, count = size_of(path), 0, 0, 0
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
    except OSError as error:
        raise UserError(f"data: {str(path)!r} cannot be read: {_why(error)}") from None
    if len(head) == HEADER_BYTES:
        magic, version, count = np.frombuffer(head, "<i4", 3).tolist()
    if magic not in HEADERS:
        return _raw(path, size, dtype or "uint16"), None
    expected, found, vocabulary = HEADERS[magic]
    if version != expected:
        raise UserError(f"data: {str(path)!r} has a header of version {version}; only {expected} is known")
    if dtype not in (None, found):
        raise UserError(f"data: dtype={dtype} is not allowed: the header of {str(path)!r} says {found}")
    file_ = ShardFile(path, found, max(0, count), HEADER_BYTES)
    if count < 1 or file_.size != size:
        raise UserError(
            f"data: {str(path)!r} has a header that says {count:,} tokens of {found}, but {size - HEADER_BYTES:,} "
            "bytes follow; it was cut or changed"
        )
    return file_, vocabulary


def _raw(path: Path, size: int, dtype: str) -> ShardFile:
    each = np.dtype(dtype).itemsize
    if not size:
        raise UserError(f"data: {str(path)!r} is empty; it must hold tokens")
    if size % each:
        raise UserError(f"data: {str(path)!r} has {size:,} bytes, which are not whole numbers of {dtype}")
    return ShardFile(path, dtype, size // each)


def looks_like_uint32(seen: np.ndarray) -> bool:
    """Whether blocks read as uint16 are the halves of larger numbers: every second one next to nothing, others not."""
    pairs = seen[: len(seen) // 2 * 2].reshape(-1, 2)
    return len(pairs) >= 32 and bool((pairs[:, 1] < HIGH_HALVES).all()) and bool((pairs[:, 0] >= HIGH_HALVES).any())


def pieces(path: Path) -> Iterator[bytes]:
    """The whole file, READ_BYTES at a time; UserError where it cannot be read."""
    try:
        with path.open("rb") as file:
            while piece := file.read(READ_BYTES):
                yield piece
    except OSError as error:
        raise UserError(f"data: {str(path)!r} cannot be read: {_why(error)}") from None


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
