"""Models by name. To add one, write a file with a builder and counts, and add its line to `MODELS`."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from scionlab.models import gpt
from scionlab.spec import Trial


@dataclass(frozen=True)
class Architecture:
    """A built model (weights still PyTorch's defaults) with its counts; FLOPs are forward + backward."""

    build: Callable[[], nn.Module]
    n_params: int
    n_params_hidden: int
    train_flops_per_token: int


def _gpt(trial: Trial, vocab_size: int, output_scale: float) -> Architecture:
    config = gpt.GPTConfig(
        width=trial.width,
        depth=trial.depth,
        vocab_size=vocab_size,
        head_dim=trial.head_dim,
        tied=trial.tied,
        residual=trial.residual,
        output_scale=output_scale,
    )
    return Architecture(
        build=lambda: gpt.GPT(config),
        n_params=gpt.n_params(config),
        n_params_hidden=gpt.n_params_hidden(config),
        train_flops_per_token=gpt.train_flops_per_token(config, trial.seq_len),
    )


MODELS: dict[str, Callable[[Trial, int, float], Architecture]] = {
    "gpt": _gpt,
}
