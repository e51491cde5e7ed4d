"""What a parameter group of `Scion` may say, and what goes together."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from scionlab.errors import UserError, unknown
from scionlab.geometry import layer_of
from scionlab.optim.steps.momentum import refuse_cycle
from scionlab.optim.steps.parts import AVERAGES, SCOPES, STEP_RULES
from scionlab.roles.numbers import plain_number
from scionlab.roles.sharded import refuse_shard

NUMBERS = ("lr", "momentum", "radius", "smoothness", "weight_decay", "power", "optimism")
NORM_OPTIONS = ("steps", "coefficients", "dtype", "floor")


def check_step(group: dict[str, Any]) -> None:
    """What schedulers write unchecked. Raises UserError for numbers out of range.

    Numbers of NumPy and tensors without dimensions become Python's; a learning rate that is a tensor stays one.
    """
    refuse_cycle("Scion", group)
    lr = group["lr"]
    of_tensor = isinstance(lr, Tensor) and lr.ndim == 0
    for field in NUMBERS[1:] if of_tensor else NUMBERS:
        group[field] = plain_number(group[field], f"Scion: {field}")
    lr = group["lr"]
    if not of_tensor and (not 0 <= lr < math.inf or (group["constrained"] and lr > 1)):
        allowed = "[0, 1] when constrained" if group["constrained"] else "[0, ∞)"
        raise UserError(f"Scion: lr: {lr!r} is not allowed: it must lie in {allowed}")
    if not 0 < group["momentum"] <= 1:
        raise UserError(f"Scion: momentum: {group['momentum']!r} is not allowed: it must lie in (0, 1]")


def check_group(group: dict[str, Any]) -> None:
    """Raises UserError for values out of range, and for norms that do not measure the group's parameters."""
    check_step(group)
    for field in ("radius", "smoothness"):
        if not 0 < group[field] < math.inf:
            raise UserError(f"Scion: {field}: {group[field]!r} is not allowed: it must be positive and finite")
    for field in ("weight_decay", "power"):
        if not 0 <= group[field] < math.inf:
            raise UserError(f"Scion: {field}: {group[field]!r} is not allowed: it must lie in [0, ∞)")
    if not 0 <= group["optimism"] <= 1:
        raise UserError(f"Scion: optimism: {group['optimism']!r} is not allowed: it must lie in [0, 1]")
    _check_choice("first_average", group["first_average"], ("zero", "gradient"))
    _check_choice("average", group["average"], AVERAGES)
    _check_choice("step_rule", group["step_rule"], STEP_RULES)
    _check_choice("scope", group["scope"], SCOPES)
    if group["foreach"] not in (None, True, False):
        raise UserError(f"Scion: foreach: {group['foreach']!r} is not allowed: it must be None, True or False")
    _check_parts(group)
    if not isinstance(group["norm_options"], Mapping):
        raise UserError(f"Scion: norm_options: {group['norm_options']!r} is not allowed: it must be a dict")
    for option in group["norm_options"]:
        _check_choice("norm_options", option, NORM_OPTIONS)
    for parameter in group["params"]:
        refuse_shard(parameter)
    try:
        layer, parts = layer_of(group), _parts(group)
        for parameter in group["params"]:
            layer.check(group["norm"], parameter.shape)
            layer.check_parts(parts, parameter.shape)
    except UserError as error:
        raise UserError(f"Scion: {error}") from None
    if any(parameter.is_complex() for parameter in group["params"]):
        raise UserError("Scion: a parameter is complex; only real parameters have these norms")


def _check_parts(group: dict[str, Any]) -> None:
    """Parts that do not go together."""
    if group["constrained"] and group["weight_decay"]:
        raise UserError(
            f"Scion: weight_decay: {group['weight_decay']!r} is not allowed: constrained steps decay by lr already"
        )
    if group["constrained"] and group["step_rule"] not in ("lmo", "clipped"):
        raise UserError(
            f"Scion: step_rule: {group['step_rule']!r} is not allowed: a constrained step is 'lmo' or 'clipped'"
        )
    if group["average"] == "lmo" and group["step_rule"] != "lmo":
        raise UserError(f"Scion: step_rule: {group['step_rule']!r} is not allowed: an average of LMOs has no dual norm")


def _parts(group: dict[str, Any]) -> int:
    """Into how many parts a step may cut a matrix."""
    for field in ("period", "period_blocks"):
        if not isinstance(group[field], int) or group[field] < 1:
            raise UserError(f"{field}: {group[field]!r} is not allowed: it must be a whole number from 1 on")
    return group["period_blocks"] if group["period"] > 1 else 1


def _check_choice(field: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise unknown(f"Scion: {field}", str(value), allowed)
