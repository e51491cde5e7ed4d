"""Loss and gradients of a batch by one compiled graph, where eager mode finds them operation by operation.

A graph is compiled once for a shape: architecture, batch and precision. Weights are among its inputs, so all trials of
that shape in a process use it, whatever their method; other processes find its code in PyTorch's cache on disk
(TORCHINDUCTOR_CACHE_DIR) and only load it. It does the same sums as eager mode in another order: rounding apart, the
numbers are the same. Where there is no compiler, or the model cannot be compiled, eager mode takes over and says so.
"""

import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value

from scionlab.training.passes import Passes
from scionlab.training.prepare import shell

Weights = Mapping[str, Tensor]
# Of (weights to differentiate, buffers, batch): the gradients by name, and the loss.
Graph = Callable[..., tuple[dict[str, Tensor], Tensor]]

# Fields of a trial that its graph depends on, besides the shapes of data and batch. `output_scale` is a buffer.
ARCHITECTURE = ("model", "width", "depth", "head_dim", "tied", "residual", "drop_path", "device", "dtype")
# PyTorch stops compiling a function that it has compiled for more shapes than this; its default, 8, is for one model.
# One thread compiles, as the other cores have trials of their own to train, and no pool of processes stays behind.
MAX_GRAPHS = 256

# As PyTorch chooses it.
CXX = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
# Graphs of this process, or why there is none.
_GRAPHS: dict[Hashable, Graph | str] = {}


def load_compiler() -> None:
    """PyTorch's, before a clock runs: a second or two, once a process.

    Its own optimizers would load it when they are made, `torch.func` with the first gradient.
    """
    importlib.import_module("torch._dynamo")


def loss_and_gradients(passes: Passes) -> Graph:
    """The function of weights and a batch, not compiled; holds no weights of its own."""
    empty = Passes(shell(passes.trial, passes.source.shape), passes.source, passes.trial)

    def loss(weights: Weights, buffers: Weights, batch: Tensor) -> Tensor:
        return empty.loss(batch, {**weights, **buffers})

    return grad_and_value(loss)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Numbers below 1e-38 count as zero.

    Where logits are large, softmax and its gradient are full of them, and compiled code, unlike PyTorch's own kernels,
    then takes two to three times as long: on a CPU each costs a hundred cycles.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class Compiler:
    """Calls functions as compiled graphs, while it can.

    `compiled` is False after something could not be compiled, and `note` then says why; `seconds` are those spent on
    compiling and loading.
    """

    def __init__(self, compiled: bool) -> None:
        self.compiled, self.seconds = compiled, 0.0
        self.note: str | None = None

    def columns(self) -> dict[str, Any]:
        """What the runs table says of it."""
        return {"compiled": self.compiled, "compile_s": self.seconds, "compile_note": self.note}

    def call(self, key: Hashable, make: Callable[[], Graph], *arguments: Any) -> Any:
        """The value of the graph that this process keeps under `key`, and `make` makes; None where there is none."""
        if not self.compiled:
            return None
        graph = _GRAPHS.get(key)
        if graph is None:
            return self._compile(key, make, arguments)
        if isinstance(graph, str):
            return self._without(key, graph)
        with flushed_denormals():
            return graph(*arguments)

    def _without(self, key: Hashable, why: str) -> None:
        self.compiled, self.note = False, why
        _GRAPHS[key] = why

    def _compile(self, key: Hashable, make: Callable[[], Graph], arguments: tuple[Any, ...]) -> Any:
        if shutil.which(CXX) is None and all(tensor.device.type == "cpu" for tensor in arguments[0].values()):
            return self._without(key, f"there is no C++ compiler {CXX!r}; set CXX to one")
        began = time.perf_counter()
        import torch._dynamo.config as dynamo  # they take seconds to import
        import torch._inductor.config as inductor

        try:
            with flushed_denormals(), dynamo.patch(recompile_limit=MAX_GRAPHS), inductor.patch(compile_threads=1):
                graph = torch.compile(make(), dynamic=False)
                found = graph(*arguments)
        except torch.OutOfMemoryError:  # parts of half the size may be compiled
            raise
        except Exception as error:  # of many kinds; a mistake in the model comes up again in eager mode
            return self._without(key, f"{type(error).__name__}: {str(error).splitlines()[0]}")
        finally:
            self.seconds += time.perf_counter() - began
        _GRAPHS[key] = graph
        return found


def shape_key(passes: Passes, batch: Tensor, *more: Hashable) -> Hashable:
    """What a graph depends on."""
    fields = tuple(getattr(passes.trial, name) for name in ARCHITECTURE)
    return *fields, type(passes.source), passes.source.shape, passes.problem.form, tuple(batch.shape), *more
