"""How many trials are trained at a time, here or on a cluster."""

from collections.abc import Iterable

import torch
from rich.console import Console

from scionlab import provenance
from scionlab.errors import UserError
from scionlab.runs.store import RunStore
from scionlab.sweep.executors import set_up_ray
from scionlab.sweep.plan import Plan

# A worker takes about 0.4 GB, Ray itself 0.6 GB: eight of them stay below 4 GB. More can be asked for.
MAX_CPU_WORKERS = 8


def default_workers(plan: Plan) -> int:
    """One trial per core, as each runs on one thread; on CUDA one per GPU, as each may need its whole memory."""
    return torch.cuda.device_count() if _on_gpu(plan) else min(provenance.cpu_count(), MAX_CPU_WORKERS)


def check_gpu(preset: str, devices: Iterable[str]) -> None:
    """UserError for a preset for GPUs where torch sees none and a trial takes whatever there is: days on a CPU.

    Such presets are called gpu, or begin with gpu-. `devices` are those that the trials ask for: auto, cpu or cuda.
    """
    if preset.partition("-")[0] == "gpu" and "auto" in devices and not torch.cuda.is_available():
        raise UserError(
            f"preset: {preset!r} is not allowed here: torch sees no GPU, and on a CPU its trials take days or more; "
            "--without-gpu trains them all the same"
        )


def cluster_workers(plan: Plan, asked: int | None, address: str, store: RunStore, console: Console) -> int:
    """Of a Ray cluster: as many as asked for, else one per CPU or GPU of it. Says what it found.

    UserError where there is no cluster, it is too small, or has no GPU for trials on one.
    """
    set_up_ray()
    from scionlab.sweep.cluster import machines

    found = machines(address)
    console.print(f"cluster at {address}: {found}", soft_wrap=True)
    if len(found.cpus) > 1 and store.on_disk:
        console.print(f"warning: {store.url} must be a folder that all {len(found.cpus)} nodes share", soft_wrap=True)
    if _on_gpu(plan) and not found.gpus:
        raise UserError(f"device: 'cuda' is not allowed: the cluster at {address!r} has no GPU")
    if asked is not None and asked > found.n_cpus:
        raise UserError(f"workers: {asked} is not allowed: the cluster at {address!r} has {found.n_cpus} CPUs")
    return asked or (found.gpus if _on_gpu(plan) else found.n_cpus)


def _on_gpu(plan: Plan) -> bool:
    return any(cell.trial.device == "cuda" for cell in plan.cells)
