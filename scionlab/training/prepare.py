"""From a trial to what is trained: its method, model and layers, checked against this machine and the data."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from scionlab.errors import UserError, unknown
from scionlab.geometry import layer_of
from scionlab.optim import LmoRecipe, asked, geometry, recipe, recipe_class
from scionlab.optim.steps.scion import ScionLight
from scionlab.own.hashing import code_sha256
from scionlab.own.randomness import STREAMS_VERSION
from scionlab.problems import own_model as own
from scionlab.problems.data import Batches, DataShape, Sizes, Source, is_own, load_sized
from scionlab.problems.data.base import ShuffledBatches
from scionlab.problems.data.sampler import make_sampler, sampler_class
from scionlab.problems.data.windows import LIMIT_VERSION
from scionlab.problems.models import MODELS, Architecture
from scionlab.roles.presets import role_preset
from scionlab.roles.roles import Claim
from scionlab.spec import PlannedStage, Trial, trial_id
from scionlab.training.measure.watch import Watched
from scionlab.training.unread import without_unread


def resolve(trial: Trial) -> Trial:
    """The trial with nothing left to chance: device, dtype, and what follows from its optimizer, made explicit.

    What it does not read is at its default (`scionlab.training.unread`).

    Raises UserError where the machine cannot do what is asked or a name is unknown.
    """
    if trial.has_own_model:
        own.function_of(trial.model)
        if trial.roles == "auto":
            trial = trial.replace(roles="image" if data_of(trial).shape.kind == "image" else "text")
    elif trial.model not in MODELS:
        raise unknown("model", trial.model, [*MODELS, "MODULE:FUNCTION"])
    if trial.roles != "auto":
        role_preset(trial.roles, "roles")
    if trial.has_own_sampler:
        sampler_class(trial.sampler)
    device = trial.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: 'cuda' is not available on this machine; use 'cpu' or 'auto'")
    dtype = trial.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    method = recipe(trial)
    with asked(trial.optimizer):
        for stage in trial.plan:
            method.check(stage.lr)
    if trial.momentum_schedule != "constant" and (not isinstance(method, LmoRecipe) or not method.momentum_may_vary):
        raise UserError(
            f"momentum_schedule: {trial.momentum_schedule!r} is not allowed with optimizer {trial.optimizer!r}: only "
            "'constant' is"
        )
    if trial.clip_norm and isinstance(method, LmoRecipe) and method.optimizer is ScionLight:
        raise UserError(
            f"clip_norm: {trial.clip_norm} is not allowed with optimizer {trial.optimizer!r}, whose average lives in "
            "the gradients: only 0 is"
        )
    warmup = method.warmup if trial.warmup is None else trial.warmup
    calls = method.gradients_per_step if trial.calls_per_step is None else trial.calls_per_step
    explicit = trial.replace(device=device, dtype=dtype, warmup=warmup, calls_per_step=calls)
    return without_unread(explicit, method)


def data_of(trial: Trial) -> Source:
    """What the trial is trained and validated on."""
    return load_sized(trial.data, Sizes(trial.batch_size, trial.seq_len, trial.val_tokens, trial.val_seq_len))


def training_batches(trial: Trial, data: Source, batch_size: int, seq_len: int, stage: int = 0) -> Batches:
    """The trial's training batches of these sizes: in the data's own order, or as its sampler chooses them."""
    batches = data.training(batch_size, seq_len, trial.seed, stage, trial.train_limit)
    if trial.has_own_sampler:
        groups = batches.groups if isinstance(batches, ShuffledBatches) else None
        chosen = make_sampler(trial.sampler, trial.sampler_options, batches.n_windows, groups, trial.seed)
        batches.choose_by(chosen)
    return batches


def identity(trial: Trial, data: Source) -> str:
    """The id of a resolved trial on these data; data of the caller's enter by their code, too."""
    seen = data.split_sha256
    if is_own(trial.data):
        seen = hashlib.sha256(f"{seen} {code_sha256(trial.data.partition(':')[0])}".encode()).hexdigest()
    return trial_id(trial, seen, own.model_sha256(trial), _code(trial))


def _code(trial: Trial) -> dict[str, str | int]:
    """What else the trial's numbers follow from; nothing for what has been as it is since trials were first stored."""
    found = {
        "method": recipe_class(trial.optimizer).NUMERICS,
        "optimizer_sha256": own.optimizer_sha256(trial),
        "start_sha256": own.start_sha256(trial),
        "sampler_sha256": code_sha256(trial.sampler.partition(":")[0]) if trial.has_own_sampler else None,
        "limited": LIMIT_VERSION if trial.train_limit else 0,
        "streams": STREAMS_VERSION if trial.has_own_model or is_own(trial.data) else 0,
    }
    return {name: value for name, value in found.items() if value}


def architecture(trial: Trial, shape: DataShape) -> Architecture:
    """The trial's model with its counts. Raises UserError where it does not fit the data."""
    with asked(trial.optimizer):
        scale = recipe(trial).output_scale(trial.width)
    if trial.has_own_model:
        return own.architecture(trial, shape, scale)
    return MODELS[trial.model](trial, shape, scale)


class _Undrawn(TorchFunctionMode):
    """`torch.nn.init` draws nothing. On "meta", PyTorch would load its compiler for it, which takes a second or two."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" and "tensor" in kwargs:
            return kwargs["tensor"]
        return func(*args, **kwargs)


def shell(trial: Trial, shape: DataShape) -> nn.Module:
    """The trial's model without its weights, on "meta"."""
    with torch.device("meta"), _Undrawn():
        return architecture(trial, shape).build()


def train_flops(trial: Trial, shape: DataShape) -> int:
    """Forward and backward floating-point operations of all steps of the trial."""
    calls = recipe(trial).gradients_per_step
    return sum(stage.steps * calls * flops_per_call(trial, stage, shape) for stage in trial.plan)


def flops_per_call(trial: Trial, stage: PlannedStage, shape: DataShape) -> int:
    """Forward and backward floating-point operations of a gradient of one step's batch.

    Attention's share grows with the stage's seq_len.
    """
    of_this_length = trial.model_copy(update={"seq_len": stage.seq_len})
    return architecture(of_this_length, shape).train_flops_per_token * stage.step_tokens


def build(trial: Trial, shape: DataShape) -> tuple[nn.Module, list[Claim]]:
    """The initialized model on the CPU, and the roles of its parameters. Seeded by the trial."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)  # for what modules draw while they are built
        model = architecture(trial, shape).build()
    claims = own.claims_of(model, trial)
    if trial.initialization == "method":
        recipe(trial).initialize(claims, torch.Generator().manual_seed(trial.seed))
    return model, claims


def watched(model: nn.Module, claims: Sequence[Claim], trial: Trial) -> list[Watched]:
    """What a watch of the trial's model looks at, in the balls of its method, or of Scion where it has none."""
    method, balls = recipe(trial), geometry(trial)
    own = method if isinstance(method, LmoRecipe) else None
    seen: set[str] = set()
    found = []
    for claim in claims:
        group = balls.group(claim)
        path = claim.names[-1].rpartition(".")[0]  # of a shared weight, the module that uses it last: the head
        found.append(
            Watched(
                name=claim.names[0],
                role=claim.role,
                parameter=claim.parameter,
                layer=layer_of(group),
                norm_name=group["norm"],
                has_ball=own is not None,
                decay=own.pull if own else None,
                module=None if path in seen else path,
                clipped=own is not None and own.constrained and own.step_rule == "clipped",
            )
        )
        seen.add(path)
    return found
