"""Files of tokens as other projects write them, for tests of data and of runs on them."""

from pathlib import Path

import numpy as np


def raw(path: Path, tokens: np.ndarray, dtype: str = "uint16") -> Path:
    """As nanoGPT: `np.array(ids, dtype=np.uint16).tofile(path)`."""
    np.asarray(tokens).astype(dtype).tofile(path)
    return path


def headed(path: Path, tokens: np.ndarray, dtype: str = "uint16", **said: int) -> Path:
    """As modded-nanogpt and llm.c: 256 int32 with a magic number, a version and the number of tokens, then these."""
    magic, version = {"uint16": (20240520, 1), "uint32": (20240801, 7)}[dtype]
    header = np.zeros(256, dtype=np.int32)
    header[:3] = said.get("magic", magic), said.get("version", version), said.get("count", len(tokens))
    with path.open("wb") as file:
        file.write(header.tobytes())
        file.write(np.asarray(tokens).astype(dtype).tobytes())
    return path


def counting(count: int, start: int = 0, below: int = 50_000) -> np.ndarray:
    """start, start + 1, …: a window tells where it begins."""
    return (start + np.arange(count)) % below
