"""What the study of token efficiency may be told."""

from typing import Literal

from pydantic import Field

from analysis.tables.settings import Settings


class TokenEfficiencySettings(Settings):
    """`arms` are the keys that tell methods apart; `reference` is the one that others are compared with, by default the
    first by name. `curve` is what verdicts go by: "interpolation" between budgets, or the "law". `floor` is a value to
    hold the law's E at, of all methods (default: it is fitted). `losses` are where to compare (default: three between
    those that both reach). `optima`: settings with one learning rate are optima that were found elsewhere.
    """

    arms: tuple[str, ...] = Field(default=("optimizer",), min_length=1)
    reference: str | None = None
    curve: Literal["interpolation", "law"] = "interpolation"
    floor: float | None = Field(default=None, ge=0)
    losses: tuple[float, ...] = ()
    optima: bool = False
