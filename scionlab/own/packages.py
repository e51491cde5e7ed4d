"""The project's packages `experiments` and `analysis`, found by where they lie and not by their names.

Research code has folders of these names, and Python looks into the current directory first under `python -m` and
PYTHONPATH=. Both must work beside such folders, and leave them to the caller's code.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parents[2]
SHARED = ("analysis", "experiments")
# The modules of the project's packages that have been imported in a block of their own, by package and name.
_OWN: dict[str, dict[str, ModuleType]] = {package: {} for package in SHARED}


@contextmanager
def own_experiments() -> Iterator[ModuleType]:
    """The project's `experiments`, by that name in this block alone: outside it is whatever the caller's path says."""
    with _own("experiments") as package:
        yield package


@contextmanager
def own_analysis() -> Iterator[None]:
    """The project's `analysis` by that name in this block, for callers of the library who may have one of their own.

    Nothing is done where the name means the project's anyway.
    """
    if _is_own("analysis"):
        yield
        return
    with _own("analysis"):
        yield


@contextmanager
def _own(package: str) -> Iterator[ModuleType]:
    before = _taken(package)
    sys.modules.update(_OWN[package])
    try:
        yield _OWN[package].get(package) or _load(package, HERE / package)
    finally:
        _OWN[package].update(_taken(package))
        sys.modules.update(before)


def _is_own(package: str) -> bool:
    """Whether a name means the project's package, or would if it were imported now."""
    loaded = sys.modules.get(package)
    spec = importlib.util.find_spec(package) if loaded is None else loaded.__spec__
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve().parent == HERE / package


def own_analysis_first() -> None:
    """Make `analysis` the project's in this process; modules that it lacks are those of the caller's `analysis`."""
    ours = HERE / "analysis"
    loaded = sys.modules.get("analysis")
    if loaded is not None and ours in {Path(entry).resolve() for entry in loaded.__path__}:
        return
    _taken("analysis")
    _load("analysis", ours)
    share("analysis")


def share(package: str) -> None:
    """Let modules of a package of the project's be looked for in the caller's folders of its name, too.

    Python takes a folder without an __init__.py only where it finds no package of that name anywhere.
    """
    if package not in SHARED:
        return
    loaded = sys.modules.get(package)
    spec = loaded.__spec__ if loaded is not None else PathFinder.find_spec(package)
    if spec is None or spec.origin is None:
        return
    if Path(spec.origin).resolve().parent == HERE / package:  # the caller's own package is not even imported
        path = importlib.import_module(package).__path__
        known = {Path(entry).resolve() for entry in path}
        folders = dict.fromkeys(Path(entry, package).resolve() for entry in [os.getcwd(), *sys.path])
        path.extend(str(folder) for folder in folders if folder.is_dir() and folder not in known)


def _taken(package: str) -> dict[str, ModuleType]:
    """The imported modules of a package, taken out of Python's table."""
    names = [name for name in sys.modules if name.partition(".")[0] == package]
    return {name: sys.modules.pop(name) for name in names}


def _load(name: str, folder: Path) -> ModuleType:
    spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise AssertionError("a file that ends in .py has a loader")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
