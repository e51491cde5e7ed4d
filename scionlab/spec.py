"""What an experiment asks for, as typed values: `Trial` (one training run), `Preset` (a grid of trials) and
`Experiment` (a question with its presets).

A trial's identity is a hash of everything that changes its numbers, so the same cell is never trained twice:
not after a crash, not when a grid grows, not when two experiments share it. Symbols: T `tokens`, B `batch_size`,
S `seq_len`, K `steps`, γ `lr`, α `momentum` (the weight of the *new* gradient: 0.1 is "0.9 momentum" elsewhere).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from scionlab.errors import from_validation, unknown

# Part of every trial's identity. Raise it when a change to the code changes the numbers a trial gives.
NUMERICS_VERSION = 1


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise from_validation(error) from None


class Trial(_Value):
    """One training run. Fields that are not sizes are explained where they are used."""

    optimizer: str = Field(min_length=1)
    options: dict[str, float | int | str | bool] = {}
    lr: float = Field(gt=0, le=1e6)
    momentum: float = Field(default=0.1, gt=0, le=1)
    schedule: Literal["trapezoid", "linear", "constant"] = "linear"
    decay_fraction: float = Field(default=0.4, gt=0, le=1)

    model: str = "gpt"
    width: int = Field(gt=0, le=2**16)
    depth: int = Field(default=2, gt=0, le=1000)
    head_dim: int = Field(default=16, gt=0)
    tied: bool = False
    residual: Literal["1", "1/sqrt(2L)", "1/L"] = "1/sqrt(2L)"

    data: str = "sotu"
    tokens: int = Field(default=2**18, gt=0, le=10**15, description="token budget; rounded to whole steps")
    batch_size: int = Field(default=16, gt=0, le=2**20)
    seq_len: int = Field(default=64, gt=0, le=2**20)
    val_tokens: int = Field(default=2**15, gt=0, le=2**40)
    val_seq_len: int = Field(default=64, gt=0, le=2**20)

    seed: int = Field(default=0, ge=0, lt=2**31)
    divergence_factor: float = Field(default=4.0, gt=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.width % self.head_dim:
            raise ValueError(f"head_dim: {self.head_dim} does not divide width {self.width}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim: {self.head_dim} is odd; rotary positions need an even head size")
        if self.val_tokens % self.val_seq_len:
            raise ValueError(f"val_tokens: {self.val_tokens} is not a multiple of val_seq_len {self.val_seq_len}")
        return self

    @property
    def steps(self) -> int:
        """K, the budget in whole optimizer steps: tokens/(batch_size·seq_len), rounded, at least one."""
        return max(1, round(self.tokens / (self.batch_size * self.seq_len)))

    @property
    def exact_tokens(self) -> int:
        """steps · batch_size · seq_len: what the trial really consumes."""
        return self.steps * self.batch_size * self.seq_len

    def replace(self, **changes: Any) -> "Trial":
        """A validated copy with some fields changed."""
        return Trial(**{**self.model_dump(), **changes})


def trial_id(trial: Trial, data_sha256: str) -> str:
    """16 hex digits of a hash of everything that changes the trial's numbers.

    The text enters by its content (`Corpus.split_sha256`), not by its name or path. `trial` must be resolved:
    device, dtype and the optimizer's options explicit, so that a changed default is a changed trial.
    """
    if "auto" in (trial.device, trial.dtype):
        raise AssertionError("trial_id needs a resolved trial")
    fields = trial.model_dump(exclude={"data"})
    fields |= {"data_sha256": data_sha256, "numerics": NUMERICS_VERSION}
    text = json.dumps(fields, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Preset(_Value):
    """A grid of trials under a name: `smoke` (seconds), `laptop` (minutes), `full` (hours), `gpu`."""

    trials: tuple[Trial, ...] = Field(min_length=1)
    about: str = ""


class Experiment(_Value):
    """One question and the grids that answer it, at several prices."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str
    question: str
    presets: Mapping[str, Preset]

    @field_validator("presets")
    @classmethod
    def _not_empty(cls, presets: Mapping[str, Preset]) -> Mapping[str, Preset]:
        if not presets:
            raise ValueError("an experiment needs at least one preset")
        return presets

    def preset(self, name: str) -> Preset:
        """The preset called `name`; a UserError that lists the names otherwise."""
        if name not in self.presets:
            raise unknown("preset", name, self.presets)
        return self.presets[name]
