"""Numbers as options take them: 10.6e9, 10.6B, 300M or 2^33."""

import math
import re

from scionlab.errors import UserError

SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def number(option: str, text: str) -> float:
    """10.6e9, 10.6B, 300M or 2^33 (also 2**33) as a finite number; a UserError that names the option otherwise."""
    power = re.fullmatch(r"([0-9.]+)(?:\^|\*\*)([-+]?[0-9.]+)", text.strip())
    plain = re.fullmatch(r"([-+]?[0-9_.]+(?:e[-+]?[0-9]+)?)([kmbgt]?)", text.strip().lower())
    try:
        if power:
            value = float(power[1]) ** float(power[2])
        else:
            value = float(plain[1]) * SUFFIXES[plain[2]] if plain else float(text)
    except (ValueError, ArithmeticError):
        raise UserError(f"{option}: {text!r} is not a number; write it like 10.6e9, 10.6B, 300M or 2^33") from None
    if not math.isfinite(value):
        raise UserError(f"{option}: {text!r} is not a finite number")
    return value


def positive(option: str, text: str) -> float:
    """A `number` above 0."""
    value = number(option, text)
    if value <= 0:
        raise UserError(f"{option}: {text!r} is not allowed; it must be above 0")
    return value
