"""What an experiment tells the study: the keys of its arms and places, the metric, and claims to be judged."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from analysis.tables.settings import Settings

Metric = Literal["val_loss", "val_accuracy", "train_loss", "gap", "log2_loss"]
Kind = Literal["better", "flatter", "no-worse", "grows", "falls"]


class Claim(Settings):
    """One claim. `of` and `than` are arms as they are labelled, or by the values of their keys joined by commas.

    - better: `of` ends better than `than`, at the place `at`, or each at its own best place
    - no-worse: likewise, it ends worse by less than `margin`
    - flatter: from its own best place to the last one, `of` loses less than `than`
    - grows: the best place rises along the key `with`, over several arms, or over those that share all other keys with
      one; by default over all
    - falls: likewise, it falls
    """

    model_config = ConfigDict(populate_by_name=True)

    kind: Kind
    of: str | tuple[str, ...] | None = None
    than: str | None = None
    at: float | str | None = None
    margin: float = Field(default=0.01, ge=0)
    along: str | None = Field(default=None, alias="with")
    text: str | None = None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        of_places = self.kind in ("grows", "falls")
        allowed = ("of", "along") if of_places else ("of", "than", "at", "margin")
        needed = ("along",) if of_places else ("of", "than")
        if self.kind == "flatter":
            allowed = ("of", "than")
        names = {"along": "with"}
        if isinstance(self.of, tuple) and not of_places:
            raise ValueError(f"of: several arms are not allowed in a claim of the kind {self.kind!r}")
        for name in needed:
            if getattr(self, name) is None:
                raise ValueError(f"{names.get(name, name)}: is missing in a claim of the kind {self.kind!r}")
        for name in self.model_fields_set - {"kind", "text", *allowed}:
            raise ValueError(f"{names.get(name, name)}: says nothing in a claim of the kind {self.kind!r}")
        return self


class ComparisonSettings(Settings):
    """`labels` gives values, or whole arms, another name; `across` is the key of the places, None for one place.

    The metric log2_loss, log₂ of a positive validation loss, is for problems whose losses fall by orders of magnitude:
    a difference is a ratio, and noise is relative.

    `tuned` are keys of which every arm has at every place the value that ends best, as it has the best learning rate.
    """

    arms: tuple[str, ...] = Field(default=("optimizer",), min_length=1)
    across: str | None = None
    tuned: tuple[str, ...] = ()
    metric: Metric = "val_loss"
    labels: dict[str, str] = Field(default={})
    claims: tuple[Claim, ...] = ()

    @model_validator(mode="after")
    def _check_claims(self) -> Self:
        for claim in self.claims:
            if self.across is None and (claim.kind in ("flatter", "grows", "falls") or claim.at is not None):
                raise ValueError(f"claims: a claim of the kind {claim.kind!r} needs places: name their key in across")
            if claim.along is not None and claim.along not in self.arms:
                raise ValueError(f"claims: with {claim.along!r} is not allowed: it must be one of arms")
        if self.across in self.arms:
            raise ValueError(f"across: {self.across!r} is not allowed: it is one of arms")
        if repeated := set(self.tuned) & {*self.arms, self.across}:
            raise ValueError(f"tuned: {min(map(str, repeated))!r} is not allowed: it is among arms or across")
        for key in (*self.arms, *self.tuned, self.across):
            if key in ("lr", "seed"):
                raise ValueError(f"arms: {key!r} is not allowed: it is tuned or averaged over")
        return self
