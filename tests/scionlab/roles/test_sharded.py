"""Sharded parameters are refused in one sentence, when groups are made and by the optimizer itself."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from scionlab import Scion, explain, param_groups
from scionlab.errors import UserError


@pytest.fixture
def alone():
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_a_dtensor_is_refused_by_name(alone):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    fully_shard(model[1], mesh=alone)
    for ask in (explain, param_groups):
        with pytest.raises(
            UserError, match=r"Scion: parameter '1\.weight' is a DTensor, .* sharded parameters are not"
        ):
            ask(model)
    with pytest.raises(UserError, match=r"Scion: a parameter is a DTensor"):
        Scion([model[1].weight])


@pytest.mark.filterwarnings("ignore:FSDP is switching to use `NO_SHARD`")  # one process has nothing to share
@pytest.mark.parametrize("use_orig_params", [True, False])
def test_a_model_in_fsdp_is_refused_by_that_name(alone, use_orig_params):
    model = nn.Sequential(nn.Linear(8, 8), FullyShardedDataParallel(
        nn.Linear(8, 1), device_mesh=alone, device_id=torch.device("cpu"), use_orig_params=use_orig_params,
    ))  # fmt: skip
    with pytest.raises(UserError, match=r"Scion: module '1' is wrapped in FSDP \(FullyShardedDataParallel\)"):
        param_groups(model)
    if not use_orig_params:
        with pytest.raises(UserError, match=r"Scion: a parameter is a flat parameter of FSDP"):
            Scion(list(model[1].parameters()), norm="bias")


def test_a_shard_of_deepspeed_is_refused():
    parameter = nn.Parameter(torch.zeros(0))
    parameter.ds_id = 3
    with pytest.raises(UserError, match="Scion: a parameter is a shard of DeepSpeed"):
        Scion([parameter])
