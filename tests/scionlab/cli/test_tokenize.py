"""`scionlab tokenize`, and sweeps on what it writes."""

import json
from pathlib import Path

import numpy as np
import pytest
from token_files import counting, headed, raw

from scionlab.problems.data import load, load_sized
from scionlab.runs.store import RunStore

SPEC = """
from scionlab.spec import Experiment, Preset, Trial

SIZES = dict(width=16, head_dim=8, depth=1, batch_size=4, seq_len=16, tokens={tokens}, val_tokens=256, val_seq_len=16)
FIXED = dict(optimizer="adam", lr=2**-7, data="{data}", device="cpu", model="{model}", **SIZES)
TRIALS = tuple(Trial(seed=seed, **FIXED) for seed in (0, 1))
SPEC = Experiment(name="mine", title="Mine", question="Does it run?", presets={{"smoke": Preset(trials=TRIALS)}})
"""


@pytest.fixture(autouse=True)
def _read_anew():
    """Names of data here are relative, and every test has a folder of its own."""
    load.cache_clear()
    load_sized.cache_clear()


def run(call, data, tokens=64 * 16, model="gpt"):
    Path("mine.py").write_text(SPEC.format(data=data, tokens=tokens, model=model))
    return call("run", "mine.py", "--preset", "smoke", "--executor", "inline")


def test_from_a_text_to_nats_a_byte(call, text_file):
    done = call("tokenize", text_file, "--to", "shards", "--val-share", 0.2, "--json")
    told = json.loads(done.out)
    assert (done.code, told["data"], told["vocabulary"], told["padded"]) == (0, "tokens:shards", 257, 320)
    assert told["train"]["tokens"] == told["train"]["text_bytes"] + told["train"]["documents"]
    assert run(call, told["data"]).code == 0
    rows = RunStore("results/runs").runs()
    assert set(rows["status"]) == {"ok"}
    assert set(rows["vocab_size"]) == {320}
    assert set(rows["data_sha256"]) == {told["sha256"]}
    bytes_per_token = told["val"]["text_bytes"] / told["val"]["tokens"]
    assert rows["val_loss_per_byte"].to_numpy() == pytest.approx(rows["val_loss"].to_numpy() / bytes_per_token)
    Path("shards").rename("moved")
    assert "all 2 trials are in the store" in run(call, "tokens:moved").out  # known by the manifest, not by the path


def test_it_says_what_it_wrote(call, text_file):
    done = call("tokenize", text_file, "--to", "shards")
    assert done.code == 0
    assert "vocabulary: 257 tokens of uint16, padded to 320" in done.out
    assert 'next: data="tokens:shards" in a trial' in done.out


def test_shards_that_are_there_get_a_manifest(call):
    headed(Path("x_train_1.bin"), counting(3000))
    headed(Path("x_val_0.bin"), counting(300))
    done = call("tokenize", "x_train_1.bin", "x_val_0.bin", "--index", "--to", ".", "--vocabulary-multiple", 128)
    assert done.code == 0
    assert "train: 3,000 tokens in 1 files\n" in done.out
    assert "padded to 50,304" in done.out
    assert Path("manifest.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.txt", "--to", "shards"], "error: texts: 'gone.txt' cannot be read"),
        (["text", "--to", "shards", "--vocabulary", 9], "error: vocabulary: 9 is not allowed without --index"),
        (["text", "--to", "shards", "--dtype", "uint32"], "error: dtype: uint32 is not allowed without --index"),
        (["text", "--to", "text"], "error: to: 'text' exists"),
        (["text", "--to", "shards", "--index"], "error: data: 'texts' has no manifest, and its files do not say"),
        (["text", "--to", "shards", "--val-share", 2], "error: val_share: 2.0 is not allowed"),
        (["text"], "error: Missing option '--to'"),
    ],
)
def test_a_mistake_is_a_sentence(call, arguments, message):
    Path("text").write_text("a text.\n" * 100)
    done = call("tokenize", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(message)
    assert len(done.err.splitlines()) == 1
    assert not Path("shards").exists()


def test_a_bad_shard_is_refused_before_anything_is_written(call):
    raw(Path("train.bin"), counting(5000))
    raw(Path("val.bin"), counting(500))
    for data, message in [
        ("tokens:*.bin", "error: data: 'tokens:*.bin' has no manifest, and its files do not say how many tokens"),
        ("tokens:*.bin,vocabulary=4000", "error: data: 'train.bin' has token 4999, beyond the vocabulary of 4000"),
        ("tokens:nothing", "error: data: 'tokens:nothing' names no file"),
    ]:
        done = run(call, data)
        assert done.code == 2
        assert done.err.startswith(message)
        assert len(done.err.splitlines()) == 1
    assert not Path("results/runs/runs").exists()


def test_a_token_beyond_the_vocabulary_is_its_trials_error_and_others_go_on(call):
    """In the one window of 4,000 that is drawn by one trial alone."""
    tokens = np.zeros(64_001, dtype=np.uint16)
    raw(Path("val.bin"), np.zeros(1000, dtype=np.uint16))
    raw(Path("train.bin"), tokens)
    from scionlab.problems.data.shards import token_shards

    def drawn(seed):
        batches = token_shards("*.bin,vocabulary=700").training(4, 16, seed)
        return set(np.concatenate([batches._draw(4) for _ in range(16)]).tolist())

    only = sorted(drawn(0) - drawn(1))
    blocks = {
        start // 16 for block in np.linspace(0, 64_001 - 2048, 8) for start in range(int(block), int(block) + 2049)
    }
    tokens[next(window for window in only if window not in blocks) * 16 + 5] = 700
    raw(Path("train.bin"), tokens)
    done = run(call, "tokens:*.bin,vocabulary=700")
    assert done.code == 1
    rows = RunStore("results/runs").runs().set_index("seed")
    assert rows["status"].to_dict() == {0: "error", 1: "ok"}
    assert "data: 'train.bin' has token 700, beyond the vocabulary of 700" in rows.loc[0, "error"].splitlines()[-1]


def test_a_model_of_ones_own_that_is_too_small_is_refused(call):
    raw(Path("train.bin"), np.zeros(5000, dtype=np.uint16))
    raw(Path("val.bin"), np.zeros(500, dtype=np.uint16))
    from own_code import MODEL

    Path("small_net.py").write_text(MODEL)
    done = run(call, "tokens:*.bin,vocabulary=700", model="small_net:build")
    assert done.code == 2
    assert "tells 256 tokens apart, but the vocabulary of data 'tokens:*.bin,vocabulary=700' has 700" in done.err
