"""CUDA errors after which a process can compute nothing more on its GPU: it must end, and another take its tasks.

After an illegal access or a failed assertion on the device (as by a label out of range), every later call fails in
milliseconds: a worker that went on would turn the rest of the queue into errors.
"""

from collections.abc import Iterator

import torch

# How CUDA says so; running out of memory, for one, is another matter.
STICKY = (
    "device-side assert", "illegal memory access", "illegal address", "illegal instruction", "misaligned address",
    "invalid address space", "invalid program counter", "hardware stack error", "unspecified launch failure",
    "launch timed out", "uncorrectable ecc error", "uncorrectable nvlink error", "context is destroyed",
    "unrecoverable error", "gpu is lost", "fallen off the bus",
)  # fmt: skip


class PoisonedError(RuntimeError):
    """The process that raises it has lost its GPU; the message is what CUDA said."""


def poison(error: BaseException) -> str | None:
    """What CUDA said, in one line, where an exception means that this process has lost its GPU; else None."""
    for one in _chain(error):
        text = " ".join(str(one).split())
        on_gpu = isinstance(one, torch.AcceleratorError) or "CUDA" in text or "HIP" in text
        if isinstance(one, RuntimeError) and on_gpu and any(phrase in text.lower() for phrase in STICKY):
            return text
    return _asked_of_the_gpu()


def _asked_of_the_gpu() -> str | None:
    """What the GPU says to be waited for: under whatever name an error came, a lost one refuses."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    try:
        torch.cuda.synchronize()
    except torch.OutOfMemoryError:
        return None
    except RuntimeError as refused:
        return " ".join(str(refused).split())
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
