"""What is the caller's own in a trial, tried on one batch before anything runs: one sentence a mistake."""

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from scionlab.errors import UserError
from scionlab.optim import asked, method_of, recipe
from scionlab.optim.method import Batch, Method
from scionlab.optim.schedule import FIELDS
from scionlab.own.finding import described, told
from scionlab.problems.data import Examples, Source, is_own
from scionlab.problems.data.base import IGNORED
from scionlab.problems.data.own import OwnData
from scionlab.problems.own_model import function_of
from scionlab.roles.roles import Claim
from scionlab.spec import Trial
from scionlab.training.oracle import ModelOracle
from scionlab.training.passes import Passes, threads, validation_batch
from scionlab.training.prepare import build, data_of, training_batches

# Examples of a training batch that are tried.
EXAMPLES = 2
# Steps of an own optimizer that are tried: the first may take other gradients than those after it.
TRIED_STEPS = 2
# Fields in which trials may differ and still be tried once. Of stages, the first is tried.
SAME = {"lr", "seed", "momentum", "momentum_schedule", *FIELDS, "divergence_factor", "divergence_scale", "tokens"}


def check_own(trials: Iterable[Trial]) -> None:
    """Try every resolved trial that has a model, data, sampler, optimizer or rules of the caller's, alike ones once.

    Raises UserError for the first that does not work.
    """
    own = (trial for trial in trials if trial.has_own_code or is_own(trial.data) or trial.rules)
    first: dict[tuple[object, ...], Tensor] = {}  # batches that trials share: to open a loader may take long
    for trial in {trial.model_dump_json(exclude=SAME): trial for trial in own}.values():
        data, key = data_of(trial), (trial.data, trial.sampler, trial.batch_size, trial.seq_len, trial.seed)
        if key not in first:
            # built-in data give as few as are tried: an image may take long to read
            size = trial.batch_size if is_own(trial.data) or trial.has_own_sampler else EXAMPLES
            first[key] = training_batches(trial, data, size, trial.seq_len).next_batch()[:EXAMPLES].clone()
        with threads(trial):
            _try(trial, data, first[key])


def _try(trial: Trial, data: Source, batch: Tensor) -> None:
    with asked(trial.optimizer):
        model, claims = build(trial, data.shape)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.device.type != "cpu":
            raise UserError(
                f"model: {trial.model!r} returned a model with {name!r} on {tensor.device}; it must be on the CPU, "
                "from where it is moved"
            )
    method = _method(trial, claims)
    passes = Passes(model.to(trial.device), data, trial)
    with passes.draws(0):
        loss = _loss(passes, passes.to_device(batch))
    _check_validation(passes, data.held_out(trial.val_tokens, trial.val_seq_len))
    parameters = [claim.parameter for claim in claims]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    unused = [claim.names[0] for claim, gradient in zip(claims, gradients, strict=True) if gradient is None]
    probes = [name for name in ("probe", "noise_probe") if getattr(trial, name)]
    if probes and unused:
        raise UserError(
            f"{probes[0]}: {getattr(trial, probes[0])} is not allowed with model {trial.model!r}: the loss does not "
            f"depend on its parameter {unused[0]!r}; freeze it with requires_grad_(False), or set 0"
        )
    if trial.has_own_sampler:
        with torch.no_grad(), passes.draws(0):
            outputs, targets, _ = passes.forward(passes.to_device(batch))
            data.per_example(outputs, targets)  # raises where single examples have no loss
    if trial.has_own_optimizer:
        _try_steps(trial, method, passes, passes.to_device(batch))


