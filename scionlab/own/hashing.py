"""What a module or class of the caller's is, as a hash that changes with its code.

Hashed are the bytes of the module's file and of the local modules that it imports, directly or not, wherever in their
files; and of packages that are installed, name and version. Local is what lies neither in the standard library nor in
a site-packages folder, so a package that is installed for development is local. Not seen are modules that are imported
by a computed name, and the files that code reads. PyTorch's and scionlab's own versions are left out, as they are for
every trial: rows have them in columns of their own.
"""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType
from typing import Any

from scionlab.own.packages import HERE, SHARED

INSTALLED = ("site-packages", "dist-packages")
LEFT_OUT = ("torch", "scionlab")


def class_sha256(found: type) -> str:
    """The hash of a class: that of its module and its name; of a class without a file, that of what it is made of."""
    module = found.__module__
    if _file(module) is not None:
        return hashlib.sha256(f"{code_sha256(module)} {found.__qualname__}".encode()).hexdigest()
    made = [part for base in found.__mro__ if base.__module__ == module for part in _made(vars(base))]
    return hashlib.sha256("\n".join([found.__qualname__, *made]).encode()).hexdigest()


def _made(members: Mapping[str, Any]) -> Iterator[str]:
    """Functions of a class as the instructions they are compiled to, and its plain values."""
    for name, value in sorted(members.items()):
        function = getattr(value, "__func__", getattr(value, "fget", value))
        if code := getattr(function, "__code__", None):
            yield from (f"{name} {part}" for part in _instructions(code))
        elif isinstance(value, bool | int | float | str):
            yield f"{name} {value!r}"


def _instructions(code: CodeType) -> Iterator[str]:
    yield f"{code.co_code.hex()} {code.co_names}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
        else:  # sets have no order
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


@cache
def code_sha256(module: str) -> str:
    """The hash for the module of this name, which must be importable; as it was when it was first asked for."""
    files: dict[str, bytes] = {}
    distributions: dict[str, str] = {}
    waiting = [module]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _file(name)
        if path is None or name.partition(".")[0] in LEFT_OUT:
            continue
        installed = any(part in INSTALLED for part in path.parts)
        if installed:
            distributions |= _distributions(name.partition(".")[0])
        if not installed or name == module:
            files[name] = path.read_bytes()
        if not installed and path.suffix == ".py":
            waiting += _imported(name, files[name], path.stem == "__init__")
    parts = [f"{name} {hashlib.sha256(text).hexdigest()}" for name, text in sorted(files.items())]
    parts += [f"{name}=={version}" for name, version in sorted(distributions.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _file(name: str) -> Path | None:
    """The file of a module that is not Python's own; None for built-in and missing ones, and folders without a file."""
    if name.partition(".")[0] in sys.stdlib_module_names:
        return None
    spec = _spec(name)
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    path = Path(spec.origin).resolve()
    if name in SHARED and path.parent == HERE / name:  # the project's, and behind it the caller's
        beside = [Path(folder, "__init__.py") for folder in (spec.submodule_search_locations or [])[1:]]
        return next((path for path in beside if path.is_file()), None)
    return path if path.is_file() else None


def _spec(name: str) -> ModuleSpec | None:
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__spec__ is not None:
        return loaded.__spec__
    try:
        return importlib.util.find_spec(name)
    except Exception:  # it, or a package that it is in, cannot be imported here: an optional import
        return None


def _imported(name: str, source: bytes, package: bool) -> Iterator[str]:
    """Names of modules that this source imports, those it lies in included; some may be no modules."""
    home = name if package else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            try:
                absolute = importlib.util.resolve_name(base, home)
            except ImportError:  # beyond the top: that import would fail
                continue
            yield from _with_parents(absolute)
            if _spec(absolute) is not None:
                yield from (f"{absolute}.{alias.name}" for alias in node.names)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _distributions(top: str) -> dict[str, str]:
    """Versions of the distributions that a top-level package belongs to."""
    names = _providers().get(top, [])
    return {name: metadata.version(name) for name in set(names)}


@cache
def _providers() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())
