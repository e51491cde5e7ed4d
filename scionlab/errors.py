"""What a user can get wrong, as one exception type: the command line prints its message and exits with 2.

Messages are the same for those who call from Python and for those who type a command, but for the names of what both
can say: `option` and its like have those of whom is worded to.
"""

import difflib
import reprlib
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from pydantic import ValidationError

_command_line: ContextVar[bool] = ContextVar("command_line", default=False)
# Arguments of Python calls that have other names than the options: `-` is `_` in the others.
ARGUMENTS = {
    "params": "n_params",
    "only-optimizer": "optimizer",
    "base-batch": "batch_size of base",
    "base-seq": "seq_len of base",
    "base-params": "n_params of base",
}


class UserError(ValueError):
    """A mistake in the input. The message is one sentence naming the field, the value and what is allowed."""


@contextmanager
def on_command_line() -> Iterator[None]:
    """Within it messages name options of the command line; else arguments of Python calls."""
    token = _command_line.set(True)
    try:
        yield
    finally:
        _command_line.reset(token)


def worded(command: str, python: str) -> str:
    """One of two texts: for the command line, or for Python."""
    return command if _command_line.get() else python


def argument(name: str) -> str:
    """What an option called `name` is called: `number-repeats`, or `number_repeats`."""
    of_base = name.startswith("base-")
    known = ARGUMENTS.get(name, name.removeprefix("base-").replace("-", "_") + " of base" * of_base)
    return worded(name, known)


def option(name: str, value: str | None = None) -> str:
    """An option, with a value if it has one: `--where loss!=9`, or `where='loss!=9'`."""
    if value is None:
        known, of, base = argument(name).partition(" of ")
        return worded(f"--{name}", f"`{known}`{of}{base}")
    return worded(f"--{name} {shlex.quote(value)}", f"{argument(name)}={value!r}")


def assigned(name: str, targets: Mapping[str, str]) -> str:
    """An option that gives targets a text each: `--map lr=2**x`, or `map={'lr': '2**x'}`."""
    pairs = ",".join(f"{target}={text}" for target, text in targets.items())
    return worded(f"--{name} {pairs}", f"{name}={dict(targets)!r}")


def printable(text: str) -> str:
    """The text in one line, with escapes for what a terminal would not show."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def unknown(field: str, value: str, allowed: Iterable[str]) -> UserError:
    """`field` has no entry called `value`; the closest name is suggested."""
    names = sorted(allowed)
    close = closest(value, names)
    hint = f" (did you mean {close!r}?)" if close else ""
    return UserError(f"{field}: {value!r} is not known{hint}; choose one of {listed(names)}")


def closest(value: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name that a text is most like, whatever the case and the signs between words; None below `cutoff` of 1."""
    spelled: dict[str, str] = {}
    for name in names:
        spelled.setdefault(_letters(name), name)
    close = difflib.get_close_matches(_letters(value), spelled, n=1, cutoff=cutoff)
    return spelled[close[0]] if close else None


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum()) or name


def listed(names: Iterable[str]) -> str:
    """Names in a row; those that hold a comma are quoted, as one separates them."""
    return ", ".join(repr(name) if "," in name else name for name in names)


def from_validation(error: ValidationError, where: str = "") -> UserError:
    """The first complaint of a pydantic error in one line: field, value, what is allowed."""
    first = error.errors(include_url=False)[0]
    field = printable(".".join(str(part) for part in first["loc"]))
    reason = first["msg"].removeprefix("Value error, ")
    if not field:
        return UserError(f"{where}{reason}")
    if isinstance(first["input"], Mapping) and isinstance(first.get("ctx", {}).get("error"), UserError):
        return UserError(f"{where}{field}.{reason}")  # a field of this field was refused, and its message says why
    if first["type"] == "missing":
        return UserError(f"{where}{field}: is missing")
    if isinstance(first.get("ctx", {}).get("error"), UserError) and f": {first['input']!r} is not " in reason:
        return UserError(f"{where}{field}: {reason.partition(': ')[2]}")  # it says what is wrong with this very value
    value = reprlib.repr(first["input"])
    if first["type"] == "extra_forbidden":
        return UserError(f"{where}{field}: no such field (value {value})")
    return UserError(f"{where}{field}: {value} is not allowed: {_plain(reason)}")


def _plain(reason: str) -> str:
    """What pydantic says of a value, in the words of the other messages."""
    said = reason.partition(", unable to")[0].replace("Input should", "it must")
    return said.replace("be a valid", "be a").replace("a tuple", "a list").replace("a boolean", "true or false")
