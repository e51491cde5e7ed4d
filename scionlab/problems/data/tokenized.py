"""From texts to shards with a manifest: what `scionlab tokenize` does.

Shards and manifest are written into a folder beside the one that is asked for, which takes its name at the end: it is
there whole, or not at all. Texts are read one file at a time.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from scionlab.errors import UserError, unknown
from scionlab.problems.data.documents import CUTS, documents, held_out
from scionlab.problems.data.manifest import NAME, Manifest, Shard, Split, padded
from scionlab.problems.data.shard_files import ShardFile, pieces
from scionlab.problems.data.shards import derived
from scionlab.problems.data.tokenizer import Tokenizer, tokenizer_of, trained

# Documents are encoded together until they are so many bytes.
BATCH_BYTES = 2**22
SHARD_TOKENS = 10**8  # as modded-nanogpt's


@dataclass(frozen=True)
class Asked:
    """What is asked for. `train` is the vocabulary of a tokenizer to be trained on the training documents, 0 for none.

    `cut` is how files become documents (`documents`), `val_share` the share of documents that are validated on, `end`
    the text of the token after a document, and the vocabulary is padded to a multiple of `multiple`.
    """

    texts: tuple[Path, ...]
    tokenizer: str = "bytes"
    train: int = 0
    end: str | None = None
    cut: str = "parts"
    val_share: float = 0.1
    multiple: int = 64
    shard_tokens: int = SHARD_TOKENS

    def __post_init__(self) -> None:
        if self.cut not in CUTS:
            raise unknown("documents", self.cut, CUTS)
        if not 0 < self.val_share < 1:
            raise UserError(f"val_share: {self.val_share} is not allowed: it must be above 0 and below 1")
        if self.train and (self.tokenizer, self.end) != ("bytes", None):
            raise UserError("train: is not allowed with a tokenizer or an end; a trained one is new, and has its own")

    def documents(self, split: bool | None = None) -> Iterator[bytes]:
        """All documents, or those that are (True) or are not (False) validated on."""
        for document in documents(self.texts, self.cut):
            if split is None or held_out(document, self.val_share) == split:
                yield document


class Writer:
    """Writes the files of one split into a folder."""

    def __init__(self, folder: Path, split: str, dtype: str, shard_tokens: int) -> None:
        self.folder, self.split, self.dtype, self.shard_tokens = folder, split, dtype, shard_tokens
        self.shards: list[Shard] = []
        self.text_bytes = self.documents = self._tokens = 0
        self._file: IO[bytes] | None = None

    def add(self, tokens: np.ndarray, text_bytes: int) -> None:
        """A document's tokens, its end among them, made of so many bytes of text."""
        self.text_bytes, self.documents = self.text_bytes + text_bytes, self.documents + 1
        while len(tokens):
            if self._file is None:
                self._name = f"{self.split}_{len(self.shards):06d}.bin"
                self._file, self._digest, self._tokens = (self.folder / self._name).open("wb"), hashlib.sha256(), 0
            part, tokens = np.split(tokens, [self.shard_tokens - self._tokens])
            content = part.astype(np.dtype(self.dtype).newbyteorder("<")).tobytes()
            self._file.write(content)
            self._digest.update(content)
            self._tokens += len(part)
            if self._tokens == self.shard_tokens:
                self._end()

    def _end(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
        self.shards.append(Shard(name=self._name, tokens=self._tokens, sha256=self._digest.hexdigest()))

    def close(self) -> None:
        """Leave the file under way as it is."""
        if self._file is not None:
            self._file.close()

    def finished(self) -> Split:
        """What was written, the file under way the last; UserError where that is nothing."""
        if self._file is not None:
            self._end()
        if not self.shards:
            what = "validation" if self.split == "val" else "training"
            raise UserError(f"texts: no document is for {what}; give more text, or another val_share")
        return Split(files=tuple(self.shards), text_bytes=self.text_bytes, documents=self.documents)


def tokenize(asked: Asked, to: Path) -> Manifest:
    """Write the shards of `asked` and their manifest as the folder `to`, whole or not at all.

    UserError where that exists and is not empty, where a text cannot be read, and where nothing can be written.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"to: {str(to)!r} exists; name a folder that does not")
    made = trained(asked.documents(False), asked.train) if asked.train else tokenizer_of(asked.tokenizer, asked.end)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=".scionlab-") as beside:
            folder = Path(beside, to.name)
            folder.mkdir()
            manifest = _written(asked, made, folder)
            made.save(folder)
            (folder / NAME).write_text(manifest.as_json())
            os.rename(folder, to)
    except OSError as error:
        raise UserError(f"to: cannot write {str(to)!r}: {error.strerror or error}") from None
    return manifest


def _written(asked: Asked, made: Tokenizer, folder: Path) -> Manifest:
    dtype = "uint16" if made.vocabulary <= 2**16 else "uint32"
    writers = [Writer(folder, split, dtype, asked.shard_tokens) for split in ("train", "val")]
    with ExitStack() as left:
        for writer in writers:
            left.callback(writer.close)
        for batch in _batches(asked.documents()):
            for document, tokens in zip(batch, made.encode(batch), strict=True):
                whole = tokens if made.end is None else np.append(tokens.astype(np.int64), made.end)
                writers[held_out(document, asked.val_share)].add(whole, len(document))
        train, val = (writer.finished() for writer in writers)
    return Manifest(
        dtype="uint16" if dtype == "uint16" else "uint32",
        vocabulary=made.vocabulary,
        padded=padded(made.vocabulary, asked.multiple),
        end_of_document=made.end,
        tokenizer=made.name,
        train=train,
        val=val,
    )


def _batches(found: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch, size = list[bytes](), 0
    for document in found:
        batch.append(document)
        size += len(document)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def index(paths: Sequence[Path], to: Path, options: dict[str, str]) -> Manifest:
    """Write into the folder `to` a manifest of shards that are there: every file is read, once and for all.

    `options` are those of `tokens:GLOB`. UserError for what `derived` refuses, for a token beyond the vocabulary, and
    where the folder has a manifest, or cannot be written.
    """
    path = to / NAME
    if path.exists():
        raise UserError(f"to: {str(path)!r} exists; remove it, or name another folder")
    found = derived("texts", paths, options)
    splits = {
        name: split.model_copy(update={"files": tuple(_read(found, shard, to) for shard in split.files)})
        for name, split in (("train", found.train), ("val", found.val))
    }
    manifest = found.model_copy(update=splits)
    try:
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to, prefix=".scionlab-") as beside:
            Path(beside, NAME).write_text(manifest.as_json())
            os.replace(Path(beside, NAME), path)
    except OSError as error:
        raise UserError(f"to: cannot write {str(path)!r}: {error.strerror or error}") from None
    return manifest


def _read(manifest: Manifest, shard: Shard, to: Path) -> Shard:
    """The shard with the hash of all its bytes, and its name from the manifest's folder; all tokens are looked at."""
    file = ShardFile(Path(shard.name), manifest.dtype, shard.tokens, shard.header_bytes)
    digest, skipped = hashlib.sha256(), shard.header_bytes
    for piece in pieces(file.path):
        digest.update(piece)
        file.refuse_beyond(
            np.frombuffer(piece[skipped:], np.dtype(manifest.dtype).newbyteorder("<")), manifest.vocabulary
        )
        skipped = 0
    return shard.model_copy(update={"name": os.path.relpath(shard.name, to), "sha256": digest.hexdigest()})
