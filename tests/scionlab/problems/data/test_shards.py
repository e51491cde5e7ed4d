"""Shards: formats of other projects, windows, orders, identity, and what is refused."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from token_files import counting, headed, raw

from scionlab.errors import UserError
from scionlab.problems.data import DataShape
from scionlab.problems.data.manifest import Manifest, read_manifest
from scionlab.problems.data.shards import token_shards

WRITERS = {
    "nanogpt": (raw, ",vocabulary=50257"),
    "modded-nanogpt": (headed, ""),
    "raw uint32": (lambda path, tokens: raw(path, tokens, "uint32"), ",dtype=uint32,vocabulary=128256"),
    "llm.c uint32": (lambda path, tokens: headed(path, tokens, "uint32"), ""),
}


@pytest.fixture
def folder(tmp_path):
    """Two training files and one for validation, in the format of modded-nanogpt."""
    headed(tmp_path / "text_train_000001.bin", counting(1001))
    headed(tmp_path / "text_train_000002.bin", counting(505, start=20_000))
    headed(tmp_path / "text_val_000000.bin", counting(400, start=40_000))
    return tmp_path


def manifest_of(folder, **changes):
    """A manifest of the folder's files, as a dictionary; `changes` replace what it says."""

    def files(word):
        return [
            {
                "name": path.name,
                "tokens": path.stat().st_size // 2 - 512,
                "sha256": f"{i:064x}",
                "header_bytes": 1024,
            }
            for i, path in enumerate(sorted(folder.glob(f"*{word}*.bin")))
        ]

    said = {"version": 1, "dtype": "uint16", "vocabulary": 50257, "padded": 50304}
    splits = {"train": {"files": files("train")}, "val": {"files": files("val"), "text_bytes": 1000}}
    return said | splits | changes


def with_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest_of(folder, **changes)))
    return path


@pytest.mark.parametrize("writer", WRITERS)
def test_files_of_other_projects_are_read(tmp_path, writer):
    write, options = WRITERS[writer]
    tokens, held = np.random.default_rng(0).integers(0, 50_000, (2, 300))
    write(tmp_path / "train.bin", tokens)
    write(tmp_path / "val.bin", held)
    shards = token_shards(f"{tmp_path}/*.bin{options}")
    assert shards.manifest.train.tokens == shards.manifest.val.tokens == 300
    assert shards.shape == DataShape("text", 128256 if "uint32" in writer else 50257)
    batch = shards.training(9, 32, seed=0).next_batch()  # (300 - 1) // 32 windows: all of them
    slices = [tokens[start : start + 33].tolist() for start in range(0, 9 * 32, 32)]
    assert sorted(batch.tolist()) == sorted(slices)
    assert batch.dtype == torch.int64
    assert shards.held_out(96, 32).tolist() == [held[start : start + 33].tolist() for start in (0, 96, 192)]


