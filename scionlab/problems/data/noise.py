"""A small convex problem whose constants are known, so that rates of convergence can be seen.

    f(W) = (a/2) ‖W − W*‖_F²          W a d × d matrix, a = 1/d, W* fixed with singular values 1/(2d), 2/(2d), …, 1/2
    ∇f(W) = a (W − W*)                a sample of the gradient is ∇f(W) + Ξ, with E Ξ = 0

In the spectral norm ‖·‖_op (that of RMS → RMS, for a square matrix), whose dual is the nuclear norm,

    ‖∇f(X) − ∇f(Y)‖_nuc = a ‖X − Y‖_nuc ≤ a d ‖X − Y‖_op,        so L = a d = 1 at every width,

with equality where X − Y is orthogonal.
W* lies in the interior of the unit ball, as ‖W*‖_op = 1/2, so f's minimum over the ball is 0. From W = 0, where
‖∇f‖_nuc is (1 + 1/d)/4, f falls from about 1/24. On this ball f is at most (a/2) d (3/2)² = 9/8.

Kinds of noise, each with mean 0 (‖Ξ‖_nuc ≤ √d ‖Ξ‖_F grows with the width):

- `none`
- `gaussian-σ`: independent entries, E ‖Ξ‖_F² = σ²
- `tν-σ`: independent entries (σ/d)·t_ν, Student's t of ν > 1 degrees of freedom, with moments below the ν-th: for
  ν ≤ 2 there is no variance, else E ‖Ξ‖_F² = σ²·ν/(ν − 2)
- `skewed-σ`: M times one of two numbers, +3σ with probability 1/10 and −σ/3 otherwise, where M is a fixed orthogonal
  matrix over √d; E ‖Ξ‖_F² = σ². An average of LMOs follows the more frequent sign: it is at rest where ∇f = Mσ/3, with
  ‖∇f‖_nuc = √d σ/3, and not where ∇f = 0. Averages of gradients know the difference
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from scionlab.errors import UserError
from scionlab.problems.data.base import Batches, DataShape, Source, one_token

# A part of the data's identity: raise it when a change to this file changes the numbers.
VERSION = 1
TARGET_SEED = 2**31  # beyond the seeds of trials
TARGET_NORM = 0.5
LARGE_SHARE = 0.1
KINDS = ("none", "gaussian", "skewed", "t")
WHAT = "a sample of noise"
# Noise has no end: no run draws as many samples.
ENDLESS = 2**62


@lru_cache(maxsize=8)
def target(width: int) -> Tensor:
    """W*: (width, width) float32, the same in every run."""
    values = TARGET_NORM * np.arange(1, width + 1) / width
    return torch.from_numpy(((_orthogonal(width, 0) * values) @ _orthogonal(width, 1).T).astype(np.float32))


@lru_cache(maxsize=8)
def direction(width: int) -> np.ndarray:
    """M of skewed noise: (width, width) float64 with all singular values 1/√width, the same in every run."""
    return _orthogonal(width, 2) / math.sqrt(width)


def _orthogonal(width: int, which: int) -> np.ndarray:
    """A random orthogonal matrix, drawn once and for all."""
    q, r = np.linalg.qr(np.random.default_rng((TARGET_SEED, width, which)).standard_normal((width, width)))
    return q * np.sign(np.diag(r))


@dataclass(frozen=True)
class Noise(Source):
    """Samples of noise of one distribution, which `sha256` is of.

    A model's output is its matrix W; the data say what f(W) is and how noisy its gradient. A batch is (B, 3), int64:
    (seed, stage, n) names the n-th sample of a run, n = 1, 2, …, and n = 0 no noise at all. The matrices are drawn
    where W's width is known, in `loss`.
    """

    traceable: ClassVar[bool] = False  # samples are drawn by numpy

    name: str
    sha256: str
    kind: str
    sigma: float
    degrees: float = math.inf  # ν of kind t

    @property
    def split_sha256(self) -> str:
        """The distribution's hash."""
        return self.sha256

    @property
    def shape(self) -> DataShape:
        """Nothing to read, nothing to predict."""
        return DataShape("noise")

    def training(self, batch_size: int, seq_len: int, seed: int, stage: int = 0, limit: int = 0) -> "NoiseBatches":
        """Samples of noise without end."""
        one_token("seq_len", seq_len, WHAT)
        if limit:
            raise UserError(f"train_limit: {limit} is not allowed: data {self.name!r} are drawn without end; set 0")
        return NoiseBatches(batch_size, seed, stage)

    def held_out(self, n_tokens: int, seq_len: int) -> Tensor:
        """One sample of no noise, so that the validation loss is f(W)."""
        one_token("val_seq_len", seq_len, WHAT)
        one_token("val_tokens", n_tokens, "the loss without noise")
        return torch.zeros(1, 3, dtype=torch.int64)

    def unpack(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The names of the samples, twice: a model of one matrix reads nothing."""
        return batch, batch

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """f(W) + ⟨Ξ̄, W − W₀⟩ for the mean Ξ̄ of the batch's samples, with W₀ = W held constant.

        Its gradient is ∇f(W) + Ξ̄ and its value f(W): the noise is seen by the methods but does not blur the curve.
        """
        weight = outputs.float()
        width = weight.shape[0]
        value = (weight - target(width).to(weight.device)).square().sum() / (2 * width)
        noise = self.mean(targets, width).to(weight.device)
        return value + (noise * (weight - weight.detach())).sum()

    def mean(self, samples: Tensor, width: int) -> Tensor:
        """The mean of these samples' matrices, (width, width) float32 on the CPU."""
        total = np.zeros((width, width))
        for name in samples.tolist():
            total += self.draw(name, width)
        return torch.from_numpy((total / len(samples)).astype(np.float32))

    def draw(self, name: list[int], width: int) -> np.ndarray:
        """Ξ of the sample (seed, stage, n), (width, width) float64."""
        if name[-1] == 0 or self.kind == "none":
            return np.zeros((width, width))
        generator = np.random.default_rng(name)
        if self.kind == "gaussian":
            return generator.standard_normal((width, width)) * (self.sigma / width)
        if self.kind == "t":
            return generator.standard_t(self.degrees, (width, width)) * (self.sigma / width)
        ratio = math.sqrt((1 - LARGE_SHARE) / LARGE_SHARE)
        return direction(width) * self.sigma * (ratio if generator.random() < LARGE_SHARE else -1 / ratio)


class NoiseBatches(Batches):
    """Batches of `Noise`: the next samples of (seed, stage). There is one epoch, and it does not end."""

    def __init__(self, batch_size: int, seed: int, stage: int = 0) -> None:
        self.batch_size, self.seq_len, self.seed, self.stage = batch_size, 1, seed, stage
        self.n_windows, self.epoch, self._position = ENDLESS, 0, 0

    def next_batch(self) -> Tensor:
        """The next batch."""
        numbers = torch.arange(self._position + 1, self._position + 1 + self.batch_size)
        self._position += self.batch_size
        stream = torch.tensor([self.seed, self.stage]).expand(self.batch_size, 2)
        return torch.cat((stream, numbers[:, None]), dim=1)

    @property
    def epochs(self) -> float:
        """0, as nothing comes again."""
        return 0.0

    def state_dict(self) -> dict[str, int]:
        """The place in the stream of samples."""
        return {"stage": self.stage, "epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from a place in the stream of the same seed."""
        self.stage, self.epoch, self._position = state["stage"], state["epoch"], state["position"]


def noise(text: str) -> Noise:
    """The source called `noise:TEXT`."""
    named, _, sigma_text = text.partition("-")
    kind, degrees_text = ("t", named[1:]) if named[:1] == "t" else (named, "inf")
    try:
        degrees = float(degrees_text)
        sigma = float(sigma_text) if kind != "none" else float(sigma_text or 0)
    except ValueError:
        degrees = sigma = math.nan
    known = kind in KINDS and (kind == "none") == (sigma_text == "")
    if not known or not 0 <= sigma < math.inf or not degrees > 1 or (kind == "t") != (degrees < math.inf):
        raise UserError(
            f"data: 'noise:{text}' is not known; choose noise:none, noise:gaussian-S or noise:skewed-S with S ≥ 0, the "
            "root of the mean squared norm of a sample, or noise:tN-S with N > 1 degrees of freedom"
        )
    what = f"t {degrees!r}" if kind == "t" else kind
    sha256 = hashlib.sha256(f"quadratic {VERSION} {what} {sigma!r}".encode()).hexdigest()
    return Noise(f"noise:{text}", sha256, kind, sigma, degrees)