@torch.no_grad()
def _check_validation(passes: Passes, examples: Examples) -> None:
    """Every batch must have a target that counts, and the first a finite loss: else there is no validation loss."""
    data, trial = passes.source, passes.trial
    parts = examples.split(validation_batch(trial))
    first = examples[: validation_batch(trial) if trial.has_own_model or is_own(trial.data) else EXAMPLES]
    for part in parts if isinstance(data, OwnData) and data.own_loss is None else ():
        targets = data.unpack(part)[1]
        if not targets.is_floating_point() and bool((targets == IGNORED).all()):
            raise UserError(
                f"data: all targets of {len(part)} validation examples of {trial.data!r} are {IGNORED}, which is left "
                "out of the loss; in each batch of so many at least one must count"
            )
    try:
        with passes.evaluating():
            loss = passes.loss(passes.to_device(first))
    except UserError:
        raise
    except Exception as error:
        module = function_of(trial.model)[0] if trial.has_own_model else None
        raise UserError(
            f"model: {trial.model!r} or the loss of data {trial.data!r} raised {told(error, module)} on validation "
            "examples, in evaluation mode"
        ) from error
    if not torch.isfinite(loss):
        raise UserError(
            f"data: the validation loss of {trial.data!r} is {loss.item()} before the first step; it must be finite"
        )


def _method(trial: Trial, claims: Sequence[Claim]) -> Method:
    """The trial's method, whose optimizers check norms and radii; together they must have every parameter once."""
    name = trial.optimizer
    with asked(name):
        made = recipe(trial).optimizers(claims, trial.lr, trial.momentum, trial.width)
        if not isinstance(made, list | tuple) or not all(isinstance(one, Optimizer) for one in made):
            raise UserError(
                f"optimizer: optimizers of {name!r} returned {described(made)}; it must return a list of "
                "torch.optim.Optimizer"
            )
        method = method_of(trial, claims)
    if not isinstance(method, Method):
        raise UserError(
            f"optimizer: method of {name!r} returned {described(method)}; it must return a scionlab.optim.method.Method"
        )
    had = Counter(id(p) for group in method.groups for p in group["params"])
    for claim in claims:
        if had[id(claim.parameter)] != 1:
            raise UserError(
                f"optimizer: the optimizers of {name!r} have parameter {claim.names[0]!r} "
                f"{had[id(claim.parameter)]} times; together they must have each once"
            )
    return method


def _try_steps(trial: Trial, method: Method, passes: Passes, batch: Tensor) -> None:
    """Take steps of an own optimizer with a model that nobody keeps; the second takes as many gradients as it says."""
    oracle, declared = ModelOracle(passes), recipe(trial).gradients_per_step
    with asked(trial.optimizer):
        for _ in range(TRIED_STEPS):
            before = oracle.calls
            loss = method.step(oracle, Batch(batch))
    if not isinstance(loss, Tensor) or loss.ndim:
        raise UserError(f"optimizer: step of {trial.optimizer!r} returned {described(loss)}; it must return the loss")
    if (taken := oracle.calls - before) != declared:
        raise UserError(
            f"optimizer: a step of {trial.optimizer!r} took {taken} gradients, and its gradients_per_step is "
            f"{declared}; budgets count these, so they must be equal"
        )


def _loss(passes: Passes, batch: Tensor) -> Tensor:
    """The loss of a batch, which is a number that depends on the model."""
    data, trial = passes.source, passes.trial
    inputs, targets = data.unpack(batch)
    module = function_of(trial.model)[0] if trial.has_own_model else None
    with torch.autocast(passes.device.type, torch.bfloat16, enabled=trial.dtype == "bfloat16"):
        try:
            outputs = passes.model(inputs)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"model: forward of {trial.model!r} on {described(inputs)} raised {told(error, module)}"
            ) from error
    given = f"model: {trial.model!r} put out {described(outputs)} for {described(inputs)}"
    try:
        loss = data.loss(outputs, targets)
    except Exception as error:
        raise UserError(
            f"{given}, which data {trial.data!r} cannot take with targets of shape {tuple(targets.shape)}: "
            f"{error if isinstance(error, UserError) else told(error, None)}"
        ) from error
    if not isinstance(loss, Tensor) or loss.ndim or not loss.is_floating_point():
        raise UserError(f"data: the loss of {trial.data!r} returned {described(loss)}; it must be a 0-d tensor")
    if not loss.requires_grad:
        raise UserError(f"{given}, and the loss does not depend on any trainable parameter")
    if not torch.isfinite(loss):
        raise UserError(f"{given}, and the loss is {loss.item()} before the first step; it must be finite")
    return loss
