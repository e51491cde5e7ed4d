"""Every norm written out once more in dense float64: its value, its dual, and how exact its LMO is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scionlab.geometry.orthogonalize import BAND


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def largest(x: np.ndarray) -> float:
    return float(np.abs(x).max())


def over_one_hot(measure: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], float]:
    return lambda w: max(measure(w @ e) for e in np.eye(w.shape[1]))


def rms_to_max(w: np.ndarray) -> float:
    # output i is largest for the input of RMS 1 along row i
    inputs = [row * np.sqrt(len(row)) / np.linalg.norm(row) for row in w if row.any()]
    return max((largest(w @ x) for x in inputs), default=0.0)


def rms_to_rms(w: np.ndarray) -> float:
    # the output is largest for the input of RMS 1 along the first right singular vector
    return rms(w @ np.linalg.svd(w)[2][0] * np.sqrt(w.shape[1]))


def nuclear(g: np.ndarray) -> float:
    return float(np.linalg.svd(g, compute_uv=False).sum() * np.sqrt(g.shape[0] / g.shape[1]))


def columns(g: np.ndarray) -> float:
    return sum(float(np.linalg.norm(column)) * np.sqrt(len(column)) for column in g.T)


def at_least_one(w: np.ndarray) -> float:
    return max(1.0, float(np.sqrt(w.shape[0] / w.shape[1])))


def top(w: np.ndarray) -> float:
    return float(np.sqrt(np.linalg.eigvalsh(w.T @ w).max()))


def conv_scale(w: np.ndarray) -> float:
    """Of the method sheet's LMO: √(c_out/c_in)/k²."""
    return float(np.sqrt(w.shape[0] / w.shape[1])) / w[0, 0].size


def conv_max_scale(w: np.ndarray) -> float:
    return at_least_one(w) / w[0, 0].size


def flattened(w: np.ndarray) -> np.ndarray:
    return np.stack([output.ravel() for output in w])


def schatten(w: np.ndarray, p: float) -> float:
    if p == 1:
        return float(np.linalg.norm(w, "nuc"))
    if p == 2:
        return float(np.linalg.norm(w))
    if p in (4, 8):  # without singular values: Σσ^p is the trace of (WᵀW)^{p/2}
        return float(np.trace(np.linalg.matrix_power(w.T @ w, int(p) // 2)) ** (1 / p))
    return float(np.linalg.norm(np.linalg.svd(w, compute_uv=False), p))


def rms_factor(w: np.ndarray, p: float) -> float:
    """‖W‖ of the mean-scaled norm over that of the plain one."""
    return float(np.sqrt(w.shape[1] / w.shape[0])) / min(w.shape) ** (1 / p)


@dataclass(frozen=True)
class Oracle:
    norm: Callable[[np.ndarray], float]
    dual: Callable[[np.ndarray], float]
    band: tuple[float, float] = (1.0, 1.0)  # of ‖lmo‖ and of −⟨g, lmo(g)⟩/‖g‖_*


def conv_oracle(scale: Callable[[np.ndarray], float], band: tuple[float, float] = (1.0, 1.0)) -> Oracle:
    def norm(w: np.ndarray) -> float:
        return top(flattened(w)) / scale(w)

    return Oracle(norm, lambda g: float(np.linalg.norm(flattened(g), "nuc")) * scale(g), band)


def schatten_oracle(p: float, mean: bool = False) -> Oracle:
    q = 1.0 if p == np.inf else np.inf if p == 1 else p / (p - 1)

    def factor(w: np.ndarray) -> float:
        return rms_factor(w, p) if mean else 1.0

    return Oracle(lambda w: schatten(w, p) * factor(w), lambda g: schatten(g, q) / factor(g))


def flat_oracle(oracle: Oracle) -> Oracle:
    return Oracle(lambda w: oracle.norm(flattened(w)), lambda g: oracle.dual(flattened(g)), oracle.band)


def max_oracle(band: tuple[float, float] = (1.0, 1.0)) -> Oracle:
    def dual(g: np.ndarray) -> float:
        return float(np.linalg.norm(g, "nuc")) * at_least_one(g)

    return Oracle(lambda w: top(w) / at_least_one(w), dual, band)


def length(w: np.ndarray) -> float:
    return float(np.sqrt((w**2).sum()))


ORACLES = {
    "spectral": Oracle(rms_to_rms, nuclear, BAND),
    "spectral-exact": Oracle(rms_to_rms, nuclear),
    "spectral-max": max_oracle(BAND),
    "spectral-max-exact": max_oracle(),
    "column": Oracle(over_one_hot(rms), columns),
    "column-dense": Oracle(lambda w: w.shape[1] * over_one_hot(rms)(w), lambda g: columns(g) / g.shape[1]),
    "row": Oracle(rms_to_max, lambda g: sum(float(np.linalg.norm(row)) / np.sqrt(len(row)) for row in g)),
    "sign": Oracle(lambda w: w.shape[1] * over_one_hot(largest)(w), lambda g: float(np.abs(g).sum()) / g.shape[1]),
    "sign-onehot": Oracle(over_one_hot(largest), lambda g: float(np.abs(g).sum())),
    "euclidean": Oracle(length, length),
    "bias": Oracle(rms, lambda g: float(np.linalg.norm(g)) * np.sqrt(len(g))),
    "bias-max": Oracle(largest, lambda g: float(np.abs(g).sum())),
    "euclidean-vector": Oracle(length, length),
    "conv": conv_oracle(conv_scale, BAND),
    "conv-exact": conv_oracle(conv_scale),
    "conv-max": conv_oracle(conv_max_scale, BAND),
    "conv-max-exact": conv_oracle(conv_max_scale),
    "conv1d": conv_oracle(conv_scale, BAND),
    "conv3d": conv_oracle(conv_scale, BAND),
    **{f"schatten-{p}": schatten_oracle(float(p)) for p in ("1", "1.5", "2", "3", "8", "inf")},
    **{f"schatten-mean-{p}": schatten_oracle(float(p), mean=True) for p in ("2", "4", "inf")},
    "flat:sign-onehot": Oracle(largest, lambda g: float(np.abs(g).sum())),
    "flat:euclidean": Oracle(length, length),
    "flat:spectral": flat_oracle(Oracle(rms_to_rms, nuclear, BAND)),
    "flat:schatten-4": flat_oracle(schatten_oracle(4.0)),
}
