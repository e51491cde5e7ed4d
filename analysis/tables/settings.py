"""What an experiment may tell its study, as typed values: a subclass of `Settings` for each study that can be told."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from scionlab.errors import from_validation


class Settings(BaseModel):
    """Frozen; a field it does not know is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Self:
        """From an experiment's `settings`; UserError for what is not allowed."""
        try:
            return cls(**told)
        except ValidationError as error:
            raise from_validation(error, "settings.") from None
