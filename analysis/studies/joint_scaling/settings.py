"""What the study of joint laws may be told."""

from typing import Literal

from pydantic import Field

from analysis.tables.settings import Settings

BANDS = (0.1, 0.25, 0.5, 1.0)  # percent of the lowest loss, always shown


class JointScalingSettings(Settings):
    """`reading` is how the optimum is read that findings go by: "profile" (curves over rates, then a parabola over
    batch sizes), "best" (the run of the lowest loss), "band" (the mean, in logarithms, of the runs within `band`
    percent of the lowest loss) or "quadratic" (in both logarithms at once). `tolerance` are octaves of an optimum,
    over the measured sizes, that do not matter. `further` are resources that may have a term beside N and T.
    """

    reading: Literal["profile", "best", "band", "quadratic"] = "profile"
    band: float = Field(default=0.25, gt=0, le=10)
    tolerance: float = Field(default=0.5, gt=0)
    further: tuple[Literal["depth", "width"], ...] = ("depth", "width")

    @property
    def bands(self) -> tuple[float, ...]:
        """All that are read, ascending."""
        return tuple(sorted({*BANDS, self.band}))

    @property
    def chosen(self) -> str:
        """The name of the reading that findings go by."""
        return band_name(self.band) if self.reading == "band" else self.reading


def band_name(percent: float) -> str:
    """The name of a reading by tolerance band."""
    return f"band {percent:g}%"
