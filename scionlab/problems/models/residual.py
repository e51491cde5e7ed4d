"""The constant that multiplies residual branches."""

import math


def residual_scale(residual: str, depth: int) -> float:
    """The scale in x + scale · branch(x) for `depth` = L blocks: `residual` is "1", "1/sqrt(2L)" or "1/L"."""
    return {"1": 1.0, "1/sqrt(2L)": 1 / math.sqrt(2 * depth), "1/L": 1 / depth}[residual]
