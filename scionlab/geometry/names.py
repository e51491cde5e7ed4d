"""Names of geometries: the table of fixed ones, and families whose name carries a parameter.

- `schatten-P`: the Schatten-p norm, P a number from 1 on or "inf"
- `schatten-mean-P`: its scaled mean, whose P = inf is "spectral-exact"
- `flat:NAME`: the matrix norm NAME on the c_out × (c_in·k²) matrix of an image convolution's kernel
"""

import re
from dataclasses import replace
from functools import cache
from typing import Any

from scionlab.errors import UserError, unknown
from scionlab.geometry.base import Norm
from scionlab.geometry.bias import BiasMax, BiasRMS
from scionlab.geometry.column import Column
from scionlab.geometry.conv import Conv, Flat
from scionlab.geometry.euclidean import Euclidean
from scionlab.geometry.orthogonalize import NewtonSchulz
from scionlab.geometry.row import Row
from scionlab.geometry.schatten import Schatten
from scionlab.geometry.sign import Sign
from scionlab.geometry.spectral import Spectral

NORMS: dict[str, Norm] = {
    "spectral": Spectral(),
    "spectral-exact": Spectral(exact=True),
    "spectral-max": Spectral(at_least_one=True),
    "spectral-max-exact": Spectral(exact=True, at_least_one=True),
    "column": Column(),
    "column-dense": Column(dense=True),
    "row": Row(),
    "sign": Sign(),
    "sign-onehot": Sign(one_hot=True),
    "euclidean": Euclidean(),
    "bias": BiasRMS(),
    "bias-max": BiasMax(),
    "euclidean-vector": Euclidean(ndim=1),
    "conv": Conv(),
    "conv-exact": Conv(exact=True),
    "conv-max": Conv(at_least_one=True),
    "conv-max-exact": Conv(exact=True, at_least_one=True),
    "conv1d": Conv(ndim=3),
    "conv3d": Conv(ndim=5),
}
# Prefix and what stands for the parameter in messages; the longer of two prefixes first.
FAMILIES: dict[str, str] = {"schatten-mean-": "P", "schatten-": "P", "flat:": "NAME"}


def norm_named(
    name: str,
    steps: int | None = None,
    coefficients: str | None = None,
    dtype: str | None = None,
    floor: float = 0.0,
) -> Norm:
    """The geometry called `name`: an entry of `NORMS`, or of a family of this module's docstring.

    `steps`, `coefficients` (a name in `COEFFICIENT_SETS`) and `dtype` (one of `DTYPES`) are those of `NewtonSchulz`,
    for the norms that iterate; `floor`, in [0, 1), of the norms of parts (`Column`, `Row`, `Sign`). The same arguments
    give the same object. Raises UserError for an unknown name, a parameter out of its range, and for options that the
    norm does not have.
    """
    if not isinstance(name, str):  # names also come from state_dicts
        raise unknown("norm", repr(name), _allowed())
    options: dict[str, Any] = {"steps": steps, "coefficients": coefficients, "dtype": dtype}
    given = {option: value for option, value in options.items() if value is not None}
    norm = _named(name, NewtonSchulz(**given) if given else None)
    return norm if floor == 0 else _floored(name, norm, floor)


@cache
def _named(name: str, iteration: NewtonSchulz | None = None) -> Norm:
    norm = NORMS[name] if name in NORMS else _of_family(name)
    if iteration is None:
        return norm
    iterated = _with_iteration(norm, iteration)
    if iterated is None:
        raise UserError(f"steps, coefficients, dtype: not allowed for norm {name!r}, which does not use Newton-Schulz")
    return iterated


@cache
def _floored(name: str, norm: Norm, floor: float) -> Norm:
    if not isinstance(floor, (int, float)) or not 0 < floor < 1:
        raise UserError(f"floor: {floor!r} is not allowed: it must lie in [0, 1)")
    if isinstance(norm, Flat):
        return replace(norm, matrix=_floored(name, norm.matrix, floor))
    if not isinstance(norm, (Column, Row, Sign)):
        raise UserError(f"floor: not allowed for norm {name!r}, which does not measure columns, rows or entries alone")
    return replace(norm, floor=floor)


def _of_family(name: str) -> Norm:
    for prefix in FAMILIES:
        if name.startswith(prefix):
            parameter = name.removeprefix(prefix)
            if prefix == "flat:":
                return Flat(_named(parameter))
            return Schatten(_power(name, parameter), mean=prefix == "schatten-mean-")
    raise unknown("norm", name, _allowed())


def _power(name: str, text: str) -> float:
    if not re.fullmatch(r"inf|\d+(\.\d+)?", text) or float(text) < 1:
        raise UserError(f"norm: {name!r} is not allowed: P of schatten-P is a number from 1 on, or inf")
    return float(text)


def _allowed() -> list[str]:
    return [*NORMS, *(prefix + parameter for prefix, parameter in FAMILIES.items())]


def _with_iteration(norm: Norm, iteration: NewtonSchulz) -> Norm | None:
    if isinstance(norm, Flat):
        matrix = _with_iteration(norm.matrix, iteration)
        return None if matrix is None else replace(norm, matrix=matrix)
    if isinstance(norm, (Spectral, Conv)) and not norm.exact:
        return replace(norm, iteration=iteration)
    return None
