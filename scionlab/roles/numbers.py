"""Numbers that callers compute with NumPy or torch, as Python's."""

from typing import Any

from scionlab.errors import UserError


def plain_number(value: Any, field: str) -> float:
    """As int or float, also a NumPy scalar, and an array or tensor without dimensions. UserError for other values."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, (int, float)):
        raise UserError(f"{field}: {value!r} is not allowed: it must be a number")
    return value
