"""What there is to work with: a Ray of our own on this machine, or a Ray cluster that runs already.

A private Ray has as many cores as its workers ask for. A cluster has the CPUs and GPUs of its nodes, and Ray decides
which node a worker starts on.
"""

import logging
import math
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import torch

from scionlab import provenance
from scionlab.errors import UserError
from scionlab.sweep.sockets import short_folder

# Tasks pass through Ray's object store once for each worker; its minimum is enough.
OBJECT_STORE_BYTES = 80 * 2**20


@dataclass(frozen=True)
class Machines:
    """CPUs of each node, and GPUs of all of them."""

    cpus: tuple[int, ...]
    gpus: int

    @property
    def n_cpus(self) -> int:
        """Of all nodes."""
        return sum(self.cpus)

    def __str__(self) -> str:
        nodes = f"{len(self.cpus)} node{'s' if len(self.cpus) > 1 else ''}"
        return f"{nodes}, {self.n_cpus} CPUs, {self.gpus} GPUs"


def machines(address: str | None) -> Machines:
    """This machine; or the cluster at `address`, which is connected to for it. UserError if there is none."""
    if address is None:
        return Machines((provenance.cpu_count(),), torch.cuda.device_count())
    with connected(address):
        nodes = [node["Resources"] for node in _nodes() if node["Alive"]]
        return Machines(
            tuple(int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1),
            sum(int(node.get("GPU", 0)) for node in nodes),
        )


@contextmanager
def connected(address: str | None, cores: int = 1) -> Iterator[None]:
    """A private Ray of so many cores, which ends with the block; or a connection to a cluster.

    Raises UserError where there is no cluster at the address.
    """
    if ray.is_initialized():
        raise AssertionError("the sweep starts and stops its own Ray")
    on_terminate = signal.getsignal(signal.SIGTERM)
    folder = short_folder() if address is None else None
    if address is None:
        ray.init(
            address="local",  # never a cluster that happens to be around
            _temp_dir=folder,
            num_cpus=cores,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    else:
        _connect(address)
    signal.signal(signal.SIGTERM, on_terminate)  # Ray puts its own in place, which ends the process on the spot
    try:
        yield
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _connect(address: str) -> None:
    if address.startswith("ray://"):
        raise UserError(f"address: {address!r} is not allowed: run the command on a node of the cluster, with auto")
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:  # none there, no address, another version of Ray
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"address: no Ray cluster can be used at {address!r}: {reason}") from None


def is_alive(node: str | None) -> bool:
    """Whether the cluster has a node of this id, and it is not known to have died."""
    return any(found["NodeID"] == node and found["Alive"] for found in _nodes())


def _nodes() -> list[dict[str, Any]]:
    return ray.nodes()  # type: ignore[no-untyped-call]


def gpu_shares(workers: int, gpus: int) -> list[float]:
    """GPUs of each worker: 1/n of one that n of them use, where n differs by one at most among `gpus` GPUs.

    The larger shares come first: Ray gives a share to the fullest GPU that has room, which then leaves no gaps.
    """
    if gpus == 0:
        return [0.0] * workers
    each, more = divmod(workers, gpus)
    users = [each] * (each * (gpus - more)) + [each + 1] * ((each + 1) * more)
    # Ray counts in ten-thousandths, and n rounded shares must not exceed a GPU
    return [math.floor(1e4 / n) / 1e4 for n in users]


def worker_threads(workers: int, gpus: int, cpus: Sequence[int]) -> int:
    """Cores of each worker: one for trials on the CPU; those on GPUs share what is done there among the CPUs.

    `cpus` are those of each node. All workers fit on the nodes at once, if they do with one core each.
    """
    enough = (t for t in range(max(cpus), 1, -1) if sum(n // t for n in cpus) >= workers)
    return next(enough, 1) if gpus else 1
