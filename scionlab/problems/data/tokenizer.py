"""Tokenizers by name: bytes (built in), a tokenizer.json of the package `tokenizers`, an encoding of `tiktoken`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from scionlab.errors import UserError
from scionlab.problems.data.packages import imported

INSTALL = "pip install 'scionlab[tokenize]'"
TIKTOKEN = "tiktoken:"
TRAINED = "tokenizer.json"
END = "<|endoftext|>"
# Where nothing else is said, the first of these that a tokenizer has ends documents.
ENDS = (END, "<|end_of_text|>", "</s>", "<eos>")
LEAST_TRAINED = 257  # every byte, and the end of a document


class Tokenizer(ABC):
    """`encode` gives numbers below `vocabulary`; `end` is the token after a document, None where there is none."""

    name: str
    vocabulary: int
    end: int | None

    @abstractmethod
    def encode(self, documents: Sequence[bytes]) -> list[np.ndarray]:
        """The tokens of each document, without its end; text that looks like a special token is text."""

    def save(self, folder: Path) -> None:
        """Leave in the folder what is needed to decode its tokens; nothing, where the name says it."""
        return


class Bytes(Tokenizer):
    """Every byte is a token; 256 ends a document."""

    name, vocabulary, end = "bytes", 257, 256

    def encode(self, documents: Sequence[bytes]) -> list[np.ndarray]:
        """The bytes."""
        return [np.frombuffer(document, dtype=np.uint8) for document in documents]


class FromJson(Tokenizer):
    """A tokenizer of the package `tokenizers`; `end` is the text of the token after a document, None for a usual one.

    What it does about length, to cut and to fill up, is left out.
    """

    name = TRAINED

    def __init__(self, made: Any, end: str | None) -> None:
        made.no_truncation()
        made.no_padding()
        self.made = made
        known = made.get_vocab(with_added_tokens=True)
        self.vocabulary = max(known.values()) + 1
        self.end = _end(known, end)
        made.encode_special_tokens = True  # as ordinary text, where a document has them

    def encode(self, documents: Sequence[bytes]) -> list[np.ndarray]:
        """By `encode_batch`, without what models want around a text."""
        found = self.made.encode_batch(_texts(documents), add_special_tokens=False)
        return [np.array(one.ids, dtype=np.int64) for one in found]

    def save(self, folder: Path) -> None:
        """As tokenizer.json."""
        (folder / TRAINED).write_text(self.made.to_str(), encoding="utf-8")


class FromTiktoken(Tokenizer):
    """An encoding of `tiktoken`; its end of text ends a document."""

    def __init__(self, encoding: Any, name: str) -> None:
        self.encoding, self.name, self.vocabulary = encoding, name, encoding.n_vocab
        try:
            self.end = encoding.eot_token
        except KeyError:
            self.end = None

    def encode(self, documents: Sequence[bytes]) -> list[np.ndarray]:
        """By `encode_ordinary_batch`."""
        found = self.encoding.encode_ordinary_batch(_texts(documents))
        return [np.array(ids, dtype=np.int64) for ids in found]


def tokenizer_of(name: str, end: str | None = None) -> Tokenizer:
    """`bytes`, the path of a tokenizer.json, or tiktoken:ENCODING; `end` is the text of the token after a document.

    UserError where it cannot be had. `tiktoken` may fetch an encoding from the network when it is first used.
    """
    if name == "bytes":
        _no_end(name, end)
        return Bytes()
    if name.startswith(TIKTOKEN):
        _no_end(name, end)
        tiktoken = _package("tiktoken", name)
        try:
            return FromTiktoken(tiktoken.get_encoding(name.removeprefix(TIKTOKEN)), name)
        except Exception as error:  # an unknown name, or whatever its download raises
            raise UserError(f"tokenizer: {name!r} cannot be had: {_first(error)}") from None
    if not Path(name).is_file():
        raise UserError(
            f"tokenizer: {name!r} is not known; give bytes, the path of a tokenizer.json, or tiktoken:ENCODING"
        )
    tokenizers = _package("tokenizers", name)
    try:
        made = tokenizers.Tokenizer.from_file(name)
    except Exception as error:  # the package raises plain ones
        raise UserError(f"tokenizer: {name!r} cannot be read: {_first(error)}") from None
    return FromJson(made, end)


def trained(documents: Iterable[bytes], vocabulary: int) -> Tokenizer:
    """A tokenizer of byte pairs, trained on these documents, with END as the token after each.

    It has `vocabulary` tokens, or fewer where the text has no more pairs. UserError for fewer than every byte needs.
    """
    if vocabulary < LEAST_TRAINED:
        raise UserError(f"train: {vocabulary} is not allowed: every byte is a token, so {LEAST_TRAINED} are the fewest")
    tokenizers = _package("tokenizers", "--train")
    from_bytes = tokenizers.pre_tokenizers.ByteLevel
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer, made.decoder = from_bytes(add_prefix_space=False), tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=from_bytes.alphabet(), show_progress=False
    )
    made.train_from_iterator((_text(document) for document in documents), trainer)
    return FromJson(made, END)


def _end(known: dict[str, int], end: str | None) -> int | None:
    if end is not None and end not in known:
        raise UserError(f"end: {end!r} is not a token of this tokenizer")
    return next((known[name] for name in ([end] if end is not None else ENDS) if name in known), None)


def _no_end(name: str, end: str | None) -> None:
    if end is not None:
        raise UserError(f"end: {end!r} is not allowed with tokenizer {name!r}, which has its own")


def _texts(documents: Sequence[bytes]) -> list[str]:
    return [_text(document) for document in documents]


def _text(document: bytes) -> str:
    try:
        return document.decode()
    except UnicodeDecodeError as error:
        around = document[max(0, error.start - 10) : error.start + 10]
        raise UserError(f"texts: a document is not UTF-8, near {around!r}; only the tokenizer bytes takes it") from None


def _package(package: str, name: str) -> ModuleType:
    return imported(f"tokenizer: {name!r}", package, INSTALL)


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
