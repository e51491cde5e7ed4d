"""One training run as typed values: `Trial`, and the `Stage`s it may have.

Symbols: T `tokens`, B `batch_size`, S `seq_len`, K `steps`, γ `lr`, α `momentum` (the weight of the *new* gradient: 0.1
is "0.9 momentum" elsewhere).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from scionlab.errors import from_validation

# Fields that came after trials had been stored, and what those trials did: there they are no part of the identity, so
# that the stored ones keep their ids.
ADDED_LATER: Mapping[str, Any] = {
    "stages": (),
    "probe": 0,
    "watch": 0,
    "momentum_schedule": "constant",
    "train_limit": 0,
    "rules": (),
    "roles": "auto",
    "initialization": "method",
    "warmup": 0.0,
    "decay": "linear",
    "min_lr_ratio": 0.0,
    "clip_norm": 0.0,
    "clip_by": "euclidean",
    "ema": 0.0,
    "validate_every": 0,
    "divergence_scale": 1.0,
    "calls_per_step": 1,
    "sampler": "shuffled",
    "sampler_options": {},
    "drop_path": 0.0,
    "noise_probe": 0,
}

# Fields that say how often something is measured at steps on the way, beside the loss.
MEASURED = ("probe", "noise_probe", "watch")

# Built-in models of text: their positions are rotary, and embedding and head may share their weights.
OF_TEXT = ("gpt", "nanogpt")
# Those with attention heads, and those with drop path.
WITH_HEADS = (*OF_TEXT, "deit")
WITH_DROP_PATH = ("deit",)


class Value(BaseModel):
    """What specs are made of: frozen, checked, and a field it does not know is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise from_validation(error) from None


