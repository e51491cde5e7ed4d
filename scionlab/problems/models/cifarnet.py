"""The network of airbench (Jordan, arXiv 2404.00498) in the form that the published runs of Muon and Scion train.

    x ← gelu(whiten * p + b);     x ← group(x), three times;     logits = scale · W_out max(x)/width
    group(x):   x ← gelu(norm(pool(W₁ * x)));     x ← gelu(norm(W₂ * x))

`whiten` holds 2 × 2 filters that give patches of the training images covariance 1, and their negatives; they are not
trained, and neither is b, which starts as PyTorch's convolutions do. The other convolutions are 3 × 3 without bias, and
start as PyTorch's with the first c_in of their filters the identity. `norm` is over the batch, with learned biases but
no gains, and running statistics that forget 40% a step; `pool` takes the maximum of 2 × 2, and the last one of 3 × 3.

The width is that of the second and third group; the first has a quarter. Published are 64, 256 and 256.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL, WHITENING_KERNEL = 3, 2
WHITENING_IMAGES = 5_000
WHITENING_EPS = 5e-4
# Sides of images whose last pooling, of 3 × 3, leaves one place.
SIDES = range(25, 49)
NARROW = 4  # the first group's share of the width is one over this


@dataclass(frozen=True)
class CifarNetConfig:
    """Sizes of a CifarNet. `output_scale` multiplies the logits."""

    width: int
    input_shape: tuple[int, int, int]
    n_outputs: int
    output_scale: float = 1.0

    @property
    def channels(self) -> list[int]:
        """After the whitening and after every group."""
        return [2 * self.input_shape[0] * WHITENING_KERNEL**2, self.width // NARROW, self.width, self.width]

    @property
    def positions(self) -> list[int]:
        """Places of the images after the whitening and after every group."""
        sizes = [tuple(side - WHITENING_KERNEL + 1 for side in self.input_shape[1:])]
        for _ in self.channels[1:]:
            sizes.append(tuple(side // 2 for side in sizes[-1]))
        return [high * wide for high, wide in sizes]


class BatchNorm(nn.BatchNorm2d):
    """Normalization over batch and positions with a learned bias; its gain is 1 and not trained."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-12, momentum=0.4)
        del self.weight
        self.register_buffer("weight", torch.ones(channels), persistent=False)


def _convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    made = nn.Conv2d(channels_in, channels_out, KERNEL, padding="same", bias=False)
    with torch.no_grad():
        nn.init.dirac_(made.weight[:channels_in])
    return made


class Group(nn.Module):
    """Two convolutions, each normalized; the first halves the image."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels_in, channels_out)
        self.norm1 = BatchNorm(channels_out)
        self.conv2 = _convolution(channels_out, channels_out)
        self.norm2 = BatchNorm(channels_out)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images of half the height and width."""
        x_BCHW = F.gelu(self.norm1(F.max_pool2d(self.conv1(x_BCHW), 2)))
        return F.gelu(self.norm2(self.conv2(x_BCHW)))


class CifarNet(nn.Module):
    """Images (B, C, H, W) in, logits (B, n_outputs) out.

    `patches` gives the second moments of the k × k patches of the first n training images, (C·k², C·k²), of (k, n).
    """

    def __init__(self, config: CifarNetConfig, patches: Callable[[int, int], Tensor], n_images: int) -> None:
        super().__init__()
        self.config = config
        like = nn.Conv2d(config.input_shape[0], config.channels[0], WHITENING_KERNEL)  # for the start of its bias
        assert like.bias is not None
        self.whiten_bias = nn.Buffer(like.bias.detach())
        filters = whitening(patches(WHITENING_KERNEL, n_images)).float()
        self.whiten = nn.Buffer(filters.reshape(like.weight.shape).to(like.weight.device))
        self.groups = nn.ModuleList(Group(before, after) for before, after in pairwise(config.channels))
        self.head = nn.Linear(config.width, config.n_outputs, bias=False)
        with torch.no_grad():
            self.head.weight /= self.head.weight.std()
        self.output_scale = nn.Buffer(torch.tensor(config.output_scale), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x_BCHW = F.gelu(F.conv2d(images, self.whiten, self.whiten_bias))
        for group in self.groups:
            x_BCHW = group(x_BCHW)
        features = F.max_pool2d(x_BCHW, 3).flatten(1)
        return self.output_scale * self.head(features) / self.config.width


def whitening(moments: Tensor) -> Tensor:
    """Rows (2·d, d) that give vectors of these second moments (d, d) unit ones, and their negatives."""
    with torch.device("cpu"):
        values, vectors = torch.linalg.eigh(moments)
        rows = vectors.T / (values + WHITENING_EPS).sqrt()[:, None]
        return torch.cat((rows, -rows))


def n_params(config: CifarNetConfig) -> int:
    """All that is trained: convolutions, biases of norms, head."""
    first = KERNEL**2 * config.channels[0] * config.channels[1]
    return first + n_params_hidden(config) + config.width * config.n_outputs


def n_params_hidden(config: CifarNetConfig) -> int:
    """Convolutions after the first, and biases of norms."""
    _, *groups = config.channels
    second = KERNEL**2 * sum(channels**2 for channels in groups)
    return second + KERNEL**2 * sum(before * after for before, after in pairwise(groups)) + 2 * sum(groups)


def train_flops_per_example(config: CifarNetConfig) -> int:
    """Floating-point operations of one image's forward and backward pass.

    6 for every weight that is trained at each of its positions, and 2 for the whitening's.
    """
    steps = list(zip(pairwise(config.channels), pairwise(config.positions), strict=True))
    trained = sum(KERNEL**2 * c_out * (c_in * before + c_out * after) for (c_in, c_out), (before, after) in steps)
    whitened = config.positions[0] * config.channels[0] ** 2 // 2
    return 6 * (trained + config.width * config.n_outputs) + 2 * whitened
