"""Models by name. To add one, write a file with a module and counts, and add its line to `MODELS`."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from scionlab.errors import UserError
from scionlab.problems.data.base import DataShape
from scionlab.problems.models import cifarnet, cnn, deit, gpt, mlp, quadratic
from scionlab.problems.models.nanogpt import NanoGPT
from scionlab.spec import Trial
from scionlab.spec.trial import OF_TEXT


@dataclass(frozen=True)
class Architecture:
    """A built model (weights still PyTorch's defaults) with its counts; FLOPs are forward + backward.

    Hidden parameters are those of neither the first nor the last layer. A token is an image, or a sample of noise,
    where that is what the data are made of.
    """

    build: Callable[[], nn.Module]
    n_params: int
    n_params_hidden: int
    train_flops_per_token: int


def _gpt(trial: Trial, shape: DataShape, output_scale: float) -> Architecture:
    return _transformer(gpt.GPT, trial, shape, output_scale, trial.tied)


def _nanogpt(trial: Trial, shape: DataShape, output_scale: float) -> Architecture:
    return _transformer(NanoGPT, trial, shape, output_scale, tied=True)


def _transformer(model: type[gpt.GPT], trial: Trial, shape: DataShape, output_scale: float, tied: bool) -> Architecture:
    _fits(trial, shape)
    config = gpt.GPTConfig(
        width=trial.width,
        depth=trial.depth,
        vocab_size=shape.n_outputs,
        head_dim=trial.head_dim,
        tied=tied,
        residual=trial.residual,
        output_scale=output_scale,
    )
    return Architecture(
        build=lambda: model(config),
        n_params=gpt.n_params(config),
        n_params_hidden=gpt.n_params_hidden(config),
        train_flops_per_token=gpt.train_flops_per_token(config, trial.seq_len),
    )


def _mlp(trial: Trial, shape: DataShape, output_scale: float) -> Architecture:
    _fits(trial, shape)
    config = mlp.MLPConfig(trial.width, trial.depth, math.prod(shape.input_shape), shape.n_outputs, output_scale)
    return Architecture(
        build=lambda: mlp.MLP(config),
        n_params=mlp.n_params(config),
        n_params_hidden=mlp.n_params_hidden(config),
        train_flops_per_token=mlp.train_flops_per_example(config),
    )


def _cnn(trial: Trial, shape: DataShape, output_scale: float) -> Architecture:
    _fits(trial, shape)
    channels, high, wide = shape.input_shape
    config = cnn.CNNConfig(
        width=trial.width,
        depth=trial.depth,
        input_shape=(channels, high, wide),
        n_outputs=shape.n_outputs,
        residual=trial.residual,
        output_scale=output_scale,
    )
    return Architecture(
        build=lambda: cnn.CNN(config),
        n_params=cnn.n_params(config),
        n_params_hidden=cnn.n_params_hidden(config),
        train_flops_per_token=cnn.train_flops_per_example(config),
    )


def _cifarnet(trial: Trial, shape: DataShape, output_scale: float) -> Architecture:
    _fits(trial, shape)
    if trial.width % cifarnet.NARROW:
        raise UserError(f"width: {trial.width} is not allowed: model 'cifarnet' has a quarter of it in its first group")
    channels, high, wide = shape.input_shape
    if not {high, wide} <= set(cifarnet.SIDES):
        raise UserError(
            f"model: 'cifarnet' reads images of {cifarnet.SIDES[0]} to {cifarnet.SIDES[-1]} pixels a side, but those "
            f"of data {trial.data!r} have {high} × {wide}; an option of data enlarges images, as in 'digits,enlarge=4'"
        )
    config = cifarnet.CifarNetConfig(trial.width, (channels, high, wide), shape.n_outputs, output_scale)
    n_images = min(trial.train_limit or cifarnet.WHITENING_IMAGES, cifarnet.WHITENING_IMAGES)

    def build() -> nn.Module:
        if shape.patches is None:
            raise UserError(f"model: 'cifarnet' starts from patches of images, which data {trial.data!r} do not give")
        return cifarnet.CifarNet(config, shape.patches, n_images)

    return Architecture(
        build=build,
        n_params=cifarnet.n_params(config),
        n_params_hidden=cifarnet.n_params_hidden(config),
        train_flops_per_token=cifarnet.train_flops_per_example(config),
    )


def _deit(trial: Trial, shape: DataShape, output_scale: float) -> Architecture:
    _fits(trial, shape)
    channels, high, wide = shape.input_shape
    if high % deit.PATCH or wide % deit.PATCH:
        raise UserError(
            f"model: 'deit' reads images in squares of {deit.PATCH} × {deit.PATCH} pixels, but those of data "
            f"{trial.data!r} have {high} × {wide}; options of data change that, as in 'digits,enlarge=8'"
        )
    sizes = (trial.width, trial.depth, trial.head_dim, (channels, high, wide), shape.n_outputs)
    config = deit.DeiTConfig(*sizes, output_scale, trial.drop_path)
    return Architecture(
        build=lambda: deit.DeiT(config),
        n_params=deit.n_params(config),
        n_params_hidden=deit.n_params_hidden(config),
        train_flops_per_token=deit.train_flops_per_example(config),
    )


def _quadratic(trial: Trial, shape: DataShape, output_scale: float) -> Architecture:
    # The output is the point itself, not a readout: `output_scale` has nothing to scale.
    _fits(trial, shape)
    return Architecture(
        build=lambda: quadratic.Quadratic(trial.width),
        n_params=trial.width**2,
        n_params_hidden=trial.width**2,
        train_flops_per_token=quadratic.train_flops_per_sample(trial.width),
    )


MODELS: dict[str, Callable[[Trial, DataShape, float], Architecture]] = {
    "gpt": _gpt,
    "nanogpt": _nanogpt,
    "mlp": _mlp,
    "cnn": _cnn,
    "cifarnet": _cifarnet,
    "deit": _deit,
    "quadratic": _quadratic,
}
# The fields of a trial beside width that each model reads; one that is not here is taken to read them all.
SIZES: dict[str, tuple[str, ...]] = {
    "gpt": ("depth", "head_dim", "tied", "residual"),
    "nanogpt": ("depth", "head_dim"),
    "mlp": ("depth",),
    "cnn": ("depth", "residual"),
    "cifarnet": (),
    "deit": ("depth", "head_dim", "drop_path"),
    "quadratic": (),
}
# The kind of data each model is for.
READS = {
    "gpt": "text",
    "nanogpt": "text",
    "mlp": "image",
    "cnn": "image",
    "cifarnet": "image",
    "deit": "image",
    "quadratic": "noise",
}
# Those that normalize over a batch and gather statistics of it: they read it whole, and are trained alone.
OVER_BATCHES = frozenset({"cifarnet"})
# Those that read images as such, and not as vectors.
PICTURES = frozenset({"cnn", "cifarnet", "deit"})
KINDS = {"text": "text", "image": "images", "noise": "noise", "game": "a game"}


def _fits(trial: Trial, shape: DataShape) -> None:
    """Raise UserError for a model whose data are of another kind, or tied without two matrices to tie."""
    reads = READS[trial.model]
    if reads != shape.kind:
        fitting = " or ".join(name for name, kind in READS.items() if kind == shape.kind) or "its own MODULE:FUNCTION"
        raise UserError(
            f"model: {trial.model!r} reads {KINDS[reads]}, but data {trial.data!r} is {KINDS[shape.kind]}; "
            f"use {fitting}"
        )
    if not shape.n_outputs and shape.kind != "noise":
        raise UserError(
            f"model: {trial.model!r} must know how many outputs data {trial.data!r} ask for; say it there, as in "
            "batches.n_outputs = 256"
        )
    if trial.model in PICTURES and len(shape.input_shape) != 3:
        raise UserError(
            f"model: {trial.model!r} reads images (channels, height, width), but data {trial.data!r} have inputs of "
            f"shape {shape.input_shape}"
        )
    if trial.tied and trial.model not in OF_TEXT:
        raise UserError(f"tied: True is not allowed: model {trial.model!r} has no embedding to share with its head")
