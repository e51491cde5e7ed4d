"""A Ray that tests of one process share which are not about its start and end, as these take seconds each."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from scionlab.sweep.executors import set_up_ray

HEAD = {"num_cpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}


class SharedRay:
    """It starts when it is first asked for its address."""

    def __init__(self) -> None:
        self.cluster: Any = None

    def address(self) -> str:
        """Where it is."""
        from ray.cluster_utils import Cluster

        if self.cluster is None:
            self.cluster = Cluster(initialize_head=True, head_node_args=HEAD)
        return str(self.cluster.address)

    def stop(self) -> None:
        """Until it is asked for again."""
        if self.cluster is not None:
            self.cluster.shutdown()
            self.cluster = None


@contextmanager
def sharing() -> Iterator[SharedRay]:
    """One for the time of the block."""
    set_up_ray()
    import ray

    shared, real = SharedRay(), ray.init

    def init(*args: Any, **options: Any) -> Any:
        # A process that has had a Ray of its own cannot go back to a cluster it was connected to: actors never start.
        if options.get("address") == "local":
            shared.stop()
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "init", init)
        yield shared
    shared.stop()
