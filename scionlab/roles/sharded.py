"""Sharded parameters, which no optimizer of this package takes: the LMO of a shard is not the shard of the LMO."""

import sys

from torch import Tensor, nn

from scionlab.errors import UserError


def refuse_sharded(model: nn.Module) -> None:
    """Raises UserError for a model that FSDP or tensor parallelism has cut into shards."""
    for name, module in model.named_modules():
        if any(kind.__name__ == "FullyShardedDataParallel" for kind in type(module).__mro__):
            raise UserError(
                _sentence(f"module {name!r}" if name else "the model", "wrapped in FSDP (FullyShardedDataParallel)")
            )
    for name, parameter in model.named_parameters():
        refuse_shard(parameter, f"parameter {name!r}")


def refuse_shard(parameter: Tensor, what: str = "a parameter") -> None:
    """Raises UserError for a parameter of which this process holds a shard; `what` names it."""
    distributed = sys.modules.get("torch.distributed.tensor")  # where it was never imported, nothing is a DTensor
    if distributed is not None and isinstance(parameter, distributed.DTensor):
        raise UserError(_sentence(what, "a DTensor, made by FSDP's fully_shard or by tensor parallelism"))
    if getattr(parameter, "_is_flat_param", False):
        raise UserError(_sentence(what, "a flat parameter of FSDP (FullyShardedDataParallel)"))
    if hasattr(parameter, "ds_id"):
        raise UserError(_sentence(what, "a shard of DeepSpeed ZeRO stage 3"))


def _sentence(what: str, how: str) -> str:
    return (
        f"Scion: {what} is {how}; sharded parameters are not supported, as the LMO of a shard is not the shard of the "
        "LMO: use DistributedDataParallel"
    )
