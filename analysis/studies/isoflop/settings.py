"""What the study of equal operations may be told."""

from typing import Literal

from pydantic import Field

from analysis.tables.settings import Settings


class IsoflopSettings(Settings):
    """`curve` is what goes through the losses of a budget: "parabola" in log N by least squares, as published first, or
    "akima" through the points on logarithmic scales. `floor` is a value to hold the law's E at (default: it is fitted).
    `flops` are budgets to design a sweep for (default: 3 and 10 times the largest measured).
    """

    curve: Literal["parabola", "akima"] = "parabola"
    floor: float | None = Field(default=None, ge=0)
    flops: tuple[float, ...] = ()
