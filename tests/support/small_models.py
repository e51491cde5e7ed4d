"""Models whose parameters play every role, and models that nobody here wrote."""

import warnings

import pytest
import torch
from torch import nn

from scionlab.problems.models.gpt import GPT, GPTConfig
from scionlab.roles.roles import assign_roles
from scionlab.spec import Trial


def trial(optimizer: str, width: int = 32, **options) -> Trial:
    return Trial(optimizer=optimizer, lr=2**-6, width=width, options=options)


def gpt_claims(width: int = 32, tied: bool = False):
    return assign_roles(GPT(GPTConfig(width=width, depth=2, tied=tied)))


class Small(nn.Module):
    """Every role: embedding, hidden matrix with bias, gain with bias, head with bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.hidden = nn.Linear(8, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 11)


class Encoder(nn.Module):
    """A language model around torch's own transformer: its layers fuse q, k, v and have biases and learned gains."""

    def __init__(self, vocabulary: int = 11, width: int = 8, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        layer = nn.TransformerEncoderLayer(width, nhead=2, dim_feedforward=16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embed(tokens)))


def gpt2():
    with warnings.catch_warnings():  # of packages that its lazy imports touch; none is about this model
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
        config = transformers.GPT2Config(
            vocab_size=19, n_positions=16, n_embd=8, n_layer=12, n_head=2, bos_token_id=0, eos_token_id=0,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )  # fmt: skip
        return transformers.GPT2LMHeadModel(config)
