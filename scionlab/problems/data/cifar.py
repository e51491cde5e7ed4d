"""CIFAR-10 from a folder of the user's, in either form of https://www.cs.toronto.edu/~kriz/cifar.html.

    python version   data_batch_1 … data_batch_5, test_batch          pickles of a dictionary with `data` and `labels`
    binary version   data_batch_1.bin … data_batch_5.bin, test_batch.bin  a byte of label, 3,072 of pixels, and again

Training and validation are the authors' training and test batches. A pickle may run any code when it is read, so these
are read by an unpickler that knows numpy's arrays and nothing else.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from scionlab.errors import UserError
from scionlab.problems.data.image_problem import with_options
from scionlab.problems.data.images import N_CLASSES, Images, Labelled, StoredOptions, shuffled

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
# What a pickled array is made of. The files were written when numpy's inner module had its older name.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}


class ArraysOnly(pickle.Unpickler):
    """Reads containers, numbers, bytes and numpy arrays; UnpicklingError for anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """The function or class of this name, if it is allowed."""
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return ALLOWED[module, name]


def cifar10(argument: str) -> Images:
    """The source called `cifar10:FOLDER`, with options after commas."""
    data = f"cifar10:{argument}"
    folder_text, options = with_options(argument, StoredOptions)
    folder = Path(folder_text)
    try:
        folder = folder.expanduser()
        binary = (folder / f"{BATCHES[0]}.bin").is_file()
        parts = [_binary(folder / f"{name}.bin") if binary else _pickled(folder / name) for name in BATCHES]
    except (OSError, RuntimeError, ValueError) as error:  # no such file or home, not a path, not a batch
        reason = (
            f"{Path(error.filename or folder).name}: {error.strerror}" if isinstance(error, OSError) else str(error)
        )
        raise UserError(
            f"data: {data!r} cannot be read: {reason}; it must be a folder that holds {BATCHES[0]} … {BATCHES[4]} and "
            f"{BATCHES[5]}, or these with .bin at their ends"
        ) from None
    train, validation = _join(parts[:-1]), _join(parts[-1:])
    images = Images(data, _join(parts).sha256(), shuffled(train), shuffled(validation))
    return images.with_options(data, options)


def _join(parts: list[Labelled]) -> Labelled:
    return Labelled(np.concatenate([part.pixels for part in parts]), np.concatenate([part.labels for part in parts]))


def _binary(path: Path) -> Labelled:
    raw = np.fromfile(path, dtype=np.uint8)
    if len(raw) == 0 or len(raw) % (1 + PIXELS):
        raise ValueError(f"{path.name}: {len(raw)} bytes are not a number of images of {1 + PIXELS} bytes")
    rows = raw.reshape(-1, 1 + PIXELS)
    return _checked(path, rows[:, 1:], rows[:, 0])


def _pickled(path: Path) -> Labelled:
    with path.open("rb") as file:
        try:
            found = ArraysOnly(file, encoding="bytes").load()
        # a damaged pickle fails with whatever its bytes happen to ask for
        except Exception as error:
            raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(found, dict) or not {b"data", b"labels"} <= found.keys():
        raise ValueError(f"{path.name}: it is no dictionary with data and labels")
    return _checked(path, np.asarray(found[b"data"]), np.asarray(found[b"labels"]))


def _checked(path: Path, pixels: np.ndarray, labels: np.ndarray) -> Labelled:
    """The images, if that is what they are."""
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), PIXELS):
        raise ValueError(f"{path.name}: {pixels.shape} {pixels.dtype} are not {len(labels)} images of {PIXELS} bytes")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= N_CLASSES:
        raise ValueError(f"{path.name}: labels must be whole numbers from 0 to {N_CLASSES - 1}")
    return Labelled(pixels.reshape(-1, *SHAPE), labels.astype(np.uint8))
