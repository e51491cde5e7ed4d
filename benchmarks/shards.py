"""Two gigabytes of made-up tokens: how soon the first batch is there, what a batch costs, and how memory grows.

    python -m benchmarks shards              # 10 files of 10^8 tokens, in the format of modded-nanogpt; 2 GB of /tmp
    python -m benchmarks shards --quick      # 10 files of 10^6 tokens

The first batch is timed from the name `tokens:GLOB` on, with the files out of the system's page cache where it lets
them go. Memory is what the process has resident, mapped pages of files included, after many batches and after one.
"""

import os
import re
import tempfile
import time
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.timing import Row, row
from scionlab.problems.data.shard_files import HEADER_BYTES
from scionlab.problems.data.shards import TokenShards, token_shards
from scionlab.problems.data.tokenized import index

FILES, TOKENS, QUICK_TOKENS = 10, 10**8, 10**6
VALIDATION_TOKENS = 10**7
MAGIC, VOCABULARY = 20240520, 50257
BATCH_SIZE, SEQ_LEN = 64, 1024
BATCHES, QUICK_BATCHES = 2000, 200


def measure(quick: bool) -> list[Row]:
    """Rows for shards without a manifest, and with one."""
    tokens = QUICK_TOKENS if quick else TOKENS
    batches = QUICK_BATCHES if quick else BATCHES
    with tempfile.TemporaryDirectory(prefix="scionlab-shards-") as made:
        folder = Path(made)
        paths = [_write(folder / f"made_train_{i:06d}.bin", tokens, i) for i in range(1, FILES + 1)]
        paths.append(_write(folder / "made_val_000000.bin", min(tokens, VALIDATION_TOKENS), 0))
        case = f"{sum(path.stat().st_size for path in paths) / 1e9:.2f} GB in {len(paths)} files"
        rows = _rows(case, "without a manifest", f"{folder}/*.bin,multiple=128", paths, batches)
        began = time.perf_counter()
        index(paths, folder, {"multiple": "128"})
        rows.append(row(case, "scionlab tokenize --index", time.perf_counter() - began, "s"))
        return rows + _rows(case, "with a manifest", str(folder), paths, batches)


def _rows(case: str, variant: str, name: str, paths: list[Path], batches: int) -> list[Row]:
    _forget(paths)
    began = time.perf_counter()
    shards = token_shards(name)
    stream = shards.training(BATCH_SIZE, SEQ_LEN, seed=0)
    stream.next_batch()
    first = time.perf_counter() - began
    before, began = _resident(), time.perf_counter()
    for _ in range(batches):
        stream.next_batch()
    each, grown = (time.perf_counter() - began) / batches, _resident() - before
    state, expected = stream.state_dict(), stream.next_batch()
    began = time.perf_counter()
    again = _resumed(token_shards(name), state)
    resumed = time.perf_counter() - began
    if not again.equal(expected):
        raise AssertionError("shards: a stream that was gone on with gave another batch")
    epoch = f"{100 * stream.epochs:.1f}% of an epoch"
    return [
        row(case, f"{variant}: first batch, cold", first, "s"),
        row(case, f"{variant}: batch of {BATCH_SIZE} × {SEQ_LEN}", 1e3 * each, "ms"),
        row(case, f"{variant}: memory after {batches} batches", grown / 1e6, "MB more", note=epoch),
        row(case, f"{variant}: first batch of a resumed stream", resumed, "s"),
    ]


def _resumed(shards: TokenShards, state: dict[str, int]) -> Tensor:
    stream = shards.training(BATCH_SIZE, SEQ_LEN, seed=0)
    stream.load_state_dict(state)
    return stream.next_batch()


def _write(path: Path, tokens: int, seed: int) -> Path:
    header = np.zeros(HEADER_BYTES // 4, dtype=np.int32)
    header[:3] = MAGIC, 1, tokens
    random = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(header.tobytes())
        for start in range(0, tokens, 10**7):
            count = min(10**7, tokens - start)
            file.write(random.integers(VOCABULARY, size=count, dtype=np.uint16).tobytes())
    return path


def _forget(paths: list[Path]) -> None:
    """Let the system drop what it holds of the files."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _resident() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0
