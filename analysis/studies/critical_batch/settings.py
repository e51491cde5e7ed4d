"""What the study of critical batch sizes may be told."""

from pydantic import Field

from analysis.tables.settings import Settings


class CriticalBatchSettings(Settings):
    """`linear`: a batch of the linear regime, in sequences; `share`: by how much tokens exceed those at that batch
    where the second definition calls a batch critical. `targets`: losses, by default those of a table of goals, or of a
    sweep some that most batch sizes reach.
    """

    linear: float = Field(default=256, gt=0)
    share: float = Field(default=0.2, gt=0)
    targets: tuple[float, ...] = ()
