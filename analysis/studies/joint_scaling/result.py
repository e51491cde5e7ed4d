"""Joint laws of every method or source, with the optima that they go through."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Outcome
from analysis.laws.joint import WORDS, JointLaw
from analysis.studies.joint_scaling.places import Place
from analysis.studies.joint_scaling.readings import Optimum

MOST = 12  # sources whose readings a terminal is shown; all are in the CSV
NONE = "–"


@dataclass(frozen=True)
class PlaceOptimum:
    """The optimum of a quantity at a place by a reading, in the quantity's unit; `low`, `high` where noise is known."""

    n_params: float
    tokens: float
    further: Mapping[str, float]
    n_runs: int
    reading: str
    quantity: str
    value: float
    low: float | None
    high: float | None
    cut: bool
    why: str

    @classmethod
    def of(cls, place: Place, optimum: Optimum) -> Self:
        """Out of octaves."""
        at = optimum.log2
        return cls(
            n_params=place.n_params,
            tokens=place.tokens,
            further=place.further,
            n_runs=place.n_runs,
            reading=optimum.reading,
            quantity=optimum.quantity,
            value=float(2**at.value),
            low=None if at.low is None else 2**at.low,
            high=None if at.high is None else 2**at.high,
            cut=optimum.cut,
            why=optimum.why,
        )


@dataclass(frozen=True)
class BestSetting:
    """A place's optimum by the chosen reading with what was not swept there: what a plan may start from.

    `batch_tokens` in tokens a step; `seq_len` and the others None where they are not known, or runs differ in them;
    `depth` and `width` where places are told apart by them.
    """

    n_params: float
    tokens: float
    lr: float
    batch_tokens: float
    seq_len: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    beta2: float | None = None
    depth: float | None = None
    width: float | None = None


@dataclass(frozen=True)
class ReadLaw:
    """A quantity's law through the optima by one reading, and the same `without_n`; None where they are too few.

    Of `n_places`, `left_out` counts those whose optimum does not count, by reason; of the others `cut` have a band that
    ends where a grid does. `noise` is what noise leaves open of one optimum, a standard deviation in octaves. `verdict`
    is on N's part.
    """

    reading: str
    quantity: str
    law: JointLaw | None
    without_n: JointLaw | None
    n_places: int
    left_out: Mapping[str, int]
    cut: int
    noise: float | None
    verdict: Outcome
    lacks: Lacks = SETTLED

    @property
    def go_by(self) -> Literal["law", "without_n"]:
        """Which law to go by: that without N where N is not needed, and something else has a term."""
        return "without_n" if self.verdict == Outcome.NOT_NEEDED and self.without_n else "law"

    @property
    def best(self) -> JointLaw | None:
        """The law to go by."""
        return self.without_n if self.go_by == "without_n" else self.law


@dataclass(frozen=True)
class SourceJoint:
    """One method or source: its laws by every reading, of which `reading` is what findings go by.

    `settings` are the places whose optimum counts in everything that was swept.
    """

    name: str
    reading: str
    laws: tuple[ReadLaw, ...]
    optima: tuple[PlaceOptimum, ...]
    n_places: int
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    settings: tuple[BestSetting, ...] = ()

    @property
    def chosen(self) -> tuple[ReadLaw, ...]:
        """The laws that findings go by, one a quantity."""
        return tuple(each for each in self.laws if each.reading == self.reading)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What differs besides, and what the chosen laws say of their terms, each once."""
        return tuple(dict.fromkeys([*self.notes, *(w for each in self.chosen if each.law for w in each.law.warnings)]))


@dataclass(frozen=True)
class JointScaling:
    """All sources of a table of runs; `tolerance` are octaves over the measured sizes that do not matter."""

    sources: tuple[SourceJoint, ...]
    tolerance: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the chosen laws with their resamples, the others without; optima are in the CSV."""
        return {"tolerance_octaves": self.tolerance, "sources": [_source(each) for each in self.sources]}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the name of their CSV."""
        return {
            "joint_scaling": pd.DataFrame(
                {"source": source.name, "chosen": each.reading == source.reading} | row
                for source in self.sources
                for each in source.laws
                for row in _rows(each)
            ),
            "joint_scaling_optima": pd.DataFrame(
                {"source": source.name} | _flat(optimum) for source in self.sources for optimum in source.optima
            ),
        }

    def judgements(self) -> Sequence[Judgement]:
        """One per source and quantity: whether N's part is needed."""
        return tuple(
            Judgement(of(source, each), each.verdict, each.lacks) for source in self.sources for each in source.chosen
        )

    def law_rows(self) -> list[dict[str, str]]:
        """The chosen laws as texts; further terms have a column where some law has one."""
        rows = [law_texts(source, each) for source in self.sources for each in source.chosen]
        if all(row["further"] == NONE for row in rows):
            rows = [{name: text for name, text in row.items() if name != "further"} for row in rows]
        return rows

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """A row per source and quantity, and of the first sources one per reading, as text."""
        laws = self.law_rows()
        if not laws:
            return []
        some = self.sources[:MOST]
        readings = pd.DataFrame(reading_texts(source, each, ".2f") for source in some for each in source.laws)
        more = f", the first {MOST} of {len(self.sources)} sources" if len(some) < len(self.sources) else ""
        return [
            ("Optimum = K N^a T^b", pd.DataFrame(laws)),
            (f"By the reading of the optimum{more}", readings.drop(columns=["T^, no N", "p of no N"])),
        ]


