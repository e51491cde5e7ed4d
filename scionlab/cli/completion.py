"""What a shell offers after Tab: names of experiments, presets, optimizers and studies.

It is asked anew at every Tab, so nothing here may import torch or read a store's runs.
"""

import ast
import logging
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import typer

from scionlab.errors import UserError

PRESETS = ("smoke", "laptop", "full", "gpu")


def complete_experiment(incomplete: str) -> list[str]:
    """Names of the experiments that come with the project, and Python files."""
    from scionlab.spec.loading import experiment_names

    folder = Path(incomplete).parent
    found = sorted(folder.glob("*")) if folder.is_dir() else []
    files = [path for path in found if path.suffix == ".py" or path.is_dir()]
    texts = [f"{path}/" if path.is_dir() else str(path) for path in files if not path.name.startswith(".")]
    return _beginning([*experiment_names(), *texts], incomplete)


def complete_preset(ctx: typer.Context, incomplete: str) -> list[str]:
    """Presets of the experiment on the line, if it is one; else those that most have."""
    from scionlab.spec.loading import load_experiment

    experiment = ctx.params.get("experiment") or ctx.params.get("option")
    try:
        names: Iterable[str] = load_experiment(experiment).presets if experiment else PRESETS
    except UserError:
        names = PRESETS
    return _beginning(names, incomplete)


def complete_optimizer(incomplete: str) -> list[str]:
    """Names in the table of optimizers, read from its source: to import it is to import torch."""
    return _beginning(optimizer_names(), incomplete)


def optimizer_names() -> list[str]:
    """The keys of `scionlab.optim.OPTIMIZERS`."""
    package = find_spec("scionlab.optim")
    if package is None or package.origin is None:
        return []
    for node in ast.parse(Path(package.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "OPTIMIZERS":
            keys = node.value.keys if isinstance(node.value, ast.Dict) else []
            return [str(key.value) for key in keys if isinstance(key, ast.Constant)]
    return []


def complete_study(incomplete: str) -> list[str]:
    """Names of studies."""
    from analysis.studies.table import STUDIES

    return _beginning(STUDIES, incomplete)


def complete_stored(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of experiments that a store on a disk has sweeps or imports of."""
    from scionlab.runs.store import RunStore

    results = str(ctx.params.get("results") or "results")
    if "://" in results:
        return []
    logging.disable()  # a warning about a file would land on the line that is being typed
    try:
        names = RunStore(Path(results, "runs")).experiments()
    except UserError:
        names = []
    finally:
        logging.disable(logging.NOTSET)
    return _beginning(names, incomplete)


def complete_fitted(ctx: typer.Context, incomplete: str) -> list[str]:
    """What `scionlab fit` takes first: names of experiments that a store has, and of studies."""
    return list(dict.fromkeys([*complete_stored(ctx, incomplete), *complete_study(incomplete)]))


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def choices(*names: str) -> Callable[[str], list[str]]:
    """A completion of fixed names."""
    return lambda incomplete: _beginning(names, incomplete)
