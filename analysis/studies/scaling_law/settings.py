"""What the study of a scaling law may be told."""

from pydantic import Field

from analysis.tables.settings import Settings


class ScalingLawSettings(Settings):
    """`floor` is a value to hold E at, in nats (default: it is fitted); `flops` are numbers of operations to allocate
    (default: the largest measured, and 10 and 100 times that).
    """

    floor: float | None = Field(default=None, ge=0)
    flops: tuple[float, ...] = Field(default=())
