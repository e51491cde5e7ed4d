"""What a transfer experiment asks for, as typed values: searches on a small model, and targets for what they find.

A `TransferPreset` spans methods × places. The places are the `proxy`, the smallest model, and the `targets`, each named
and given by the fields of a trial that differ there. At every place the same search can be made: `trials` trials whose
values come from the method's `space`. It is made once with every one of `search_seeds`, which seeds its sampler and all
its trials: what one search finds is luck, and only several say how much. What they found is then trained with `seeds`.

`pruning` says whether a trial may be ended early for its loss. By default none is: with a rate that decays, losses on
the way need not rank trials as their ends do, and for some methods they do less than for others. At width 32 with 2^15
tokens the training losses of rates an octave apart, over the second fifth of the steps, have a rank correlation of 1.0
with the final losses for AdamW and Muon, and of 0.3 for Scion, whose steps have a fixed length and hover until the rate
decays. Pruning there ends the hopeless trials of the one and the good ones of the other.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from scionlab.errors import UserError, unknown
from scionlab.names import PATTERN
from scionlab.spec import Trial, Value

PROXY = "proxy"
SEARCHED_FIELDS = ("lr", "momentum")  # every other name in a space is an option of the optimizer

Name = Annotated[str, Field(pattern=f"^{PATTERN}$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
Options = Mapping[str, float | int | str | bool]
Pruning = Literal["none", "median"]


class Method(Value):
    """An optimizer, the options that stay as they are, and the range of what is searched, on a log scale."""

    optimizer: str = Field(min_length=1)
    options: Options = Field(default={})
    space: Mapping[str, tuple[Positive, Positive]] = Field(min_length=1)

    @field_validator("space")
    @classmethod
    def _rising(cls, space: Mapping[str, tuple[float, float]]) -> Mapping[str, tuple[float, float]]:
        for name, (low, high) in space.items():
            if not low < high:
                raise ValueError(f"{name} goes from {low:g} to {high:g}; its first value must be the smaller one")
        return space

    @property
    def middle(self) -> dict[str, float]:
        """The geometric middle of every range."""
        return {name: math.sqrt(low * high) for name, (low, high) in self.space.items()}

    @property
    def corners(self) -> tuple[dict[str, float], dict[str, float]]:
        """The low ends of all ranges, and the high ends."""
        low, high = ({name: ends[i] for name, ends in self.space.items()} for i in (0, 1))
        return low, high


class TransferPreset(Value):
    """Methods, the proxy and its targets under a name: `smoke`, `laptop`, `full` or `gpu`."""

    about: str = ""
    fixed: Mapping[str, Any] = Field(default={}, description="fields of every trial")
    methods: Mapping[Name, Method] = Field(min_length=1)
    proxy: Mapping[str, Any] = Field(min_length=1, description="the proxy's own fields")
    targets: Mapping[Name, Mapping[str, Any]] = Field(min_length=1, description="what differs from the proxy")
    rule: str = Field(default="bst", description="how batch size and learning rate go to another token budget")
    trials: int = Field(default=24, ge=1, le=10_000, description="trials of every search")
    search_seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1, description="a search each")
    pruning: Pruning = Field(default="none", description="median: end a trial whose training loss is above the median")
    seeds: tuple[int, ...] = Field(default=(1, 2, 3, 4), min_length=2, description="of the final comparison")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if PROXY in self.targets:
            raise ValueError(f"targets: {PROXY!r} is not allowed as a target's name")
        if len(set(self.search_seeds)) < len(self.search_seeds):
            raise ValueError(
                f"search_seeds: {_listed(self.search_seeds)} are not allowed: they must differ from one another"
            )
        if len({*self.search_seeds, *self.seeds}) < len(self.search_seeds) + len(self.seeds):
            raise ValueError(
                f"seeds: {_listed(self.seeds)} are not allowed: they must differ from one another and from "
                f"search_seeds {_listed(self.search_seeds)}, whose luck the searches have used"
            )
        for place in (PROXY, *self.targets):
            self._check_place(place)
        return self

    def _check_place(self, place: str) -> None:
        where = "proxy" if place == PROXY else f"targets.{place}"
        for name in self.fields(place):
            if name not in Trial.model_fields:
                raise ValueError(f"{where}: {unknown('field', name, Trial.model_fields)}")
            if name in ("optimizer", "options", "seed", "stages"):
                raise ValueError(f"{where}: {name!r} is not allowed among a place's fields")
        for name, method in self.methods.items():
            try:
                self.trial(name, self.fields(place), method.middle, self.search_seeds[0])
            except UserError as error:
                raise ValueError(f"{where}, methods.{name}: {error}") from None

    def fields(self, place: str) -> dict[str, Any]:
        """The fields of a trial at a place, apart from its method, values and seed. UserError for an unknown place."""
        if place != PROXY and place not in self.targets:
            raise unknown("target", place, self.targets)
        return {**self.fixed, **self.proxy, **({} if place == PROXY else self.targets[place])}

    @property
    def devices(self) -> list[str]:
        """The devices that trials ask for, at the proxy and at every target."""
        return [str(self.fields(place).get("device", "auto")) for place in (PROXY, *self.targets)]

    def trial(
        self, method: str, fields: Mapping[str, Any], values: Mapping[str, float], seed: int, lr_factor: float = 1.0
    ) -> Trial:
        """A trial of a method with values of its space, at the place with these fields; its rate times `lr_factor`."""
        chosen = self.methods[method]
        options = {**chosen.options, **{name: value for name, value in values.items() if name not in SEARCHED_FIELDS}}
        searched = {name: value for name, value in values.items() if name in SEARCHED_FIELDS}
        whole = {**fields, **searched, "optimizer": chosen.optimizer, "options": options, "seed": seed}
        if "lr" in whole:
            whole["lr"] = whole["lr"] * lr_factor
        return Trial(**whole)


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))


class TransferExperiment(Value):
    """The question what tuning a small model loses against tuning the large one, at several prices."""

    name: Name
    title: str
    question: str
    presets: Mapping[Name, TransferPreset] = Field(min_length=1)

    def preset(self, name: str) -> TransferPreset:
        """The preset called `name`; a UserError that lists the names otherwise."""
        if name not in self.presets:
            raise unknown("preset", name, self.presets)
        return self.presets[name]
