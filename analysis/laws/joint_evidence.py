"""What a plan over N and T starts from: one method's entry in fits/<experiment>/joint_scaling.json.

The laws are those that the study's findings go by: of the reading it was told, and without N where N is not needed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.fits.outcomes import Outcome
from analysis.laws.evidence import entries_of, one_entry
from analysis.laws.joint import FURTHER, LR, MAIN, WORDS, JointLaw
from analysis.laws.rules import JointRule, Point
from scionlab.errors import UserError, listed

JOINT_FILE = "joint_scaling.json"
REWRITE = "`scionlab fit --study joint-scaling` writes it"


@dataclass(frozen=True)
class MeasuredOptimum:
    """The best setting of a place, and its n_params, tokens and, where they are known, depth and width, `at`."""

    point: Point
    at: Mapping[str, float]


@dataclass(frozen=True)
class JointEvidence:
    """One source's joint laws in an experiment, by quantity.

    `measured` has the smallest and largest n_params and tokens that all laws were fitted over, and those of depth and
    width where some law has a term of them; `optima` the places whose optimum counts, which a base may be; `verdicts`
    on N's part, by quantity.
    """

    experiment: str
    source: str
    reading: str
    laws: Mapping[str, JointLaw] = field(repr=False)
    verdicts: Mapping[str, str]
    measured: Mapping[str, tuple[float, float]]
    optima: tuple[MeasuredOptimum, ...] = field(repr=False)

    def rule(self, further: Mapping[str, float]) -> JointRule:
        """The laws as a rule for a network of that depth and width, where they are known.

        Its note says the reading, and of what N is left out.
        """
        without = [WORDS[name] for name, said in self.verdicts.items() if said == Outcome.NOT_NEEDED]
        note = f"optima read by {self.reading!r}" + (
            f"; N is not needed for {' and '.join(without)}" if without else ""
        )
        return replace(JointRule.of(self.laws, note), further=further)

    def about(self) -> dict[str, Any]:
        """For JSON: which fit it is, and what it was measured over; the laws themselves are in its file."""
        return {
            "experiment": self.experiment,
            "source": self.source,
            "reading": self.reading,
            "measured": {name: list(ends) for name, ends in self.measured.items()},
            "n_part": dict(self.verdicts),
        }

    def beyond(self, resource: str, value: float) -> float:
        """How many times beyond the measured range a value lies: above 1 over it, below 1 under it, 1 inside."""
        low, high = self.measured[resource]
        return value / high if value > high else value / low if value < low else 1.0

    def nearest(self, resources: Mapping[str, float]) -> Point | None:
        """The measured optimum that is the fewest octaves away in N, T and what else is known; None without any."""

        def octaves(place: MeasuredOptimum) -> float:
            known = [np.log2(resources[name] / at) for name, at in place.at.items() if name in resources]
            return float(np.linalg.norm(known))

        found = min(self.optima, key=octaves, default=None)
        return None if found is None else found.point


def read_joint(results: Path, source: str | None, experiment: str | None = None) -> JointEvidence | None:
    """The fit in results/fits/<experiment>/joint_scaling.json; None where there is none.

    `source` (an optimizer's name) and `experiment` are needed where there are several. UserError if a file is no such
    fit, or they do not settle on one.
    """
    paths = (
        [results / "fits" / experiment / JOINT_FILE]
        if experiment
        else sorted((results / "fits").glob(f"*/{JOINT_FILE}"))
    )
    holding = {
        path.parent.name: (path, entries_of(path, "source", "joint-scaling", REWRITE))
        for path in paths
        if path.is_file()
    }
    if source is not None and any(source in entries for _, entries in holding.values()):
        holding = {name: found for name, found in holding.items() if source in found[1]}
    if not holding:
        return None
    if len(holding) > 1:
        raise UserError(
            f"experiment: {str(results / 'fits')!r} holds several joint fits; choose one of {listed(holding)}"
        )
    ((experiment, (path, entries)),) = holding.items()
    name = one_entry(entries, source, path, "source")
    try:
        return _evidence(experiment, entries[name], path)
    except UserError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"results: the entry of {name!r} in {str(path)!r} is damaged ({error}); {REWRITE}") from None


def _evidence(experiment: str, entry: Mapping[str, Any], path: Path) -> JointEvidence:
    name, reading = str(entry["source"]), str(entry["reading"])
    read = [each for each in entry["laws"] if each["reading"] == reading and each["law"] is not None]
    laws = {str(each["quantity"]): JointLaw.from_dict(each[each["go_by"]]) for each in read}
    if LR not in laws:
        raise UserError(f"results: {str(path)!r} has no law of the learning rate for {name!r}: its optima are too few")
    axes = (*MAIN, *dict.fromkeys(t.resource for law in laws.values() for t in law.terms if t.resource not in MAIN))
    return JointEvidence(
        experiment=experiment,
        source=name,
        reading=reading,
        laws=laws,
        verdicts={str(each["quantity"]): str(each["verdict"]) for each in read},
        measured={axis: _common(axis, laws.values()) for axis in axes},
        optima=tuple(_optimum(each) for each in entry.get("optima") or ()),
    )


def _common(axis: str, laws: Iterable[JointLaw]) -> tuple[float, float]:
    """What all laws that know a resource were fitted over."""
    ranges = [law.measured[axis] for law in laws if axis in law.measured]
    return max(low for low, _ in ranges), min(high for _, high in ranges)


def _optimum(entry: Mapping[str, Any]) -> MeasuredOptimum:
    seq_len = float(entry["seq_len"] or 1.0)  # batch sizes in tokens, where lengths differ
    point = Point(
        tokens=float(entry["tokens"]),
        batch_size=float(entry["batch_tokens"]) / seq_len,
        seq_len=seq_len,
        lr=float(entry["lr"]),
        momentum=entry["momentum"],
        weight_decay=entry["weight_decay"],
        beta2=entry["beta2"],
        n_params=float(entry["n_params"]),
    )
    further = {name: float(entry[name]) for name in FURTHER if entry.get(name) is not None}
    return MeasuredOptimum(point, {"n_params": float(entry["n_params"]), "tokens": float(point.tokens), **further})
