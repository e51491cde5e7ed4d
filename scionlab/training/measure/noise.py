"""The noise of single gradients, layer by layer: how heavy its tail is, in how many directions, how it averages out.

Of W = 1024 training windows that are the same in every trial, with gradients gᵢ of each and their mean ḡ, the noise is
Nᵢ = gᵢ − ḡ, and N_b is the mean of b of them, the noise of a batch. Of every layer, and of the network as one vector,

    tail_index        p̂ of P(‖N‖₂ > x) ~ x^(-p), by Hill's estimator from the largest TAIL_SHARE of the ‖Nᵢ‖₂. Of
                      normal numbers it finds 6 ± 0.7, of vectors of them more: above 4 is light
    tail_index_block  1/p̂ = (mean log|Σx| − mean log|x|)/log m, x = ⟨Nᵢ, v⟩ in random directions v, in sums of m = √W.
                      Made for stable laws: at most 2, and biased for others; only to be read next to the other
    nuclear_ratio     how far ‖N_b‖_S1 exceeds ‖N_b‖_F: 0 where the noise has rank 1, 1 where it spreads over all
                      directions alike; b is the batch that is trained with, or the nearest that is measured
    entry_ratio       likewise ‖N_b‖_ℓ1 and ‖N_b‖₂: 0 for a single entry, 1 for all alike
    batch_slope       slope of log‖N_b‖_* against log b, ‖·‖_* the dual norm that the method measures the layer in:
                      -1/2 where variances are finite and a single gradient spans the layer, less while batches span
                      more of it as they grow, and -(1 - 1/p) for a tail p < 2

Ratios are of means (mean ‖N_b‖^1.5)^(1/1.5), which exist where variances may not. Intervals are of 95%: the tail
index's by 2kp/p̂ ~ χ²(2k), exact for Pareto's tail, the others' by leaving out one of GROUPS groups of windows at a
time. Sources: arXiv 2606.14560 (ratios, means of powers), Hill, Ann. Statist. 3, 1975, arXiv 1901.06053 (block
estimator).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from scionlab.geometry import NetworkNorm
from scionlab.training.measure.probe import Loss, mean_gradient, window_gradients

NOISE_WINDOWS = 1024
# Groups of windows, of which one at a time is left out; of each, one batch of every size has its norms taken.
GROUPS = 32
TAIL_SHARE = 0.05
DIRECTIONS = 8
POWER = 1.5
LEVEL = 0.95
NETWORK = "network"

NAN = math.nan

Floats = NDArray[np.float64]
Row = dict[str, float | str]


@dataclass(frozen=True)
class Measured:
    """A number and its 95% interval; without one, NaN."""

    value: float
    low: float = NAN
    high: float = NAN

    def rows(self, metric: str) -> Iterator[Row]:
        """The metric, and its interval's ends as metrics of their own, those that are known."""
        for end, value in (("", self.value), ("_low", self.low), ("_high", self.high)):
            if math.isfinite(value):
                yield {"metric": metric + end, "value": value}


def tail_index(sizes: Floats, share: float = TAIL_SHARE) -> Measured:
    """Hill's p̂ = k/Σ log(x₍ᵢ₎/x₍ₖ₊₁₎) over the k = share·n largest of some positive sizes (n,); NaN if they tie."""
    largest = np.sort(sizes)[::-1]
    k = max(1, int(share * len(sizes)))
    if k >= len(sizes) or not largest[k] > 0:
        return Measured(NAN)
    total = float(np.log(largest[:k] / largest[k]).sum())
    if total == 0:
        return Measured(NAN)
    low, high = (float(special.gammaincinv(k, tail)) / k for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))  # χ²(2k)/(2k)
    return Measured(k / total, k / total * low, k / total * high)


def tail_index_block(values: Floats) -> float:
    """The block estimator of values around 0, (n,) or (n, directions), in sums of √n; above 2, which no law has, 2.

    NaN where a value or a sum is 0.
    """
    size = math.isqrt(len(values))
    whole = values[: size * size]
    sums = whole.reshape(size, size, *values.shape[1:]).sum(1)
    if size < 2 or not whole.all() or not sums.all():
        return NAN
    rise = np.log(np.abs(sums)).mean() - np.log(np.abs(whole)).mean()
    return float(min(2.0, math.log(size) / rise)) if rise > 0 else NAN


