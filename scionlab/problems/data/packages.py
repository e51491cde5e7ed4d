"""Data that come inside an installed package, read as files, and packages that are extras.

A package of data is found but not imported: its own import may take seconds or build tables that are not needed here.
"""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from scionlab.errors import UserError


def package_folder(data: str, package: str, install: str) -> Path:
    """The folder of an installed package; a UserError that says how to install it otherwise."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"data: {data!r} needs the package {package}, which is not installed; run `{install}`")
    return Path(spec.submodule_search_locations[0])


def imported(what: str, package: str, install: str) -> ModuleType:
    """An installed package; a UserError that says how to install it otherwise. `what` needs it."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(f"{what} needs the package {package}, which is not installed; run `{install}`") from None
