"""Find an experiment by name (a file in `experiments/`) or by path (the user's own file)."""

import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from scionlab.errors import UserError, unknown
from scionlab.homes import expanded
from scionlab.own.packages import SHARED, own_experiments, share
from scionlab.spec import Experiment
from scionlab.spec.grid import named_for
from scionlab.spec.tuning import TransferExperiment

# Experiments that search for values instead of training a grid: their SPEC is a TransferExperiment.
TRANSFERS = ("transfer",)


def load_experiment(name_or_path: str, optimizer: str | None = None) -> Experiment:
    """The `SPEC` of `experiments/<name>.py`, hyphens as underscores, or of a path that ends in .py; UserError for none.

    With `optimizer`, what the module's function `for_optimizer` returns for it: the same question of another method.
    """
    module = _module(name_or_path, experiment_names())
    if optimizer is None:
        return _spec(module, name_or_path)
    if not hasattr(module, "for_optimizer"):
        raise UserError(f"optimizer: {name_or_path!r} has no function for_optimizer, so its grid is as it stands")
    return _checked(module.for_optimizer(optimizer), name_or_path)


def load_transfer(name_or_path: str) -> TransferExperiment:
    """The `SPEC` of an experiment that searches for values, by name or by a path in .py; UserError for none."""
    spec = getattr(_module(name_or_path, TRANSFERS), "SPEC", None)
    if isinstance(spec, TransferExperiment):
        return spec
    found = "no SPEC" if spec is None else f"a SPEC of type {type(spec).__name__}"
    raise UserError(
        f"experiment: {name_or_path!r} has {found}; it must define SPEC = scionlab.spec.tuning.TransferExperiment(...)"
    )


@dataclass(frozen=True)
class BuiltIn:
    """An experiment that comes with the project; `which` is what the command line calls it, with its options."""

    which: tuple[str, ...]
    spec: Experiment | TransferExperiment


def built_in(name: str, optimizers: Iterable[str] = ()) -> BuiltIn | None:
    """The experiment that gives its runs this name, such as `batch`, `batch-muon` or `transfer`; None for others.

    `optimizers` are those of its runs: an own one is not to be told from the name alone.
    """
    names = experiment_names()
    if name in {*names, *TRANSFERS}:
        return BuiltIn((name,), _module(name, names).SPEC)
    for of in (of for of in names if name.startswith(f"{of}-")):
        module = _module(of, names)
        optimizer = next((one for one in optimizers if named_for(of, one) == name), name.removeprefix(f"{of}-"))
        if hasattr(module, "for_optimizer"):
            return BuiltIn((of, "--optimizer", optimizer), module.for_optimizer(optimizer))
    return None


def experiment_names() -> list[str]:
    """Names of the grids that come with the project: their files', with hyphens."""
    with own_experiments() as experiments:
        found = [module.name.replace("_", "-") for module in pkgutil.iter_modules(experiments.__path__)]
    return [name for name in found if name not in TRANSFERS]


def _module(name_or_path: str, names: Sequence[str]) -> ModuleType:
    """The user's file, or the project's module of one of these names."""
    if name_or_path.endswith(".py"):
        return _import_file(Path(expanded(name_or_path, "experiment")))
    if name_or_path in {*names, *TRANSFERS}:
        with own_experiments():
            return importlib.import_module(f"experiments.{name_or_path.replace('-', '_')}")
    raise unknown("experiment", name_or_path, [*names, "PATH.py"])


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"experiment: {str(path)!r} is not a file")
    spec = importlib.util.spec_from_file_location(f"user_experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise AssertionError("a path that ends in .py has a loader")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with _beside(path):
            for package in SHARED:
                share(package)
            spec.loader.exec_module(module)
    except UserError as error:
        raise UserError(f"experiment: {path}{_line(error, path)}: {error}") from None
    except Exception as error:
        raise UserError(f"experiment: {path}{_line(error, path)}: {type(error).__name__}: {error}") from error
    return module


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """The block may import what lies beside a file, as `python FILE` may; workers, later, may not."""
    before = list(sys.path)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        yield
    finally:
        sys.path[:] = before


def _line(error: Exception, path: Path) -> str:
    """The line of the user's file the error came from, as ":12"."""
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == path.resolve()
    ]
    return f":{lines[-1]}" if lines else ""


def _spec(module: ModuleType, name: str) -> Experiment:
    return _checked(getattr(module, "SPEC", None), name)


def _checked(spec: object, name: str) -> Experiment:
    if isinstance(spec, TransferExperiment):
        raise UserError(
            f"experiment: {name!r} has no grid to train, it searches for values: use `scionlab tune {name}` and then "
            f"`scionlab transfer {name}`"
        )
    if not isinstance(spec, Experiment):
        found = "no SPEC" if spec is None else f"a SPEC of type {type(spec).__name__}"
        raise UserError(f"experiment: {name!r} has {found}; it must define SPEC = scionlab.spec.Experiment(...)")
    return spec
