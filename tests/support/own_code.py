"""Code as a user would write it, for the tests of models and data of one's own."""

MODEL = """
from torch import nn


class Net(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(width, 256)

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.hidden:
            x = x + self.drop(layer(x).relu())
        return self.head(x)


def build(width, depth):
    return Net(width, depth)
"""

DATA = """
import random

import torch


def batches(split, batch_size, seq_len, seed):
    for _ in range(1000 if split == "train" else 8):
        start = random.randrange(256)
        windows = (start + torch.randint(3, (batch_size, seq_len + 1)).cumsum(1)) % 256
        yield windows[:, :-1], windows[:, 1:]
"""

IMAGES = """
import torch


def batches(split, batch_size, seq_len, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(5):
        images = torch.randn(batch_size, 1, 4, 4, generator=generator)
        yield images, (images[:, 0, 0, 0] > 0).long()


batches.n_outputs = 2
"""

SMALL = {
    "width": 8,
    "tokens": 2**9,
    "batch_size": 4,
    "seq_len": 16,
    "val_tokens": 2**8,
    "val_seq_len": 16,
    "device": "cpu",
    "dtype": "float32",
}
