"""What an experiment tells the study: what is followed, and along which axis."""

from pydantic import Field

from analysis.tables.settings import Settings

BY_OPTIMIZER = ("optimizer",)


class LrTransferSettings(Settings):
    """`axis` is the key the best rate is followed along, `series` the keys that name what is followed."""

    axis: str = "width"
    series: tuple[str, ...] = Field(default=BY_OPTIMIZER, min_length=1)
