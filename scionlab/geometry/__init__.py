"""Norm balls: the geometry in which a layer is measured and updated.

`NORMS` is the one table of names, and `norm_named` reads it and the names that carry a parameter ("schatten-4"). To add
a norm, write a file with a `Norm` and add its line to the table in `names.py`; the contract test in
`tests/scionlab/geometry/test_geometry.py` picks it up. `Layer` applies a norm to a tensor as it is stored,
`NetworkNorm` puts one layer after the other together. `NewtonSchulz` holds the options of the iteration behind the
spectral norms.
"""

from scionlab.geometry.base import Norm
from scionlab.geometry.bias import BiasMax, BiasRMS
from scionlab.geometry.column import Column
from scionlab.geometry.conv import Conv, Flat
from scionlab.geometry.euclidean import Euclidean
from scionlab.geometry.layer import LAYOUTS, Layer, layer_of
from scionlab.geometry.names import FAMILIES, NORMS, norm_named
from scionlab.geometry.network import NetworkNorm
from scionlab.geometry.orthogonalize import COEFFICIENT_SETS, DTYPES, NewtonSchulz
from scionlab.geometry.row import Row
from scionlab.geometry.schatten import Schatten
from scionlab.geometry.sign import Sign
from scionlab.geometry.spectral import Spectral

__all__ = [
    "COEFFICIENT_SETS",
    "DTYPES",
    "FAMILIES",
    "LAYOUTS",
    "NORMS",
    "BiasMax",
    "BiasRMS",
    "Column",
    "Conv",
    "Euclidean",
    "Flat",
    "Layer",
    "NetworkNorm",
    "NewtonSchulz",
    "Norm",
    "Row",
    "Schatten",
    "Sign",
    "Spectral",
    "layer_of",
    "norm_named",
]
