"""Code of the caller's, named as MODULE:NAME: found, called and told about, with one sentence for every mistake.

A module is imported as Python would from the current directory; NAME may have dots, as in `module:Class.method`.
"""

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import reduce
from types import ModuleType
from typing import Any

from scionlab.errors import UserError, unknown
from scionlab.own.packages import share


def find(field: str, target: str, form: str, example: str) -> tuple[ModuleType, Any]:
    """The module and the object that `target` names; UserErrors begin with `field`, and show `form` and `example`."""
    name, colon, path = target.partition(":")
    if not (name and colon and path):
        raise UserError(f"{field}: {target!r} is not allowed: it must read {form}, as in {example}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    share(name.partition(".")[0])
    module = _import(field, name)
    try:
        return module, reduce(getattr, path.split("."), module)
    except AttributeError:
        own = [known for known, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise unknown(f"{field}: attribute of {name}", path, own) from None


def find_function(field: str, target: str, example: str, *arguments: str) -> tuple[ModuleType, Callable[..., Any]]:
    """As `find`, of something that can be called with these arguments, by position."""
    module, found = find(field, target, "MODULE:FUNCTION", example)
    if not callable(found):
        raise UserError(f"{field}: {target!r} is {described(found)}; it must be a function")
    if not accepts(found, *arguments):
        raise UserError(
            f"{field}: {target!r} takes {_signature(found)}; it is called as "
            f"{target.partition(':')[2]}({', '.join(arguments)})"
        )
    return module, found


def accepts(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether the function can be called with these arguments, by position; True where Python cannot tell."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # of some functions that are not written in Python
        return True
    return True


def told(error: BaseException, module: ModuleType | None) -> str:
    """Type and message of an exception in the caller's code, and its last line there."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    frames = [frame for frame in frames if "importlib" not in frame.filename]
    own = [frame for frame in frames if module is not None and frame.filename == module.__file__] or frames
    where = f" ({own[-1].filename.removeprefix(os.getcwd() + os.sep)}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def described(value: object) -> str:
    """What a value is, in a few words: type, and shape, length or keys where it has them."""
    kind = type(value).__name__
    if value is None:
        return "None"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"a {kind} of shape {tuple(value.shape)} and {value.dtype}"
    if isinstance(value, Mapping):
        return f"a {kind} with keys {', '.join(map(str, value)) or '(none)'}"
    if isinstance(value, (tuple, list)):
        return f"a {kind} of {len(value)} ({', '.join(type(part).__name__ for part in value[:4])})"
    return f"of type {kind}"


def _import(field: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"{field}: there is no module {name!r}; it must be a name as in `import`, looked up in the current "
                "directory, too"
            ) from None
        raise UserError(f"{field}: importing {name!r} raised {told(error, None)}") from error
    except Exception as error:
        raise UserError(f"{field}: importing {name!r} raised {told(error, None)}") from error


def _signature(function: Callable[..., Any]) -> str:
    return str(inspect.signature(function)).partition(" ->")[0]
