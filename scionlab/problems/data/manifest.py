"""What a set of shards is: its files, its vocabulary, and which files are validated on.

A manifest is a JSON file beside the shards, written by `scionlab tokenize`. Its identity is a hash of what it says, the
SHA-256 of every file among it, so no file is read to know what the data are. Names of files and of the tokenizer do
not enter: the same tokens at another place are the same data.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scionlab.errors import UserError, from_validation
from scionlab.problems.data.shard_files import ShardFile

NAME = "manifest.json"
# Part of the identity. Raise it when trials see other windows, or see them in another order.
ORDER_VERSION = 1
# What a hash of blocks begins with, so that it is never taken for that of a whole file.
SAMPLED = "blocks-"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shard(_Value):
    """A file: its name, relative to the manifest's folder, its tokens and the hash of all its bytes."""

    name: str = Field(min_length=1)
    tokens: int = Field(gt=0, le=10**15)
    sha256: str = Field(pattern=rf"^({SAMPLED})?[0-9a-f]{{64}}$")
    header_bytes: int = Field(default=0, ge=0, le=2**20, description="bytes before the first token")


class Split(_Value):
    """Files in order; `text_bytes` and `documents` are of the text they were made of, None where it is not known."""

    files: tuple[Shard, ...] = Field(min_length=1)
    text_bytes: int | None = Field(default=None, gt=0)
    documents: int | None = Field(default=None, gt=0)

    @property
    def tokens(self) -> int:
        """Tokens of all files."""
        return sum(file.tokens for file in self.files)


class Manifest(_Value):
    """Shards for training and validation, all of one type. Tokens are below `vocabulary`; a model has `padded` outputs.

    `end_of_document` is the token after every document, None where there is none or it is not known.
    """

    version: Literal[1] = 1
    dtype: Literal["uint16", "uint32"]
    vocabulary: int = Field(gt=1, le=2**32)
    padded: int = Field(gt=1, le=2**33, description="`vocabulary`, rounded up to a multiple")
    end_of_document: int | None = Field(default=None, ge=0)
    tokenizer: str | None = None
    train: Split
    val: Split

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.padded < self.vocabulary:
            raise ValueError(f"padded: {self.padded} is less than the vocabulary of {self.vocabulary}")
        if self.end_of_document is not None and self.end_of_document >= self.vocabulary:
            raise ValueError(f"end_of_document: {self.end_of_document} is beyond the vocabulary of {self.vocabulary}")
        return self

    @cached_property
    def sha256(self) -> str:
        """Hash of what it says, names of files and of the tokenizer apart."""
        unnamed = {"files": {"__all__": {"name"}}}
        said = self.model_dump(mode="json", exclude={"tokenizer": True, "train": unnamed, "val": unnamed})
        return hashlib.sha256(json.dumps(said | {"order": ORDER_VERSION}, sort_keys=True).encode()).hexdigest()

    def files(self, split: Split, folder: Path) -> list[ShardFile]:
        """The files of a split of this manifest, which lies in `folder`; UserError unless they have their sizes."""
        found = [ShardFile(folder / file.name, self.dtype, file.tokens, file.header_bytes) for file in split.files]
        for file in found:
            file.check()
        return found

    def as_json(self) -> str:
        """The content of its file."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file; UserError where it cannot be read or is none."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise from_validation(error, f"data: manifest {str(path)!r}: ") from None
    except (OSError, ValueError) as error:
        raise UserError(f"data: {str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def padded(vocabulary: int, multiple: int) -> int:
    """The vocabulary, rounded up to a multiple."""
    return -(-vocabulary // multiple) * multiple