class Stage(Value):
    """Hyperparameters restarted in the middle of a run, when `from_tokens` of the trial's tokens are used up.

    Weights, averages and moments go on as they are. So does the order of the training windows, unless `seq_len`
    changes: then an order of windows of the new length begins, and text may be seen again before the rest was seen.
    """

    from_tokens: int = Field(gt=0, le=10**15)
    batch_size: int = Field(gt=0, le=2**20)
    seq_len: int = Field(gt=0, le=2**20)
    lr: float = Field(gt=0, le=1e6)


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a trial as it is trained: in whole optimizer steps."""

    batch_size: int
    seq_len: int
    lr: float
    steps: int

    @property
    def step_tokens(self) -> int:
        """batch_size · seq_len, the tokens of one step."""
        return self.batch_size * self.seq_len

    @property
    def tokens(self) -> int:
        """steps · batch_size · seq_len."""
        return self.steps * self.step_tokens


class Trial(Value):
    """One training run. Fields that are not sizes are explained where they are used.

    `batch_size`, `seq_len` and `lr` are those of the first stage, and `stages` are the later ones; `tokens` is the
    budget of all stages together, and `schedule` the shape of the learning rate over it.
    """

    optimizer: str = Field(min_length=1)
    options: dict[str, float | int | str | bool] = {}
    lr: float = Field(gt=0, le=1e6)
    momentum: float = Field(default=0.1, gt=0, le=1)
    momentum_schedule: Literal["constant", "vanishing"] = Field(
        default="constant", description="vanishing is 1/sqrt(k) at step k, and `momentum` is not read"
    )
    schedule: Literal["trapezoid", "linear", "cosine", "constant"] = Field(
        default="linear", description="of the rate, `scionlab.optim.schedule`; wsd is another name of trapezoid"
    )
    warmup: float | None = Field(
        default=None, ge=0, lt=1, description="share of the run over which the rate rises; None: the optimizer's own"
    )
    decay_fraction: float = Field(default=0.4, gt=0, le=1, description="share of the run over which a trapezoid falls")
    decay: Literal["linear", "cosine", "sqrt"] = Field(default="linear", description="how a trapezoid falls")
    min_lr_ratio: float = Field(default=0.0, ge=0, le=1, description="share of the peak rate that it falls to")
    clip_norm: float = Field(
        default=0.0, ge=0, description="the gradients of a step are scaled down to this norm; 0: never"
    )
    clip_by: Literal["euclidean", "dual"] = Field(
        default="euclidean", description="that norm: of all entries, or the dual of the network's (`NetworkNorm.dual`)"
    )
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="decay a step of the exponential average of the weights that is validated; 0: the weights are",
    )

    model: str = "gpt"
    width: int = Field(gt=0, le=2**16)
    depth: int = Field(default=2, gt=0, le=1000)
    head_dim: int = Field(default=16, gt=0)
    tied: bool = False
    residual: Literal["1", "1/sqrt(2L)", "1/L"] = "1/sqrt(2L)"
    drop_path: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="probability that a branch of the last block is left out of an example in training; it rises "
        "linearly from 0 at the first block",
    )

    data: str = "sotu"
    tokens: int = Field(default=2**18, gt=0, le=10**15, description="token budget; rounded to whole steps")
    calls_per_step: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="how often a step's tokens count against the budget; None: once for every gradient that the method "
        "takes of them",
    )
    batch_size: int = Field(default=16, gt=0, le=2**20)
    seq_len: int = Field(default=64, gt=0, le=2**20)
    train_limit: int = Field(default=0, ge=0, le=10**15, description="tokens of training data used, 0 for all")
    sampler: str = Field(
        default="shuffled",
        pattern=r"^shuffled$|:",
        description="who chooses a step's examples: shuffled, every one once an epoch, or MODULE:SAMPLER, which may "
        "listen to how they did (`scionlab.problems.data.sampler`)",
    )
    sampler_options: dict[str, float | int | str | bool] = {}
    val_tokens: int = Field(default=2**15, gt=0, le=2**40)
    val_seq_len: int = Field(default=64, gt=0, le=2**20)
    stages: tuple[Stage, ...] = ()

    seed: int = Field(default=0, ge=0, lt=2**31)
    divergence_factor: float = Field(
        default=4.0, gt=1, description="a run ends above first + (factor - 1) * max(|first|, scale), its first loss"
    )
    divergence_scale: float = Field(default=1.0, gt=0, le=1e9, description="that scale, in the loss' unit")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    probe: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="how many times the constants of the landscape are measured: at steps K/probe, 2K/probe, …, K",
    )
    noise_probe: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="how many times the noise of single gradients is measured, layer by layer: before the steps "
        "K/noise_probe, 2K/noise_probe, …, K",
    )
    validate_every: int = Field(
        default=0, ge=0, le=10**15, description="tokens from one validation to the next; 0: at the end only"
    )
    watch: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="how many times every layer is measured: before the first step, and after K/watch, 2K/watch, …, K",
    )

    rules: tuple[str, ...] = Field(
        default=(), description="which parts parameters play, as text of `scionlab.roles.rules`, before everything else"
    )
    roles: str = Field(
        default="auto",
        description="preset of norms and radii by role; auto is the built-in model's, or what fits the inputs",
    )
    initialization: Literal["method", "model"] = Field(
        default="method", description="who fills the weights: the method, or the model, whose start is then kept"
    )

    @field_validator("optimizer", "model", "data", "options", "sampler", "sampler_options")
    @classmethod
    def _check_texts(cls, value: Any) -> Any:
        texts = [text for pair in value.items() for text in pair] if isinstance(value, dict) else [value]
        if not all(text.isprintable() for text in texts if isinstance(text, str)):  # a line break, half a character
            raise ValueError("it has characters that cannot be printed")
        return value

    @field_validator("schedule", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        return "trapezoid" if value == "wsd" else value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.model in WITH_HEADS and self.width % self.head_dim:
            raise ValueError(f"head_dim: {self.head_dim} does not divide width {self.width}")
        if self.model in OF_TEXT and self.head_dim % 2:
            raise ValueError(f"head_dim: {self.head_dim} is odd; rotary positions need an even head size")
        if self.drop_path and self.model not in WITH_DROP_PATH:
            raise ValueError(
                f"drop_path: {self.drop_path} is not allowed with model {self.model!r}: only "
                f"{', '.join(WITH_DROP_PATH)} leaves out branches"
            )
        if self.tied and self.has_own_model:
            raise ValueError(f"tied: True is not allowed: whether weights are shared is up to model {self.model!r}")
        if self.val_tokens % self.val_seq_len:
            raise ValueError(f"val_tokens: {self.val_tokens} is not a multiple of val_seq_len {self.val_seq_len}")
        if self.sampler_options and not self.has_own_sampler:
            raise ValueError(
                f"sampler_options: {self.sampler_options} is not allowed: sampler 'shuffled' has no options"
            )
        if self.schedule == "trapezoid" and (self.warmup or 0) + self.decay_fraction > 1:
            raise ValueError(
                f"warmup: {self.warmup} and decay_fraction {self.decay_fraction} are not allowed: they are more than "
                "the whole run"
            )
        return self

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        starts = [stage.from_tokens for stage in self.stages]
        if any(later <= earlier for earlier, later in pairwise([*starts, self.tokens])):
            raise ValueError(
                f"stages: from_tokens {', '.join(map(str, starts))} is not allowed: it must rise from stage to stage "
                f"and stay below tokens {self.tokens}"
            )
        for budget, stage in self._budgets():
            if self.stages and round(budget / self.counted_tokens(stage)) < 1:
                raise ValueError(
                    f"stages: a stage of {budget} tokens is less than half a step of batch_size {stage.batch_size} × "
                    f"seq_len {stage.seq_len}"
                )
        return self

    @model_serializer(mode="wrap")
    def _leave_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What was done before may be another value than today's default (`warmup`): then it is written.
        at_default = {name for name in ADDED_LATER if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in handler(self).items() if name not in at_default}

    def _budgets(self) -> list[tuple[int, "Trial | Stage"]]:
        """The tokens asked for in every stage, the first included, and who says what is done with them."""
        ends = [0, *(stage.from_tokens for stage in self.stages), self.tokens]
        named: list[Trial | Stage] = [self, *self.stages]
        return [(end - start, by) for (start, end), by in zip(pairwise(ends), named, strict=True)]

    @property
    def is_measured(self) -> bool:
        """Whether something is measured at steps on its way, beside the loss."""
        return any(getattr(self, name) for name in MEASURED)

    @property
    def has_own_model(self) -> bool:
        """Whether the model is a function of the caller's, MODULE:FUNCTION."""
        return ":" in self.model

    @property
    def has_own_sampler(self) -> bool:
        """Whether a sampler of the caller's, MODULE:SAMPLER, chooses the examples."""
        return self.sampler != "shuffled"

    @property
    def has_own_optimizer(self) -> bool:
        """Whether the optimizer is a recipe of the caller's, MODULE:RECIPE."""
        return ":" in self.optimizer

    @property
    def has_own_code(self) -> bool:
        """Whether model, sampler or optimizer are the caller's; of data, `scionlab.problems.data.is_own` says it."""
        return self.has_own_model or self.has_own_sampler or self.has_own_optimizer

    @property
    def plan(self) -> tuple[PlannedStage, ...]:
        """All stages, the first included, in whole steps.

        Each takes its tokens/(batch_size·seq_len·calls_per_step) steps, rounded, at least one.
        """
        return tuple(
            PlannedStage(by.batch_size, by.seq_len, by.lr, max(1, round(budget / self.counted_tokens(by))))
            for budget, by in self._budgets()
        )

    def counted_tokens(self, sizes: "Trial | Stage") -> int:
        """What a step of these sizes counts against the budget: batch_size · seq_len · calls_per_step."""
        return sizes.batch_size * sizes.seq_len * (self.calls_per_step or 1)

    @property
    def steps(self) -> int:
        """K, the budget in whole optimizer steps, summed over the stages."""
        return sum(stage.steps for stage in self.plan)

    @property
    def exact_tokens(self) -> int:
        """Steps · batch_size · seq_len, summed over the stages: what the trial really sees."""
        return sum(stage.tokens for stage in self.plan)

    def replace(self, **changes: Any) -> "Trial":
        """A validated copy with some fields changed."""
        return Trial(**{**dict(self), **changes})  # not as written: what is left out there may not be the default
