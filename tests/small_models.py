"""Models whose parameters play every role."""

from torch import nn

from scionlab.models.gpt import GPT, GPTConfig
from scionlab.optim.roles import assign_roles


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
