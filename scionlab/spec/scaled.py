"""Values of a grid that follow from other fields of the same trial: a factor times powers of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scionlab.errors import UserError, unknown
from scionlab.spec import Trial

DIGITS = 6  # of a scaled value: the last ones differ between machines, and would make other trials


@dataclass(frozen=True)
class Scaled:
    """`factor` times powers of fields, and at most `most` where that is given."""

    factor: float
    exponents: Mapping[str, float]
    most: float | None = None

    def of(self, name: str, fields: Mapping[str, Any]) -> float:
        """The plain value that it is for a trial with these `fields`, to six digits.

        UserError, with the `name` of what is scaled, for a field that a trial does not have, that is not known or no
        number above 0, and for one that is scaled itself.
        """
        value = self.factor
        for field, exponent in self.exponents.items():
            value *= _number(name, field, fields) ** exponent
        if self.most is not None:
            value = min(value, self.most)
        return float(f"{value:.{DIGITS}g}")


def scaled(factor: float, *, most: float | None = None, **exponents: float) -> Scaled:
    """A value of a grid that is `factor` times powers of other fields of its trial, such as batch_size=1, tokens=-2/3.

    It may stand for a field or for an option of the optimizer. A trial holds the plain number, rounded to six digits,
    so it is identified by that, however it was written. `most` is the largest value allowed; by default there is none.
    """
    return Scaled(factor, exponents, most)


def resolved(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a trial with plain numbers for what is scaled in them and in their options."""
    plain = {name: _plain(name, value, fields) for name, value in fields.items()}
    options = plain.get("options")
    if isinstance(options, Mapping):
        plain["options"] = {name: _plain(f"options.{name}", value, fields) for name, value in options.items()}
    return plain


def _plain(name: str, value: Any, fields: Mapping[str, Any]) -> Any:
    return value.of(name, fields) if isinstance(value, Scaled) else value


def _number(name: str, field: str, fields: Mapping[str, Any]) -> float:
    if field not in Trial.model_fields:
        raise unknown(f"{name}, scaled by", field, Trial.model_fields)
    value = fields.get(field, Trial.model_fields[field].default)
    if isinstance(value, Scaled):
        raise UserError(f"{name}: is scaled by {field}, which is scaled itself; name the fields that it follows from")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:
        raise UserError(f"{name}: is scaled by {field}, which must be a number above 0 that the grid names")
    return float(value)