def of(source: SourceJoint, each: ReadLaw) -> str:
    """What a law is of, in words."""
    return f"{source.name}, {WORDS[each.quantity]}"


def exponent(law: JointLaw | None, resource: str, form: str = ".3f") -> str:
    """An exponent with its interval as text."""
    term = None if law is None else law.term(resource)
    return NONE if term is None else term.exponent.text(form)


def law_texts(source: SourceJoint, each: ReadLaw) -> dict[str, str]:
    """A chosen law as a row of texts."""
    law = each.law
    further = [] if law is None else [term for term in law.terms if term.resource not in ("n_params", "tokens")]
    return {
        "source": source.name,
        "of": WORDS[each.quantity],
        "reading": each.reading,
        "K": NONE if law is None else f"{law.constant:.3g}",
        "N^": exponent(law, "n_params"),
        "T^": exponent(law, "tokens"),
        "further": ", ".join(f"{term.resource}^ {term.exponent.text('.3f')}" for term in further) or NONE,
        "scatter": NONE if law is None or law.scatter is None else f"{law.scatter:.2f}",
        "optima": _count(each),
        "N's part": each.verdict,
    }


def reading_texts(source: SourceJoint, each: ReadLaw, form: str = ".3f") -> dict[str, str]:
    """A law by one reading as a row of texts."""
    term = None if each.law is None else each.law.term("n_params")
    return {
        "source": source.name,
        "of": WORDS[each.quantity],
        "reading": each.reading,
        "N^": exponent(each.law, "n_params", form),
        "T^": exponent(each.law, "tokens", form),
        "T^, no N": exponent(each.without_n, "tokens", form),
        "p of no N": NONE if term is None or term.p_value is None else f"{term.p_value:.2g}",
        "optima": _count(each),
        "cut off": str(each.cut) if each.reading.startswith("band") else NONE,
        "N's part": each.verdict,
    }


def _count(each: ReadLaw) -> str:
    return f"{each.n_places - sum(each.left_out.values())} of {each.n_places}"


def _rows(each: ReadLaw) -> list[dict[str, Any]]:
    """A row per term of a law and of the law without N, and one per law without a term."""
    found = []
    for form, law in (("full", each.law), ("without N", each.without_n)):
        if law is None:
            continue
        about = {
            "quantity": each.quantity,
            "reading": each.reading,
            "form": form,
            "constant": law.constant,
            "unit": law.unit,
            "n_places": each.n_places,
            "n_optima": law.n_optima,
            "cut": each.cut,
            "scatter_octaves": law.scatter,
            "noise_octaves": each.noise,
            "verdict": each.verdict,
        }
        terms = [
            {"resource": t.resource, "centre": t.centre, "p_value": t.p_value, **t.exponent.columns("exponent")}
            for t in law.terms
        ]
        found += [about | term for term in terms or [{"resource": None}]]
    return found


def _flat(optimum: PlaceOptimum) -> dict[str, Any]:
    return {
        "n_params": optimum.n_params,
        "tokens": optimum.tokens,
        **optimum.further,
        "n_runs": optimum.n_runs,
        "reading": optimum.reading,
        "quantity": optimum.quantity,
        "optimum": optimum.value if np.isfinite(optimum.value) else None,
        "optimum_low": optimum.low,
        "optimum_high": optimum.high,
        "cut": optimum.cut,
        "why_not": optimum.why,
    }


def _source(source: SourceJoint) -> dict[str, Any]:
    return {
        "source": source.name,
        "reading": source.reading,
        "n_places": source.n_places,
        "laws": [_read_law(each, whole=each.reading == source.reading) for each in source.laws],
        "warnings": list(source.warnings),
        "left_out": dict(source.left_out),
        "optima": [asdict(each) for each in source.settings],
    }


def _read_law(each: ReadLaw, whole: bool) -> dict[str, Any]:
    def entry(law: JointLaw | None) -> dict[str, Any] | None:
        return None if law is None else law.as_dict() if whole else law.as_dict() | {"resamples": None}

    return {
        "reading": each.reading,
        "quantity": each.quantity,
        "verdict": each.verdict,
        "go_by": each.go_by,
        "law": entry(each.law),
        "without_n": entry(each.without_n),
        "n_places": each.n_places,
        "left_out": dict(each.left_out),
        "cut": each.cut,
        "noise_octaves": each.noise,
    }
