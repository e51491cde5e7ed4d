"""What built-in methods do, by one number each: it must not move unless the method's version in identities does."""

import pytest
import torch
from small_models import Small
from torch import nn

from scionlab.optim import OPTIMIZERS, recipe
from scionlab.optim.recipes.muon import Muon
from scionlab.problems.models.gpt import GPT, GPTConfig
from scionlab.roles.roles import assign_roles
from scionlab.spec import Trial


class Convolutions(nn.Module):
    """Two kernels and a head: what convolutional models have besides."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 6, 3)
        self.head = nn.Linear(6, 5)


MODELS = {
    "plain": Small,
    "tied": lambda: GPT(GPTConfig(width=32, depth=1, vocab_size=7, head_dim=8, tied=True)),
    "convolutions": Convolutions,
}


def draw(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fingerprint(name):
    """A sum over all weights with fixed signs and sizes, after the start and steps with weights in double precision.

    Gradients differ in size from step to step, momentum and rate change once, and where it can, decay is on.
    """
    chosen = recipe(Trial(optimizer=name, lr=0.02, width=64, options=OPTIONS.get(name, {})))
    total = 0.0
    for build in MODELS.values():
        torch.manual_seed(0)
        model = build()
        claims = assign_roles(model)
        chosen.initialize(claims, torch.Generator().manual_seed(1))
        model.double()
        claims = assign_roles(model)
        optimizers = chosen.optimizers(claims, 0.02, 0.2, 64)
        for step in range(4):
            for number, claim in enumerate(claims):
                claim.parameter.grad = draw(claim.parameter.shape, 100 * step + number) * 3.0 ** (step - number % 3)
            for optimizer in optimizers:
                optimizer.step()
        weights = [claim.parameter.detach() for claim in claims]
        total += sum(float((weight * draw(weight.shape, 7)).sum()) for weight in weights)
        total *= chosen.output_scale(64)
    return total


# Where defaults would leave a part of the method at rest.
OPTIONS = {
    "clipped-scion": {"smoothness": 3e3}, "clipped-uscion": {"smoothness": 3e3}, "uscion": {"weight_decay": 0.5},
    "adagrad": {"weight_decay": 0.1}, "rmsprop": {"weight_decay": 0.1}, "shampoo": {"weight_decay": 0.1},
}  # fmt: skip
# For every method its version in identities (`Recipe.NUMERICS`) and its fingerprint. A fingerprint that moves is
# another method under the old name: raise NUMERICS in its recipe, so that its stored trials are not taken for new ones,
# and write both here.
METHODS = {
    "adam": (0, 0.531334545), "adam-mup": (0, -0.307164071), "muon": (0, 0.426606734), "scion": (0, -21.817778),
    "uscion": (0, -22.8235622), "scion-light": (0, -26.2365077), "clipped-scion": (0, -22.8279024),
    "clipped-uscion": (0, -23.6645283), "almond": (0, -27.5241067), "sgd": (0, -22.5762458),
    "normalized-sgd": (0, 0.291537227), "signum": (0, 1.56284117), "sign-sgd": (0, -3.7895445),
    "linf-descent": (0, -406893.289), "spectral-descent": (0, -2877.45208), "shampoo": (0, 0.342668099),
    "adagrad": (0, -1.74915513), "rmsprop": (0, -9.6279725), "normuon": (0, 0.420974048), "adamuon": (0, 0.150031667),
    "muon-hyperball": (0, 0.457841178), "adago": (0, 0.519090768),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_method_does_what_its_version_says(name):
    assert name in METHODS, f"add {name!r}: ({OPTIMIZERS[name].NUMERICS}, {fingerprint(name)!r}) to METHODS"
    version, expected = METHODS[name]
    found = fingerprint(name)
    # Newton-Schulz and semi-orthogonal starts round in single precision, Muon in half
    allowed = pytest.approx(expected, rel=1e-5, abs=0.02 if issubclass(OPTIMIZERS[name], Muon) else 1e-5)
    assert found == allowed, f"raise NUMERICS of {name!r}"
    assert version == OPTIMIZERS[name].NUMERICS
