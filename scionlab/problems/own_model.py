"""Models of the caller's own, named as MODULE:FUNCTION.

    function(width, depth) → an nn.Module whose forward(inputs) gives a Tensor, or an object with one called `logits`

The roles of its parameters come from the trial's rules and preset, and with them initialization, steps and counts. Its
FLOPs are counted by PyTorch on one example. What it draws while it is built comes from random states of its own.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scionlab.errors import UserError
from scionlab.optim import domain, recipe_class
from scionlab.own.finding import described, find_function, told
from scionlab.own.hashing import LEFT_OUT, class_sha256, code_sha256
from scionlab.own.randomness import Stream, Use
from scionlab.problems.data import DataShape
from scionlab.problems.models import Architecture
from scionlab.roles.roles import Claim, assign_roles
from scionlab.spec import Trial

EXAMPLE = "my_model:build"
# A buffer with the method's factor on the outputs, so that a compiled graph serves all methods.
SCALE = "scionlab_output_scale"


@lru_cache(maxsize=64)
def function_of(model: str) -> tuple[ModuleType, Callable[[int, int], Any]]:
    """The caller's function and its module. Raises UserError where there is none, or one that cannot be called so."""
    return find_function("model", model, EXAMPLE, "width", "depth")


def model_sha256(trial: Trial) -> str | None:
    """Hash of the code of the trial's own model; None for a built-in one."""
    return code_sha256(function_of(trial.model)[0].__name__) if trial.has_own_model else None


def optimizer_sha256(trial: Trial) -> str | None:
    """Hash of the code of the trial's recipe where it is the caller's, by its name or in the table; None for others."""
    chosen = recipe_class(trial.optimizer)
    return None if chosen.__module__.partition(".")[0] in LEFT_OUT else class_sha256(chosen)


def start_sha256(trial: Trial) -> str | None:
    """Hash of the weights an own model starts from, where the trial keeps them: a checkpoint is not in its code."""
    if not trial.has_own_model or trial.initialization == "method":
        return None
    return _start_sha256(trial.model, trial.width, trial.depth)


@lru_cache(maxsize=64)
def _start_sha256(model: str, width: int, depth: int) -> str:
    with torch.device("cpu"), Stream(Use.COUNTS).entered():
        made = _built(model, width, depth, 1.0)
    digest = hashlib.sha256()
    for name, value in made.state_dict().items():
        values = torch.as_tensor(value).detach().contiguous().cpu().reshape(-1)
        digest.update(f"{name} {values.dtype} {tuple(value.shape)} ".encode())
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def architecture(trial: Trial, shape: DataShape, output_scale: float) -> Architecture:
    """The caller's model with its counts. Raises UserError where it cannot be built, or does not read its inputs."""

    if shape.kind == "noise":
        raise UserError(f"model: {trial.model!r} is not allowed with data {trial.data!r}, which only quadratic reads")

    def build() -> nn.Module:
        with Stream(Use.MODEL, trial.seed).entered():
            return _built(trial.model, trial.width, trial.depth, output_scale)

    inputs = _example(trial, shape)
    key = trial.model, trial.width, trial.depth, trial.rules, domain(trial)
    return Architecture(build, *_counts(*key, _Inputs(trial.seq_len, shape, inputs)))


class _Inputs:
    """One example of inputs; all of one length and of data of one shape count as the same."""

    def __init__(self, seq_len: int, shape: DataShape, values: Tensor) -> None:
        self.key, self.seq_len, self.values = (seq_len, shape), seq_len, values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Inputs) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _example(trial: Trial, shape: DataShape) -> Tensor:
    """One input of the data's shape: what the data give as an example, at the trial's length, else zeros."""
    with torch.device("cpu"):
        if shape.example is None:
            text = shape.kind == "text"
            return torch.zeros((1, trial.seq_len), dtype=torch.int64) if text else torch.zeros(1, *shape.input_shape)
        if shape.kind == "text" and shape.example.ndim == 2 and trial.seq_len > 1:
            return shape.example[:, torch.arange(trial.seq_len) % shape.example.shape[1]]
        return shape.example


def _built(model: str, width: int, depth: int, output_scale: float) -> nn.Module:
    module, function = function_of(model)
    try:
        made = function(width, depth)
    except Exception as error:
        raise UserError(
            f"model: {model!r} raised {told(error, module)}, called with width {width} and depth {depth}"
        ) from error
    if not isinstance(made, nn.Module):
        raise UserError(f"model: {model!r} returned {described(made)}; it must return a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in made.parameters()):
        raise UserError(f"model: {model!r} returned a {type(made).__name__} without a trainable parameter")
    made.train()
    made.register_buffer(SCALE, torch.tensor(output_scale), persistent=False)
    made.register_forward_hook(_Outputs(model))
    return made


class _Outputs:
    """A forward hook: the outputs as a tensor, times the method's factor."""

    def __init__(self, model: str) -> None:
        self.model = model

    def __call__(self, module: nn.Module, inputs: Any, outputs: Any) -> Tensor:
        found = outputs if isinstance(outputs, Tensor) else getattr(outputs, "logits", None)
        if not isinstance(found, Tensor):
            raise UserError(
                f"model: forward of {self.model!r} returned {described(outputs)}; it must return a Tensor, or an "
                "object with one called logits"
            )
        return found * getattr(module, SCALE)


def claims_of(model: nn.Module, trial: Trial) -> list[Claim]:
    """The parts that the model's parameters play, by the trial's rules and preset."""
    return _claims(model, trial.rules, domain(trial))


def _claims(model: nn.Module, rules: tuple[str, ...], preset: str) -> list[Claim]:
    claims = assign_roles(model, rules, preset=preset)
    others = [claim for claim in claims if claim.role == "other"]
    if others:
        raise UserError(
            f"rules: parameter {others[0].names[0]!r} has the role other, but a trial has one method for all; give it "
            "another role, or freeze it with requires_grad_(False)"
        )
    return claims


@lru_cache(maxsize=256)
def _counts(
    model: str, width: int, depth: int, rules: tuple[str, ...], preset: str, inputs: _Inputs
) -> tuple[int, int, int]:
    """Parameters, hidden ones, and FLOPs a token."""
    with torch.device("cpu"), Stream(Use.COUNTS).entered():
        made = _built(model, width, depth, 1.0)
        claims = _claims(made, rules, preset)
        flops = _flops(made, model, inputs.values)
    n_params = sum(parameter.numel() for parameter in made.parameters())
    n_hidden = sum(claim.parameter.numel() for claim in claims if _hidden(claim, claims))
    return n_params, n_hidden, flops // inputs.seq_len


def _hidden(claim: Claim, claims: list[Claim]) -> bool:
    """Whether a parameter is neither of the first nor of the last layer: nor are the biases of these."""
    ends = {_home(name) for other in claims if other.role in ("input", "output") for name in other.names}
    return _home(claim.names[0]) not in ends


def _home(name: str) -> str:
    return name.rpartition(".")[0]


def _flops(made: nn.Module, model: str, inputs: Tensor) -> int:
    """Operations of products and convolutions, forward and backward, for these inputs.

    Attention is counted as the two products it is made of, at full length: a causal half is not discounted.
    """
    made.eval()  # normalization over a batch needs more than one example in training
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            made(inputs).float().sum().backward()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"model: forward of {model!r} on {described(inputs)} raised {told(error, function_of(model)[0])}"
        ) from error
    return int(counter.get_total_flops())
