"""What a transfer experiment tells its study: of every method and target the searches, and the trials of both ways."""

from pydantic import BaseModel, ConfigDict, Field

from analysis.tables.settings import Settings


class SearchSettings(BaseModel):
    """What the searches of one search seed found. `zero_shot` and `direct` are trial ids, fresh seed by fresh seed.

    They may be the same trials, and those of another search seed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    proxy_search: str
    direct_search: str
    zero_shot: tuple[str, ...] = Field(min_length=1)
    direct: tuple[str, ...] = Field(min_length=1)


class CellSettings(BaseModel):
    """A method at a target, search seed by search seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    optimizer: str
    target: str
    changes: str
    searches: tuple[SearchSettings, ...] = Field(min_length=1)

    @property
    def studies(self) -> set[str]:
        """Names of the searches."""
        return {name for one in self.searches for name in (one.proxy_search, one.direct_search)}


class ProxySettings(Settings):
    """`rule` is the name of the one that carried batch size and learning rate to another budget."""

    rule: str
    cells: tuple[CellSettings, ...] = Field(min_length=1)
