"""What an experiment tells the study: what names an arm, and what to hold it to instead of theory."""

from collections.abc import Mapping

from pydantic import Field

from analysis.tables.settings import Settings


class ConvergenceSettings(Settings):
    """`series` are the keys that name an arm (`analysis.tables.keys`). By these names, `rates` has exponents instead of
    theory's, and `floors` the arms that may stall.
    """

    series: tuple[str, ...] = Field(default=("optimizer", "momentum_schedule", "data"), min_length=1)
    rates: Mapping[str, float] = Field(default={})
    floors: tuple[str, ...] = ()
