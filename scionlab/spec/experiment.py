"""What an experiment asks for: `Preset` (a grid of trials) and `Experiment` (a question with its presets)."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from scionlab.errors import unknown
from scionlab.names import PATTERN
from scionlab.spec.trial import Trial, Value


class Preset(Value):
    """A grid of trials under a name: `smoke` (seconds), `laptop` (minutes), `full` (hours), `gpu`."""

    trials: tuple[Trial, ...] = Field(min_length=1)
    about: str = ""


class Experiment(Value):
    """One question and the grids that answer it, at several prices."""

    name: str = Field(pattern=f"^{PATTERN}$")
    title: str
    question: str
    study: str = Field(default="lr-transfer", description="the fit and page it is for: a name in analysis.studies")
    settings: Mapping[str, Any] = Field(default={}, description="what its study is told, as values JSON can hold")
    presets: Mapping[str, Preset]

    @field_validator("presets")
    @classmethod
    def _not_empty(cls, presets: Mapping[str, Preset]) -> Mapping[str, Preset]:
        if not presets:
            raise ValueError("an experiment needs at least one preset")
        return presets

    def preset(self, name: str) -> Preset:
        """The preset called `name`; a UserError that lists the names otherwise."""
        if name not in self.presets:
            raise unknown("preset", name, self.presets)
        return self.presets[name]
