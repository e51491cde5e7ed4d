"""Presets: a norm and a radius for every role, by domain and size, and where their numbers come from.

What a layer's input looks like decides its norm (arXiv 2502.07529): a one-hot input picks columns, so the first layer
of a language model is measured column by column; an image's first layer acts on dense vectors, like a hidden one; the
last layer is measured by its largest logit. Vectors have radius 1 everywhere: biases in root mean square, gains by
their largest entry, because their start, 1, lies on that ball.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from scionlab.errors import UserError, unknown

VECTORS = {"gain": "bias-max", "bias": "bias"}


@dataclass(frozen=True)
class RolePreset:
    """Norm and radius by role. `source` says where the numbers come from, and at what sizes they were tuned.

    `first_layer`: the first linear or convolutional layer is the input's (dense inputs).
    """

    norms: Mapping[str, str]
    radii: Mapping[str, float]
    source: str
    first_layer: bool = False


def _preset(source: str, first_layer: bool = False, **balls: tuple[str, float]) -> RolePreset:
    norms = {role: norm for role, (norm, _) in balls.items()} | VECTORS
    radii = {role: radius for role, (_, radius) in balls.items()} | dict.fromkeys(VECTORS, 1.0)
    return RolePreset(norms, radii, source, first_layer)


# A matrix that embedding and head share plays the output's part: (vocabulary, width) acting on the hidden state, its
# entries at most 3000/width. An embedding of its own (positions) has the sign norm of a one-hot input.
_NANOGPT = _preset(
    "NanoGPT of 124M to 3B parameters (width 768 and more), embedding and head shared, with γ of 2e-4 to 4e-4 and α = "
    "0.1, arXiv 2502.07529 and 2603.21191; radius 1 of an embedding of its own is not from there",
    input=("sign-onehot", 1.0),
    hidden=("spectral", 50.0),
    output=("sign", 3000.0),
)

PRESETS: dict[str, RolePreset] = {
    "text": _preset(
        "norms of arXiv 2502.07529; radii tuned here on byte-level GPTs of width 32 to 128 in 128 steps; nanogpt has "
        "those published for 124M parameters and more",
        input=("column", 1.0),
        hidden=("spectral", 3.0),
        output=("sign", 64.0),
    ),
    "shakespeare": _preset(
        "GPTs of width 256 to 2048 and depth 2 on characters, arXiv 2502.07529",
        input=("column", 1.0),
        hidden=("spectral", 3.0),
        output=("sign", 10.0),
    ),
    "nanogpt": _NANOGPT,
    "text-tied": _NANOGPT,  # its first name
    "image": _preset(
        "CNN on CIFAR-10 of arXiv 2502.07529",
        first_layer=True,
        input=("spectral-max", 8.0),
        hidden=("spectral", 8.0),
        output=("sign", 128.0),
    ),
    # Radii of hidden layers multiply from layer to layer where nothing normalizes in between.
    "image-mlp": _preset(
        "MLP without normalization on CIFAR-10 of arXiv 2502.07529",
        first_layer=True,
        input=("spectral-max", 1.0),
        hidden=("spectral", 1.0),
        output=("sign", 1024.0),
    ),
}

# A convolution's own norms, by dimensions of its weight and the matrix norm whose part they play. The max variant
# differs only where there are more input than output channels; with one or three kernel dimensions it has no own name.
CONVOLUTIONS = {
    3: {"spectral": "conv1d", "spectral-max": "conv1d"},
    4: {"spectral": "conv", "spectral-max": "conv-max"},
    5: {"spectral": "conv3d", "spectral-max": "conv3d"},
}


def role_preset(name: str, field: str = "preset") -> RolePreset:
    """The preset called `name`; a UserError, about the field that named it, where there is none."""
    if name not in PRESETS:
        raise unknown(field, name, PRESETS)
    return PRESETS[name]


def norm_for(name: str, ndim: int) -> str:
    """The name of the norm that plays `name`'s part for a weight of `ndim` dimensions.

    Matrices and vectors: `name` itself. Convolutions c_out × c_in × kernel: the convolution's own norm for "spectral"
    and "spectral-max", and every other norm of the flat matrix c_out × c_in·k² where there are two kernel dimensions.
    Raises UserError where nothing plays that part.
    """
    own = CONVOLUTIONS.get(ndim, {})
    if name in own:
        return own[name]
    if ndim <= 2 or name.startswith(("conv", "flat:")):
        return name
    if ndim == 4:
        return f"flat:{name}"
    allowed = f": it must be one of {', '.join(own)}" if own else ""
    raise UserError(f"norm: {name!r} is not allowed for a weight of {ndim} dimensions{allowed}")
