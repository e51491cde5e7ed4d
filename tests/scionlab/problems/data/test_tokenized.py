"""Texts into shards: what was written is the text, equal documents are on one side, and nothing is left half."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_files import counting, headed, raw

from scionlab.errors import UserError
from scionlab.problems.data import load, shard_files, tokenized
from scionlab.problems.data.documents import documents, held_out
from scionlab.problems.data.manifest import read_manifest
from scionlab.problems.data.shards import token_shards
from scionlab.problems.data.tokenized import Asked, Writer, index, tokenize
from scionlab.problems.data.tokenizer import Bytes, FromTiktoken, tokenizer_of

PARAGRAPHS = [f"Paragraph {i} – of a text,\nwith {i * i} and ünïcode 𝄞.\n\n" for i in range(400)]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(PARAGRAPHS), encoding="utf-8")
    return path


def tokens_of(folder, split):
    files = getattr(read_manifest(folder / "manifest.json"), split).files
    dtype = read_manifest(folder / "manifest.json").dtype
    return np.concatenate([np.fromfile(folder / file.name, dtype) for file in files])


def decoded(tokens, end=256):
    """The documents of the tokenizer bytes."""
    return [bytes(part[part != end].tolist()) for part in np.split(tokens, np.flatnonzero(tokens == end) + 1)][:-1]


def test_bytes_in_shards_are_the_text(text, tmp_path):
    manifest = tokenize(Asked((text,), shard_tokens=1000), tmp_path / "shards")
    found = {split: decoded(tokens_of(tmp_path / "shards", split)) for split in ("train", "val")}
    expected = [paragraph.encode() for paragraph in PARAGRAPHS]
    assert sorted(found["train"] + found["val"]) == sorted(expected)
    for split in ("train", "val"):
        told = getattr(manifest, split)
        assert found[split] == [document for document in expected if held_out(document, 0.1) == (split == "val")]
        assert told.documents == len(found[split])
        assert told.text_bytes == sum(map(len, found[split]))
        assert told.tokens == told.text_bytes + told.documents  # every document has an end
        assert [file.tokens for file in told.files[:-1]] == [1000] * (len(told.files) - 1)
    assert len(manifest.train.files) > 10
    assert 0.04 < len(found["val"]) / 400 < 0.16  # of 400 at a tenth: four standard deviations
    assert (manifest.vocabulary, manifest.padded, manifest.end_of_document, manifest.dtype) == (257, 320, 256, "uint16")


def test_what_is_validated_on_is_what_path_validates_on(text, tmp_path):
    tokenize(Asked((text,)), tmp_path / "shards")
    corpus = load(f"path:{text}")
    for split, part in (("train", corpus.train), ("val", corpus.validation)):
        assert b"".join(decoded(tokens_of(tmp_path / "shards", split))) == part


def test_hashes_are_those_of_the_files_and_the_shards_can_be_trained_on(text, tmp_path):
    import hashlib

    manifest = tokenize(Asked((text,), shard_tokens=5000), tmp_path / "shards")
    for file in (*manifest.train.files, *manifest.val.files):
        assert hashlib.sha256((tmp_path / "shards" / file.name).read_bytes()).hexdigest() == file.sha256
    shards = token_shards(str(tmp_path / "shards"))
    assert shards.sha256 == manifest.sha256
    assert shards.shape.n_outputs == 320
    assert shards.bytes_per_token == manifest.val.text_bytes / manifest.val.tokens
    assert int(shards.training(4, 32, 0).next_batch().max()) <= 256


def test_the_same_texts_are_the_same_data_wherever_they_go(text, tmp_path):
    first, again = (tokenize(Asked((text,)), tmp_path / name) for name in ("one", "two"))
    assert first == again
    assert tokenize(Asked((text,), val_share=0.2), tmp_path / "three").sha256 != first.sha256
    assert tokenize(Asked((text,), multiple=128), tmp_path / "four").sha256 != first.sha256


def test_equal_documents_are_on_one_side(tmp_path):
    lines = [json.dumps({"text": text, "id": i}) for i, text in enumerate(PARAGRAPHS + PARAGRAPHS[::-1])]
    for name, part in (("a.jsonl", lines[:500]), ("b.jsonl", lines[500:])):
        (tmp_path / name).write_text("\n".join(part))
    tokenize(Asked((tmp_path / "a.jsonl", tmp_path / "b.jsonl")), tmp_path / "shards")
    train, val = (decoded(tokens_of(tmp_path / "shards", split)) for split in ("train", "val"))
    assert not set(train) & set(val)
    assert len(train) + len(val) == 800


def test_files_may_be_documents(tmp_path):
    paths = tuple(tmp_path / f"{i}.txt" for i in range(60))
    for path, text in zip(paths, PARAGRAPHS, strict=False):
        path.write_text(text * 2)
    assert list(documents(paths, "files")) == [(text * 2).encode() for text in PARAGRAPHS[:60]]
    assert len(list(documents(paths, "parts"))) > 60


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), shard_tokens=st.integers(1, 50))
def test_files_together_are_what_was_added(tmp_path_factory, lengths, shard_tokens):
    ends = np.cumsum(lengths).tolist()
    written = [list(range(end - length, end)) for end, length in zip(ends, lengths, strict=True)]
    folder = tmp_path_factory.mktemp("shards")
    writer = Writer(folder, "train", "uint16", shard_tokens)
    for tokens in written:
        writer.add(np.array(tokens), 1)
    files = writer.finished().files
    together = np.concatenate([np.fromfile(folder / file.name, np.uint16) for file in files])
    assert together.tolist() == [token for tokens in written for token in tokens]
    assert [file.tokens for file in files[:-1]] == [shard_tokens] * (len(files) - 1)
    assert len(list(folder.iterdir())) == len(files)


def test_a_trained_tokenizer_decodes_to_the_text(text, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    manifest = tokenize(Asked((text,), train=400), tmp_path / "shards")
    made = tokenizers.Tokenizer.from_file(str(tmp_path / "shards" / "tokenizer.json"))
    assert manifest.vocabulary == made.get_vocab_size() <= 400
    assert manifest.end_of_document == made.token_to_id("<|endoftext|>")
    train, val = (
        [document for document in map(str.encode, PARAGRAPHS) if held_out(document, 0.1) == wanted]
        for wanted in (False, True)
    )
    for split, expected in (("train", train), ("val", val)):
        tokens = tokens_of(tmp_path / "shards", split)
        told = getattr(manifest, split)
        assert told.text_bytes == sum(map(len, expected)) > 2 * told.tokens
        words = made.decode(tokens[tokens != manifest.end_of_document].tolist(), skip_special_tokens=False)
        assert words.encode() == b"".join(expected)
    again = tokenize(Asked((text,), tokenizer=str(tmp_path / "shards" / "tokenizer.json")), tmp_path / "again")
    assert again.sha256 == manifest.sha256


def test_a_tokenizer_is_trained_on_the_training_documents_alone(tmp_path):
    pytest.importorskip("tokenizers")
    to_train, to_validate = (
        [text for text in PARAGRAPHS if held_out(text.encode(), 0.1) == wanted] for wanted in (False, True)
    )
    half, made = to_train[::2] + to_validate, {}
    for name, texts in [("all", PARAGRAPHS), ("one", to_train + to_validate[:1]), ("half", half)]:
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
        tokenize(Asked((tmp_path / f"{name}.jsonl",), train=400), tmp_path / name)
        made[name] = (tmp_path / name / "tokenizer.json").read_text()
    assert made["all"] == made["one"] != made["half"]


def test_text_that_looks_like_a_special_token_is_text(tmp_path):
    pytest.importorskip("tokenizers")
    documents_ = [f"number {i} <|endoftext|> goes on" for i in range(100)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in documents_))
    manifest = tokenize(Asked((tmp_path / "a.jsonl",), train=300), tmp_path / "shards")
    ends = sum(
        int((tokens_of(tmp_path / "shards", split) == manifest.end_of_document).sum()) for split in ("train", "val")
    )
    assert ends == 100


def test_an_end_that_is_asked_for_is_taken(tmp_path, text):
    pytest.importorskip("tokenizers")
    tokenize(Asked((text,), train=300), tmp_path / "first")
    name = str(tmp_path / "first" / "tokenizer.json")
    assert tokenizer_of(name, "A").end == tokenizer_of(name).made.token_to_id("A") != tokenizer_of(name).end
    with pytest.raises(UserError, match="end: '<stop>' is not a token of this tokenizer"):
        tokenizer_of(name, "<stop>")


def test_an_encoding_of_tiktoken(tmp_path, text):
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"th": 256}
    encoding = tiktoken.Encoding(
        "small", pat_str=r"\w+|\W+", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 300}
    )
    made = FromTiktoken(encoding, "tiktoken:small")
    assert (made.vocabulary, made.end) == (301, 300)
    assert made.encode([b"the <|endoftext|>"])[0].tolist() == [256, *b"e <|endoftext|>"]


def test_what_tiktoken_is_asked_for(monkeypatch):
    """With a package of that name that says what it was asked."""

    class Encoding:
        n_vocab, eot_token = 1000, 999

        def encode_ordinary_batch(self, texts):
            return [[len(text)] for text in texts]

    def get_encoding(name):
        if name != "gpt2":
            raise ValueError(f"Unknown encoding {name}.\nand more")
        return Encoding()

    monkeypatch.setitem(sys.modules, "tiktoken", SimpleNamespace(get_encoding=get_encoding))
    made = tokenizer_of("tiktoken:gpt2")
    assert (made.name, made.vocabulary, made.end) == ("tiktoken:gpt2", 1000, 999)
    assert [ids.tolist() for ids in made.encode([b"abc", "ü".encode()])] == [[3], [1]]
    with pytest.raises(UserError, match=r"tokenizer: 'tiktoken:gpt3' cannot be had: Unknown encoding gpt3\.$"):
        tokenizer_of("tiktoken:gpt3")


@pytest.mark.parametrize(("name", "package"), [("tiktoken:gpt2", "tiktoken"), ("tokenizer.json", "tokenizers")])
def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    Path("tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=rf"needs the package {package}, .* run `pip install 'scionlab\[tokenize\]'`"):
        tokenizer_of(name)


def test_a_large_vocabulary_takes_uint32(text, tmp_path, monkeypatch):
    class Many(Bytes):
        vocabulary, end = 70_000, 69_999

    monkeypatch.setattr(tokenized, "tokenizer_of", lambda name, end: Many())
    manifest = tokenize(Asked((text,)), tmp_path / "shards")
    assert manifest.dtype == "uint32"
    assert tokens_of(tmp_path / "shards", "val").max() == 69_999


REFUSED = {
    "no file": ({"texts": ("gone.txt",)}, "texts: 'gone.txt' cannot be read: No such file"),
    "a folder": ({"texts": (".",)}, "texts: '.' cannot be read: Is a directory"),
    "no JSON": ({"texts": ("no.jsonl",)}, "texts: line 2 of 'no.jsonl' is no document"),
    "no text": ({"texts": ("none.jsonl",)}, "texts: line 1 of 'none.jsonl' is no document"),
    "nothing": ({"texts": ("empty.txt",)}, "texts: no document is for training"),
    "one document": ({"cut": "files"}, "texts: no document is for validation; give more text, or another val_share"),
    "a cut": ({"cut": "words"}, "documents: 'words' is not known"),
    "a share": ({"val_share": 1.0}, "val_share: 1.0 is not allowed"),
    "no tokenizer": ({"tokenizer": "bites"}, "tokenizer: 'bites' is not known; give bytes, the path of"),
    "no tokenizer's file": ({"tokenizer": "no.jsonl"}, "tokenizer: 'no.jsonl' cannot be read"),
    "an end": ({"end": "</s>"}, "end: '</s>' is not allowed with tokenizer 'bytes'"),
    "few": ({"train": 256}, "train: 256 is not allowed: every byte is a token, so 257 are the fewest"),
    "two tokenizers": ({"train": 300, "tokenizer": "x.json"}, "train: is not allowed with a tokenizer"),
    "not UTF-8": ({"texts": ("latin.txt",), "train": 300}, r"a document is not UTF-8, near b'caf\xe9"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(case, text, tmp_path, monkeypatch):
    changes, message = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    Path("no.jsonl").write_text('{"text": "good"}\n{"text"\n')
    Path("none.jsonl").write_text('{"content": "good"}\n')
    Path("empty.txt").write_bytes(b"")
    Path("latin.txt").write_bytes(b"caf\xe9\n\n" * 50)
    before = sorted(os.listdir())
    if "train" in changes or case == "no tokenizer's file":
        pytest.importorskip("tokenizers")
    asked = {**changes, "texts": tuple(map(Path, changes.get("texts", ("text.txt",))))}
    with pytest.raises(UserError) as refused:
        tokenize(Asked(**asked), Path("shards"))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sorted(os.listdir()) == before


def test_a_folder_that_has_something_is_left_alone(text, tmp_path):
    (tmp_path / "shards").mkdir()
    tokenize(Asked((text,)), tmp_path / "shards")
    content = (tmp_path / "shards" / "manifest.json").read_bytes()
    for asked in (Asked((text,)), replace(Asked((text,)), multiple=128)):
        with pytest.raises(UserError, match=r"to: .*shards' exists; name a folder that does not"):
            tokenize(asked, tmp_path / "shards")
    assert (tmp_path / "shards" / "manifest.json").read_bytes() == content


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_disk_without_room_is_a_sentence_and_leaves_nothing(text, tmp_path, monkeypatch):
    elsewhere = Path.open

    def onto_a_full_disk(path, mode="r", *how, **named):
        return elsewhere(Path("/dev/full") if path.suffix == ".bin" and "w" in mode else path, mode, *how, **named)

    monkeypatch.setattr(Path, "open", onto_a_full_disk)
    with pytest.raises(UserError, match=r"to: cannot write '.*shards': No space left on device"):
        tokenize(Asked((text,)), tmp_path / "shards")
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_shards_of_others_can_be_given_a_manifest(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    paths = [headed(folder / "x_train_1.bin", counting(3000)), headed(folder / "x_val_0.bin", counting(300))]
    manifest = index(paths, folder, {"multiple": "128"})
    assert (manifest.vocabulary, manifest.padded) == (50257, 50304)
    with_it, without = token_shards(str(folder)), token_shards(f"{folder}/*.bin,multiple=128")
    assert with_it.manifest == manifest
    assert with_it.sha256 != without.sha256  # of all bytes, and of blocks
    assert with_it.training(5, 16, 0).next_batch().equal(without.training(5, 16, 0).next_batch())
    elsewhere = index(paths, tmp_path, {"multiple": "128"})
    assert elsewhere.sha256 == manifest.sha256
    assert token_shards(str(tmp_path)).held_out(64, 16).equal(with_it.held_out(64, 16))
    with pytest.raises(UserError, match=r"manifest.json' exists; remove it, or name another folder"):
        index(paths, folder, {})


@pytest.mark.parametrize("place", [20_000, 10_757])  # the second just behind the beginning of a piece
@pytest.mark.parametrize("write", [raw, headed])
def test_a_manifest_is_refused_for_a_token_that_blocks_do_not_show(tmp_path, monkeypatch, write, place):
    monkeypatch.setattr(shard_files, "READ_BYTES", 2048)
    tokens = np.zeros(200_000, dtype=np.uint16)
    tokens[place] = 700
    write(tmp_path / "train.bin", tokens)
    write(tmp_path / "val.bin", np.zeros(9, dtype=np.uint16))
    assert token_shards(f"{tmp_path}/*.bin,vocabulary=700").shape.n_outputs == 700
    with pytest.raises(UserError, match=r"train.bin' has token 700, beyond the vocabulary of 700"):
        index([tmp_path / "train.bin", tmp_path / "val.bin"], tmp_path, {"vocabulary": "700"})
    assert not (tmp_path / "manifest.json").exists()
    assert index([tmp_path / "train.bin", tmp_path / "val.bin"], tmp_path, {"vocabulary": "701"}).vocabulary == 701
