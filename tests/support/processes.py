"""For tests and benchmarks with real processes: a model that counts its steps."""

MODEL = """
import os
import time

from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.hidden = nn.Linear(width, width)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(width, 256)
        self.of = os.path.join(os.environ["STEPS_OF"], str(width))

    def forward(self, tokens):
        if self.training:
            time.sleep({seconds})
            with open(f"{{self.of}}-{{os.getpid()}}", "ab", buffering=0) as file:
                file.write(b".")
        x = self.embed(tokens)
        return self.head(x + self.drop(self.hidden(x).relu()))


def build(width, depth):
    return Net(width)
"""


def slow_model(seconds: float) -> str:
    """The source of a module with `build`, whose step takes at least so long.

    Every process counts its own forward passes, a byte each, in the file WIDTH-PID of the folder $STEPS_OF.
    """
    return MODEL.format(seconds=seconds)
