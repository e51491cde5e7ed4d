"""The constants of the landscape in the network's norm ‖·‖, measured around one optimizer step x_k → x_{k+1}.

A fixed set of training windows stands for the whole text: f and ∇f are its loss and gradient at x_k. Its first W = 32
windows, with gradients gᵢ of each, measure the noise,

    probe_loss      f
    grad_dual       ‖∇f‖_*                                         μ: its slope against f over a run
    grad_variance   M/(M − 1) · mean ‖g_b − ḡ‖₂²                   σ⋆² = b·s·grad_variance
    norm_ratio      mean ‖g_b − ḡ‖_*/‖g_b − ḡ‖₂                    κ
    smoothness      ‖∇f(x_{k+1}) − ∇f(x_k)‖_*/‖x_{k+1} − x_k‖       L

where g_b are the gradients of the M = W/b batches of b consecutive windows, and the means are over these batches. The
factor M/(M − 1) makes the variance unbiased: ḡ is the batches' own mean. All but L are measured for several batch sizes
b, and for the windows cut to several lengths s; f and ∇f of a cut length are those of its W windows.

The set has some PROBE_TOKENS tokens, because the noise of ∇f itself has the dual norm κσ⋆/√tokens: late in a run of a
small network that of 32 windows is as large as the gradient, and grows while the loss falls, which turns μ around.

Published practice (arXiv 2603.21191) takes L from the gradients of successive batches, so their noise enters; here
both gradients are of the same windows, and it does not. Nuclear norms are exact (SVD), not by Newton-Schulz.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from scionlab.geometry import NetworkNorm

PROBE_WINDOWS = 32
# The loss and its gradient are taken over about this many tokens, in passes of at most so many.
PROBE_TOKENS = 2**15
PASS_TOKENS = 2**11
# Batches of which a variance is taken: at least this many.
MIN_BATCHES = 4
# Cut windows are at least this long.
MIN_LENGTH = 8

Loss = Callable[[Tensor], Tensor]


def probe_steps(count: int, steps: int) -> frozenset[int]:
    """Steps i·K/count for i = 1 … count, rounded down but at least 1; with more probes than steps, every step once."""
    return frozenset(max(1, i * steps // count) for i in range(1, count + 1))


def probe_lengths(seq_len: int) -> list[int]:
    """S, and S/2 and S/4 where they are even and not below MIN_LENGTH tokens."""
    cuts = [seq_len // cut for cut in (2, 4) if seq_len % (2 * cut) == 0]
    return [seq_len, *(length for length in cuts if length >= MIN_LENGTH)]


def window_gradients(loss: Loss, parameters: Sequence[Tensor], windows: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Loss (W,) of each window on its own, and its gradients, (W, *shape) for every parameter; no `.grad` is touched.

    `loss` takes windows (B, S + 1) to a scalar. Holds W copies of the gradient.
    """
    losses = []
    gradients = [p.detach().new_empty(len(windows), *p.shape) for p in parameters]
    for i, window in enumerate(windows.split(1)):
        value = loss(window)
        for held, gradient in zip(gradients, torch.autograd.grad(value, parameters), strict=True):
            held[i] = gradient
        losses.append(value.detach())
    return torch.stack(losses), gradients


def mean_gradient(loss: Loss, parameters: Sequence[Tensor], windows: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Loss (0-d) and gradient of all windows (N, S + 1), in passes of PASS_TOKENS tokens; no `.grad` is touched."""
    total = torch.zeros((), device=windows.device)
    gradient = [torch.zeros_like(p) for p in parameters]
    for part in windows.split(max(1, PASS_TOKENS // (windows.shape[1] - 1))):
        value = loss(part)
        share = len(part) / len(windows)
        for held, found in zip(gradient, torch.autograd.grad(value, parameters), strict=True):
            held.add_(found, alpha=share)
        total += share * value.detach()
    return total, gradient


def gradient_noise(norm: NetworkNorm, deviations: list[Tensor]) -> Iterator[tuple[int, float, float]]:
    """b, grad_variance and norm_ratio for b = 1, 2, 4, … while there are MIN_BATCHES batches.

    `deviations` are the gᵢ − ∇f, (W, *shape) for every parameter, W a power of two. The list is used up: batches of 2b
    are the means of pairs of batches of b, and take their place. Where there is no noise at all, the ratio is NaN.
    """
    batch_size = 1
    while (batches := len(deviations[0])) >= MIN_BATCHES:
        lengths = torch.stack([torch.linalg.vector_norm(d.flatten(1), dim=1) for d in deviations]).double()
        squares = lengths.square().sum(0)
        ratios = norm.dual(deviations) / squares.sqrt()
        yield batch_size, float(squares.sum() / (batches - 1)), float(ratios.mean())
        for i, deviation in enumerate(deviations):
            deviations[i] = deviation.unflatten(0, (-1, 2)).mean(1)
        batch_size *= 2


class Probe:
    """The constants around one step: make it before the step, and ask `after_step` for the rows of the curves table.

    Leaves the training as it was: weights are only read, gradients stay out of `.grad`, and nothing is drawn. Holds
    PROBE_WINDOWS copies of the gradient while it measures, and one of gradient and weights during the step.
    """

    def __init__(self, loss: Loss, parameters: Sequence[Tensor], norm: NetworkNorm, windows: Tensor) -> None:
        """`windows` (N, S + 1), at least PROBE_WINDOWS; `norm` has a layer for every parameter, in their order."""
        self.loss, self.parameters, self.norm, self.windows = loss, parameters, norm, windows
        whole, *cut = probe_lengths(windows.shape[1] - 1)
        value, self.gradient = mean_gradient(loss, parameters, windows)
        of_set = {"probe_loss": float(value), "grad_dual": float(norm.dual(self.gradient))}
        self.rows = [row | of_set for row in self._measure(whole)]
        self.rows += [row for length in cut for row in self._measure(length)]
        self.weights = [p.detach().clone() for p in parameters]

    def _measure(self, length: int) -> list[dict[str, Any]]:
        """Rows of one window length, one a batch size, all of the first PROBE_WINDOWS windows."""
        windows = self.windows[:PROBE_WINDOWS, : length + 1]
        losses, gradients = window_gradients(self.loss, self.parameters, windows)
        means = [g.mean(0) for g in gradients]
        for g, mean in zip(gradients, means, strict=True):
            g.sub_(mean)
        of_length = {
            "probe_seq_len": length,
            "probe_loss": float(losses.mean()),
            "grad_dual": float(self.norm.dual(means)),
        }
        return [
            {"probe_batch_size": b, **of_length, "grad_variance": variance, "norm_ratio": ratio}
            for b, variance, ratio in gradient_noise(self.norm, gradients)
        ]

    def after_step(self) -> list[dict[str, Any]]:
        """One row per batch size and window length; the first, of single whole windows, has the smoothness."""
        _, gradient = mean_gradient(self.loss, self.parameters, self.windows)
        change = [after - before for after, before in zip(gradient, self.gradient, strict=True)]
        moved = [p.detach() - before for p, before in zip(self.parameters, self.weights, strict=True)]
        self.rows[0]["smoothness"] = float(self.norm.dual(change) / self.norm.norm(moved))
        return self.rows