def test_every_window_comes_once_an_epoch_and_lies_within_a_file(folder):
    batches = token_shards(str(folder)).training(7, 50, seed=3)
    assert batches.n_windows == 20 + 10
    drawn = torch.cat([batches.next_batch() for _ in range(30)])
    assert torch.equal(drawn[:, 1:], drawn[:, :-1] + 1)  # both files count upwards, and there is a gap between them
    starts = drawn[:, 0].tolist()
    expected = [*range(0, 1000, 50), *range(20_000, 20_500, 50)]
    epochs = [starts[30 * i : 30 * i + 30] for i in range(7)]
    assert all(sorted(epoch) == expected for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 7
    assert batches.epochs == 7


@pytest.mark.parametrize("count", [20, 200_001])  # with an order that is an array, and one that is computed
def test_the_order_follows_from_seed_and_stage_and_can_be_gone_on_with(tmp_path, count):
    headed(tmp_path / "train.bin", counting(2 * count + 1))
    headed(tmp_path / "val.bin", counting(10))
    shards = token_shards(f"{tmp_path}")

    def drawn(batches, steps=7):
        return torch.cat([batches.next_batch() for _ in range(steps)]).tolist()

    first, other_seed, other_stage = (drawn(shards.training(8, 2, *which)) for which in [(1,), (2,), (1, 1)])
    assert drawn(shards.training(8, 2, 1)) == first
    assert len({str(first), str(other_seed), str(other_stage)}) == 3
    for steps in (0, 1, 4, 6):
        batches = shards.training(8, 2, 1)
        drawn(batches, steps) if steps else None
        again = token_shards(f"{tmp_path}").training(8, 2, 1)
        again.load_state_dict(batches.state_dict())
        assert again.epochs == batches.epochs
        assert drawn(again, 7) == drawn(batches, 7)


def test_a_batch_may_change_its_size(folder):
    shards = token_shards(str(folder))
    batches = shards.training(3, 50, 0)
    drawn = batches.next_batch().tolist()
    batches.batch_size = 5
    drawn += batches.next_batch().tolist()
    assert drawn == shards.training(8, 50, 0).next_batch().tolist()


def test_a_limit_keeps_the_same_windows_for_all_seeds(folder):
    shards = token_shards(str(folder))

    def kept(limit, seed=0):
        batches = shards.training(1, 50, seed, limit=limit)
        return {batches.next_batch()[0, 0].item() for _ in range(batches.n_windows)}

    assert shards.training(1, 50, 0, limit=549).n_windows == 10
    assert kept(500) == kept(500, seed=1) < kept(1000)
    assert len(kept(500)) == 10
    assert kept(0) == kept(1500) == kept(10**9)
    with pytest.raises(UserError, match="train_limit: 49 is not allowed: it is less than one window of seq_len 50"):
        shards.training(1, 50, 0, limit=49)


def test_windows_to_validate_and_to_probe_on_are_fixed(folder):
    shards = token_shards(str(folder))
    assert shards.held_out(190, 19)[:, 0].tolist() == [40_000 + 19 * (21 * i // 10) for i in range(10)]  # of 21
    probe = shards.probe(8, 50)
    assert len(set(probe[:, 0].tolist())) == 8
    assert torch.equal(probe, token_shards(str(folder)).probe(8, 50))
    assert len(shards.probe(8, 50, 10**6)) == 30


def test_the_loss_is_cross_entropy_over_all_outputs(folder):
    shards = token_shards(f"{folder}/*.bin,multiple=128")
    assert shards.shape.n_outputs == 50304  # modded-nanogpt's
    inputs, targets = shards.unpack(shards.held_out(16, 8))
    assert torch.equal(targets, inputs + 1)
    logits = torch.randn(2, 8, 50304, generator=torch.Generator().manual_seed(0))
    chances = logits.double().softmax(-1).gather(-1, targets[..., None])
    assert float(shards.loss(logits, targets)) == pytest.approx(float(-chances.log().mean()), rel=1e-6)
    assert float(shards.loss(torch.zeros(2, 8, 50304), targets)) == pytest.approx(np.log(50304), rel=1e-6)
    unpadded = logits[..., :50257]
    assert torch.equal(shards.loss(unpadded, targets), F.cross_entropy(unpadded.flatten(0, 1), targets.flatten()))
    with pytest.raises(UserError, match=r"tells 256 tokens apart, but the vocabulary .* has 50257 \(padded: 50304\)"):
        shards.loss(logits[..., :256], targets)


def test_a_manifest_is_read_from_its_file_or_its_folder(folder):
    path = with_manifest(folder)
    for name in (str(path), str(folder)):
        shards = token_shards(name)
        assert shards.sha256 == shards.split_sha256 == read_manifest(path).sha256
        assert shards.shape.n_outputs == 50304
        assert shards.bytes_per_token == 1000 / 400
    assert token_shards(f"{folder}/*.bin").bytes_per_token is None


def test_identity_is_the_manifests_and_not_the_paths(folder, tmp_path_factory):
    shards = token_shards(str(with_manifest(folder)))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for path in folder.glob("*.bin"):
        (elsewhere / f"renamed_{path.name}").write_bytes(path.read_bytes())
    assert token_shards(str(with_manifest(elsewhere))).sha256 == shards.sha256
    said = manifest_of(folder)
    assert Manifest.model_validate(said | {"tokenizer": "another name"}).sha256 == shards.sha256
    two = said["train"]["files"]
    for change in [
        {"vocabulary": 50256},
        {"padded": 50432},
        {"end_of_document": 50256},
        {"val": said["train"]},
        {"val": {"files": said["val"]["files"], "text_bytes": 999}},
        {"train": {"files": two[::-1]}},
        {"train": {"files": two[:1]}},
        {"train": {"files": [two[0], two[1] | {"sha256": "f" * 64}]}},
    ]:
        assert Manifest.model_validate(said | change).sha256 != shards.sha256, change


def test_without_a_manifest_identity_is_of_sizes_and_blocks(folder, tmp_path_factory):
    first = token_shards(f"{folder}/*.bin")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for path in folder.glob("*.bin"):
        (elsewhere / path.name).write_bytes(path.read_bytes())
    assert token_shards(f"{elsewhere}/*.bin").sha256 == first.sha256
    assert token_shards(f"{elsewhere}/*.bin,vocabulary=50304").sha256 != first.sha256
    headed(elsewhere / "text_train_000002.bin", counting(505, start=20_001))
    assert token_shards(f"{elsewhere}/*.bin").sha256 != first.sha256


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no /proc")
def test_a_large_file_is_neither_read_nor_held(tmp_path):
    """200 MB: a batch of every thousandth page leaves the process as large as it was."""
    sparse(tmp_path / "train.bin", 200 * 2**20)
    sparse(tmp_path / "val.bin", 2**20)
    shards = token_shards(f"{tmp_path}/*.bin,vocabulary=50257")
    batches = shards.training(64, 256, seed=0)
    assert batches.n_windows > 400_000
    batches.next_batch()
    before = resident()
    for _ in range(100):
        batches.next_batch()  # 6,400 pages, 26 MB, if they stayed
    assert resident() - before < 8 * 2**20


def resident() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024


def both(folder, dtype):
    for name in ("a_train.bin", "b_val.bin"):
        raw(folder / name, counting(1000), dtype)


def cut(path):
    path.write_bytes(path.read_bytes()[:-2])


REFUSED = {
    "no file": (lambda f: None, "*.dat", "names no file"),
    "an empty file": (lambda f: (f / "train_x.bin").write_bytes(b""), "*.bin", r"train_x.bin' is empty"),
    "half a token": (lambda f: (f / "z.bin").write_bytes(b"abc"), "z.bin,vocabulary=9", "3 bytes, which are not whole"),
    "a cut file": (lambda f: cut(f / "text_val_000000.bin"), "*.bin", "says 400 tokens of uint16, but 798 bytes"),
    "a wrong count": (lambda f: headed(f / "a.bin", counting(9), count=-1), "*.bin", "says -1 tokens"),
    "a later version": (lambda f: headed(f / "a.bin", counting(9), version=2), "*.bin", "header of version 2"),
    "another type": (lambda f: None, "*.bin,dtype=uint32", "dtype=uint32 is not allowed: the header .* says uint16"),
    "two kinds": (lambda f: raw(f / "a.bin", counting(999)), "*.bin", "files of two kinds, such as"),
    "no vocabulary": (lambda f: raw(f / "a.bin", counting(99)), "a.bin", "say it behind the name, as in ',vocabulary"),
    "no validation": (lambda f: (f / "text_val_000000.bin").unlink(), "*.bin", "no file for validation: files with"),
    "no training": (lambda f: None, "*val*.bin", "no file for training"),
    "uint32 as uint16": (lambda f: both(f, "uint32"), "?_*.bin,vocabulary=60000", "looks like uint32"),
    "uint16 as uint32": (lambda f: both(f, "uint16"), "?_*.bin,vocabulary=60000,dtype=uint32", "beyond the vocabulary"),
    "beyond the vocabulary": (lambda f: None, "*.bin,vocabulary=40398", "has token 40399, beyond the vocabulary of"),
    "an unknown option": (lambda f: None, "*.bin,vocabulry=9", "'vocabulry' is not known .did you mean 'vocabulary'"),
    "an unknown type": (lambda f: None, "*.bin,dtype=int64", "'int64' is not known"),
    "no number": (lambda f: None, "*.bin,vocabulary=many", "vocabulary=many of .* must be a whole number above 0"),
    "zero": (lambda f: None, "*.bin,multiple=0", "multiple=0 of .* must be a whole number above 0"),
    "options of a manifest": (with_manifest, "manifest.json,vocabulary=9", "a manifest takes no options"),
    "no manifest": (lambda f: None, "manifest.json", "manifest.json' cannot be read: No such file"),
    "no JSON": (lambda f: (f / "manifest.json").write_text("{"), "manifest.json", "Invalid JSON"),
    "another JSON": (lambda f: (f / "manifest.json").write_text("{}"), "manifest.json", r"dtype: is missing"),
    "a newer manifest": (lambda f: with_manifest(f, version=2), "", "version: 2 is not allowed"),
    "padded to less": (lambda f: with_manifest(f, padded=50256), "", "padded: 50256 is less than the vocabulary"),
    "an end beyond": (lambda f: with_manifest(f, end_of_document=50257), "", "end_of_document: 50257 is beyond"),
    "a missing file": (
        lambda f: (with_manifest(f), (f / "text_train_000002.bin").unlink()), "", "000002.bin' cannot be read: No such"
    ),
    "a file cut later": (
        lambda f: (with_manifest(f), cut(f / "text_train_000002.bin")),
        "",
        "has 2,032 bytes, but 505 tokens of uint16 after 1024 bytes take 2,034",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_a_sentence(folder, case):
    spoil, name, message = REFUSED[case]
    spoil(folder)
    with pytest.raises(UserError, match=message) as refused:
        token_shards(str(folder / name))
    assert "\n" not in str(refused.value)


def test_too_few_tokens_are_refused_with_their_number(folder):
    shards = token_shards(str(folder))
    with pytest.raises(UserError, match=r"1,506 training tokens \(0 windows of 1001 within a file\), too few for one"):
        shards.training(1, 1001, 0)
    assert shards.training(1, 1000, 0).n_windows == 1
    with pytest.raises(UserError, match=r"400 validation tokens \(3 windows of 100 .*too few for val_tokens 400"):
        shards.held_out(400, 100)
    with pytest.raises(UserError, match="too few for a probe of 31 windows"):
        shards.probe(31, 50)


def test_a_token_beyond_the_vocabulary_is_found_in_its_batch_and_named_with_its_file(folder):
    shards = token_shards(str(with_manifest(folder, vocabulary=20_490, padded=20_544)))
    first = shards.training(1, 50, seed=0)
    good = next(batch for batch in range(30) if last_window(folder, batch))  # batches before that of the last window
    for _ in range(good):
        first.next_batch()
    with pytest.raises(UserError, match=r"text_train_000002.bin' has token 20500, beyond the vocabulary of 20490"):
        first.next_batch()


def last_window(folder, batch):
    batches = token_shards(f"{folder}/*.bin").training(1, 50, seed=0)
    return [batches.next_batch()[0, -1].item() for _ in range(batch + 1)][-1] == 20_500


def test_a_file_that_goes_or_shrinks_under_way_is_a_sentence(folder):
    shards = token_shards(str(folder))
    batches = shards.training(30, 50, seed=0)
    batches.next_batch()
    path = folder / "text_train_000002.bin"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"text_train_000002.bin' cannot be read"):
        batches.next_batch()
    path.unlink()
    with pytest.raises(UserError, match=r"text_train_000002.bin' cannot be read: No such file"):
        batches.next_batch()
