"""What a plan starts from when runs were fitted: one optimizer's entry in fits/<experiment>/batch_scaling.json.

The free power law is stored by its exponents and its logarithms at the base's budget T₀,

    log₂ B·S = log2_batch_at_base + batch_exponent · log₂(T/T₀)        likewise the learning rate

once for the measured runs, and once for every bootstrap resample.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.laws.rules import Point, PowerLaw
from analysis.tables.arrays import Floats
from scionlab.errors import UserError, argument, listed, unknown

FILE = "batch_scaling.json"
SIZED = re.compile(r"(.+), ([\d,]+) parameters")  # what the study calls each network size of an optimizer
LAW = ("batch_exponent", "log2_batch_at_base", "lr_exponent", "log2_lr_at_base")  # in the order of a resample


@dataclass(frozen=True)
class Evidence:
    """One optimizer's batch-scaling fit. `tokens`: smallest and largest measured budget; `kappa`: exponent and shift.

    `resampled` holds the power law with resamples (R,) in its fields; None where the fit has no intervals.
    """

    optimizer: str
    base: Point
    at_edge: bool
    resolved: bool
    tokens: tuple[float, float]
    power_law: PowerLaw | None = None
    resampled: PowerLaw | None = None
    kappa: tuple[float, float] | None = None


def optimizer_of(name: str) -> str:
    """The optimizer of an entry's name, which may say a network size besides."""
    match = SIZED.fullmatch(name)
    return match[1] if match else name


def _size_of(name: str) -> float | None:
    match = SIZED.fullmatch(name)
    return float(match[2].replace(",", "")) if match else None


def read_evidence(
    results: Path, optimizer: str | None, experiment: str | None = None, n_params: float | None = None
) -> Evidence:
    """The fit in results/fits/<experiment>/batch_scaling.json.

    `optimizer` and `experiment` are needed where there are several; of an optimizer's network sizes that nearest to
    `n_params`, where this is given, is taken. UserError if there is no such file, it is not such
    a fit, or they do not settle on one experiment and one optimizer with a base point.
    """
    fits = results / "fits"
    hint = f"`scionlab fit batch-scaling --results {results}` writes it"
    found = [path.parent.name for path in sorted(fits.glob(f"*/{FILE}"))]
    if experiment is None and not found:
        raise UserError(f"results: there is no {FILE} in a folder of {str(fits)!r}; {hint}")
    named = [experiment] if experiment else found
    holding = {name: entries_of(fits / name / FILE, "optimizer", "batch-scaling", hint) for name in named}
    if optimizer is not None and any(optimizer in entries for entries in holding.values()):
        holding = {name: entries for name, entries in holding.items() if optimizer in entries}
    if len(holding) > 1:
        raise UserError(f"experiment: {str(fits)!r} holds several fits; choose one of {listed(holding)}")
    ((experiment, entries),) = holding.items()
    path = fits / experiment / FILE
    name = one_entry(entries, _nearest(entries, optimizer, n_params) or optimizer, path, "optimizer")
    if entries[name].get("plan") is None:
        raise UserError(f"results: {str(path)!r} has no base point for {name!r}: none of its settings trained")
    try:
        return _evidence(entries[name])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"results: the entry of {name!r} in {str(path)!r} is damaged ({error}); {hint}") from None


def entries_of(path: Path, kind: str, study: str, hint: str) -> dict[str, Any]:
    """The entries of a study's JSON by what they are of: `kind` is its word for that, optimizer or source.

    UserError with a `hint` if the file cannot be read, or is no such fit.
    """
    try:
        fit = json.loads(path.read_text(encoding="utf-8"))
        return {str(entry[kind]): entry for entry in fit[f"{kind}s"]}
    except OSError as error:
        raise UserError(f"results: {str(path)!r} cannot be read: {error.strerror or error}; {hint}") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"results: {str(path)!r} is not a {study} fit; {hint}") from None


def _nearest(entries: Mapping[str, Any], optimizer: str | None, n_params: float | None) -> str | None:
    """The entry of the one optimizer that is meant with the nearest size; None where sizes do not settle on one."""
    if n_params is None or optimizer in entries:
        return None
    sizes = {
        name: size
        for name, entry in entries.items()
        if (size := _size_of(name)) and entry.get("plan") is not None and optimizer in (None, optimizer_of(name))
    }
    if len({optimizer_of(name) for name in (entries if optimizer is None else sizes)}) != 1:
        return None
    return min(sizes, key=lambda name: abs(math.log(sizes[name] / n_params)), default=None)


def one_entry(entries: Mapping[str, Any], wanted: str | None, path: Path, kind: str) -> str:
    """The name of the entry that is wanted, or of the only one; UserError where that does not settle on one."""
    if not entries:
        raise UserError(f"results: {str(path)!r} holds no {kind}")
    if wanted is None and len(entries) > 1:
        raise UserError(
            f"{argument('only-optimizer')}: {str(path)!r} holds several; choose one of {listed(sorted(entries))}"
        )
    name = next(iter(entries)) if wanted is None else wanted
    if name not in entries:
        raise unknown(argument("only-optimizer"), name, entries)
    return name


def _evidence(entry: Mapping[str, Any]) -> Evidence:
    plan, constants = entry["plan"], entry.get("constants") or {}
    base = replace(_point(plan["base"]), n_params=_size_of(str(entry["optimizer"])))
    law, samples = plan["power_law"], np.asarray(plan["samples"], dtype=float)
    exponent, shift = constants.get("kappa_batch_exponent"), constants.get("kappa_batch_shift")
    return Evidence(
        optimizer=str(entry["optimizer"]),
        base=base,
        at_edge=bool(plan["at_edge"]),
        resolved=bool(plan["resolved"]),
        tokens=(float(plan["tokens_min"]), float(plan["tokens_max"])),
        power_law=_power_law(base, np.array([law[key] for key in LAW], dtype=float)) if law else None,
        resampled=_power_law(base, samples.T) if law and samples.size else None,
        kappa=None if exponent is None else (float(exponent), float(shift or 0.0)),
    )


def _point(fields: Mapping[str, Any]) -> Point:
    tokens, batch_size, seq_len, lr = (float(fields[key]) for key in ("tokens", "batch_size", "seq_len", "lr"))
    if not min(tokens, batch_size, seq_len, lr) > 0:
        raise ValueError("its base point is not positive")
    momentum = fields.get("momentum")
    return Point(tokens, batch_size, seq_len, lr, None if momentum is None else float(momentum))


def _power_law(base: Point, fields: Floats) -> PowerLaw:
    """From the values of `LAW`, each of any one shape."""
    batch_exponent, log_batch, lr_exponent, log_lr = fields
    return PowerLaw(
        tokens=float(base.tokens),
        at_batch_tokens=2.0**log_batch,
        at_lr=2.0**log_lr,
        batch_exponent=batch_exponent,
        lr_exponent=lr_exponent,
    )