class LayerNoise:
    """The noise of one layer, or of the network as one vector, as it is gathered window by window and batch by batch.

    `sizes` (W,) are ‖Nᵢ‖₂ and `projections` (W, DIRECTIONS) are ⟨Nᵢ, v⟩. `norms[name][b]` has the norm of one batch of
    b windows in every group: `dual`, `frobenius`, `entries` (ℓ1), and of a matrix `nuclear`. `most[name]` is how many
    times ‖·‖_F the norm can be.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.most = {"entries": math.sqrt(math.prod(shape))}
        if len(shape) == 2:
            self.most["nuclear"] = math.sqrt(min(shape))
        self.sizes: list[float] = []
        self.projections: list[list[float]] = []
        self.norms: dict[str, dict[int, list[float]]] = {}

    def keep(self, batch_size: int, norms: Mapping[str, float]) -> None:
        """Add the norms of a group's batch."""
        for name, value in norms.items():
            self.norms.setdefault(name, {}).setdefault(batch_size, []).append(value)

    def rows(self, batch_size: int) -> Iterator[Row]:
        """Metrics and values; ratios of the measured batches nearest to `batch_size`."""
        near = min(self.norms["frobenius"], key=lambda b: abs(math.log(b / batch_size)))
        yield from tail_index(np.array(self.sizes)).rows("tail_index")
        yield from Measured(tail_index_block(np.array(self.projections))).rows("tail_index_block")
        for metric, name in (("nuclear_ratio", "nuclear"), ("entry_ratio", "entries")):
            if self.most.get(name, 1) > 1:
                yield from self._ratio(name, near).rows(metric)
        yield from self._slope().rows("batch_slope")

    def _ratio(self, name: str, batch_size: int) -> Measured:
        """(r − 1)/(r_most − 1) of the ratio r of the means of powers of the norm and of ‖·‖_F."""
        upper, lower = (np.array(self.norms[norm][batch_size]) ** POWER for norm in (name, "frobenius"))

        def of(keep: NDArray[np.bool_]) -> float:
            below = lower[keep].mean()
            return float(((upper[keep].mean() / below) ** (1 / POWER) - 1) / (self.most[name] - 1)) if below else NAN

        return jackknife(of, len(upper))

    def _slope(self) -> Measured:
        """Of the least-squares line through log mean ‖N_b‖_* against log b."""
        sizes = np.log(np.array(list(self.norms["dual"]), float))
        duals = np.array(list(self.norms["dual"].values()))  # (batch sizes, groups)

        def of(keep: NDArray[np.bool_]) -> float:
            means = duals[:, keep].mean(1)
            return float(np.polyfit(sizes, np.log(means), 1)[0]) if (means > 0).all() else NAN

        return jackknife(of, duals.shape[1])


def jackknife(of: Callable[[NDArray[np.bool_]], float], count: int) -> Measured:
    """`of` all groups, and Student's interval from its values without one of the `count` groups each."""
    left_out = np.array([of(np.arange(count) != i) for i in range(count)])
    error = math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))
    reach = float(special.stdtrit(count - 1, (1 + LEVEL) / 2)) * error
    value = of(np.ones(count, bool))
    return Measured(value, value - reach, value + reach)


def noise_rows(
    loss: Loss, parameters: Mapping[str, Tensor], norm: NetworkNorm, windows: Tensor, batch_size: int
) -> list[Row]:
    """Rows of `group` (the parameter's name, or `network`), `metric` and `value`.

    `loss` takes windows (B, S + 1) to a scalar; `norm` has a layer for every parameter, in their order; `windows` are
    (W, S + 1), W a multiple of GROUPS; `batch_size` is that of the training. Leaves the training as it was: no `.grad`
    is touched, and nothing is drawn. No rows where a gradient is not finite. Holds W/GROUPS + DIRECTIONS + 1 copies of
    the gradient.
    """
    names, tensors = list(parameters), list(parameters.values())
    _, mean = mean_gradient(loss, tensors, windows)
    layers = [LayerNoise(p.shape) for p in tensors]
    network = LayerNoise((sum(p.numel() for p in tensors),))
    directions = _directions(tensors)
    for group in windows.split(len(windows) // GROUPS):
        _, noise = window_gradients(loss, tensors, group)
        if not all(bool(n.isfinite().all()) for n in noise):
            return []  # a run that diverges
        for n, m in zip(noise, mean, strict=True):
            n.sub_(m)
        _keep_windows(layers, network, noise, directions)
        for b in (2**i for i in range(len(group).bit_length())):
            # The mean of b of the W windows is nearer to that of all W than to the truth.
            bias = math.sqrt(1 - b / len(windows))
            _keep_batch(layers, network, norm, [n[:b].mean(0) / bias for n in noise], b)
    found = zip([*names, NETWORK], [*layers, network], strict=True)
    return [{"group": name, **row} for name, layer in found for row in layer.rows(batch_size)]


def _directions(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Normal vectors (DIRECTIONS, size), the same in every trial, for each tensor."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(DIRECTIONS, p.numel(), generator=generator).to(p.device) for p in tensors]


def _keep_windows(
    layers: Sequence[LayerNoise], network: LayerNoise, noise: Sequence[Tensor], directions: Sequence[Tensor]
) -> None:
    flat = [n.flatten(1) for n in noise]
    squares = torch.stack([n.double().square().sum(1) for n in flat])  # (layers, windows)
    projected = torch.stack([(n @ v.T).double() for n, v in zip(flat, directions, strict=True)])
    for layer, of_layer, projections in zip(layers, squares, projected, strict=True):
        layer.sizes += of_layer.sqrt().tolist()
        layer.projections += projections.tolist()
    network.sizes += squares.sum(0).sqrt().tolist()
    network.projections += projected.sum(0).tolist()


def _keep_batch(
    layers: Sequence[LayerNoise], network: LayerNoise, norm: NetworkNorm, noise: Sequence[Tensor], batch_size: int
) -> None:
    lengths = [float(torch.linalg.vector_norm(n)) for n in noise]
    entries = [float(n.abs().sum()) for n in noise]
    duals = [float(of.radius * of.dual(n)) for of, n in zip(norm.layers, noise, strict=True)]
    for i, layer in enumerate(layers):
        found = {"frobenius": lengths[i], "entries": entries[i], "dual": duals[i]}
        if "nuclear" in layer.most:
            found["nuclear"] = float(torch.linalg.svdvals(noise[i].float()).sum())
        layer.keep(batch_size, found)
    network.keep(batch_size, {"frobenius": math.hypot(*lengths), "entries": sum(entries), "dual": sum(duals)})
