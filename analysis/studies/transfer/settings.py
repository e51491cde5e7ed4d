"""What a transfer experiment tells its study: for every method and target the trials of both ways, and the searches."""

from pydantic import BaseModel, ConfigDict, Field

from analysis.tables.settings import Settings


class CellSettings(BaseModel):
    """A method at a target. `zero_shot` and `direct` are trial ids, seed by seed; they may be the same trials."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    optimizer: str
    target: str
    changes: str
    proxy_search: str
    direct_search: str
    zero_shot: tuple[str, ...] = Field(min_length=1)
    direct: tuple[str, ...] = Field(min_length=1)


class ProxySettings(Settings):
    """`rule` is the name of the one that carried batch size and learning rate to another budget."""

    rule: str
    cells: tuple[CellSettings, ...] = Field(min_length=1)
