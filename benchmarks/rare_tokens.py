"""What a floor under the norm of an embedding's columns does where most tokens are rare, at a vocabulary of 32,768.

    python -m benchmarks.rare_tokens [--steps 2000] [--seeds 2]

A pair of tokens decides a class: each has a hidden vector, of which the class is the largest entry of the sum, by noise
of a softmax. Tokens are drawn by Zipf's law, so that the median one appears about once in 350 steps of 256 pairs. The
model is an embedding (width 16, `column`), a hidden matrix and a head; Scion and unconstrained Scion at 2^-6, decaying.
A line says the loss on fresh pairs, on fresh pairs of tokens beyond the 4,096 most frequent ones, and how long the
longest row has become, in units of its start.
"""

import argparse
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from scionlab import Scion, initialize, param_groups

VOCABULARY, CLASSES, WIDTH, PAIRS = 2**15, 64, 16, 256
FLOORS = (0.0, 1e-8, 1e-4, 1e-2)
LR = 2**-6


class Pairs:
    """Tokens by Zipf's law, and classes by what they mean."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.meanings = torch.randn(VOCABULARY, CLASSES, generator=torch.Generator().manual_seed(0))
        self.zipf = 1 / torch.arange(1, VOCABULARY + 1)

    def draw(self, count: int, rare: bool = False) -> tuple[Tensor, Tensor]:
        """Pairs (count, 2) and their classes; with `rare`, only of tokens beyond the 4,096 most frequent ones."""
        weights = self.zipf.clone()
        if rare:
            weights[: 2**12] = 0
        tokens = torch.multinomial(weights, 2 * count, replacement=True, generator=self.generator).view(count, 2)
        likely = (1.5 * self.meanings[tokens].sum(1)).softmax(-1)
        return tokens, torch.multinomial(likely, 1, generator=self.generator)[:, 0]


class Model(nn.Module):
    """The classes of pairs of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.head = nn.Linear(4 * WIDTH, CLASSES, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (…, classes)."""
        return self.head(self.hidden(self.embed(tokens).sum(1)).relu())


def train(floor: float, constrained: bool, steps: int, seed: int) -> tuple[float, float, float]:
    """Loss on fresh pairs and on rare ones, and the largest row's root mean square."""
    model, pairs = Model(), Pairs(seed + 1)
    groups = param_groups(model)
    initialize(groups, seed, output_init=0.0)
    for group in groups:
        if group["role"] == "input":
            group["norm_options"] = {"floor": floor}
    optimizer = Scion(groups, lr=LR, constrained=constrained)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - step / steps)
        optimizer.zero_grad()
        tokens, classes = pairs.draw(PAIRS)
        nn.functional.cross_entropy(model(tokens), classes).backward()
        optimizer.step()
    fresh = Pairs(10**6)
    with torch.no_grad():
        losses = [
            float(nn.functional.cross_entropy(model(tokens), classes))
            for tokens, classes in (fresh.draw(2**15), fresh.draw(2**15, rare=True))
        ]
        longest = float(model.embed.weight.square().mean(1).sqrt().max())
    return losses[0], losses[1], longest


def lines(steps: int, seeds: int) -> Iterator[str]:
    """One line a method, floor and seed."""
    for constrained in (False, True):
        for floor in FLOORS:
            for seed in range(seeds):
                loss, rare, longest = train(floor, constrained, steps, seed)
                method = "Scion" if constrained else "unconstrained Scion"
                case = f"{method}, floor {floor:g}, seed {seed}"
                yield f"{case}: loss {loss:.4f}, rare {rare:.4f}, longest row {longest:.2f}"


def main() -> None:
    """Print the lines as they come."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rare_tokens", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"vocabulary {VOCABULARY}, chance {math.log(CLASSES):.3f} nats, {asked.steps} steps")
    for line in lines(asked.steps, asked.seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
