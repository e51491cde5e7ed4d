"""What would settle a study's open outcomes, in sentences and as commands: the same for JSON, terminal and page."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from analysis.fits.outcomes import Judgement, Lacks, Missing, all_of

STEPS = 1  # learning rates to add beyond either end of a grid
# What `scionlab run` can add to a grid that exists.
OPTIONS = (Missing.SEEDS, Missing.RATES_BEYOND, Missing.RATES_CLOSER, Missing.RUNS)
# What it cannot, and a larger preset has more of.
OF_A_LARGER = (Missing.BUDGETS, Missing.BATCHES, Missing.PLACES, Missing.SIZES, Missing.LONGER)
SENTENCES: Mapping[Missing, str] = {
    Missing.SEEDS: "More seeds: an interval narrows as 1/√n.",
    Missing.RATES_BEYOND: "Learning rates beyond the grid: a best one lies at its end, or none of it trains.",
    Missing.RATES_CLOSER: "Learning rates closer together: a best one lies beside one that diverges.",
    Missing.VALUES_BEYOND: "Values beyond the grid of what is tuned beside the rate: a best one lies at its end.",
    Missing.STABLE_RATES: "Smaller learning rates: runs that diverged do not count.",
    Missing.BUDGETS: "More token budgets: over the present ones the exponents or the floor of the loss are not known.",
    Missing.BATCHES: "Batch sizes beyond the grid: what is looked for lies at its end.",
    Missing.PLACES: "More places along what is varied, such as widths or batch sizes: there are too few to tell.",
    Missing.SIZES: "More network sizes, at other numbers of tokens per parameter: those at hand do not tell N from T.",
    Missing.LONGER: "Longer runs: those at hand are too short, or of too few lengths, to tell.",
    Missing.RUNS: "Runs that this compares and that failed or were not trained yet.",
    Missing.TRIALS: "More trials of the searches: a value that they found diverges with another seed.",
}
TO_A_TABLE = "Add such runs to the table, and import it again."
TO_A_FILE = "What no command here adds goes into an experiment file of your own (docs/own-grid.md)."
OWN_FILE = "PATH.py"  # for a file that is not known any more
OF_THE_FILE = f"{OWN_FILE} is the experiment's file; what its last call had of such options is to be given, too."
ONE_SEED = "More seeds: one gives no measure of their noise."
NAMED = 6  # names after a sentence; more are counted

Kind = Literal["run", "transfer", "imported"]


@dataclass(frozen=True)
class Larger:
    """The next larger preset of an experiment: how many seeds its settings have, and what else it has more of."""

    preset: str
    seeds: int
    more: frozenset[Missing] = frozenset(OF_A_LARGER)


@dataclass(frozen=True)
class Extension:
    """What options of `scionlab run` have added to a preset's grid, for the next call to name again.

    The fit is of the last call's grid. `seeds` are those of a setting, 0 where the preset has as many.
    """

    seeds: int = 0
    more_rates: int = 0
    finer_rates: bool = False

    def options(self) -> list[str]:
        """As they are given."""
        seeds = ["--seeds", str(self.seeds)] if self.seeds else []
        more = ["--more-rates", str(self.more_rates)] if self.more_rates else []
        return [*seeds, *more, *(["--finer-rates"] if self.finer_rates else [])]

    def with_missing(self, lacks: Lacks) -> "Extension":
        """With what is missing and can be added. Rates can be halved in their distance once."""
        seeds = (lacks.seeds.needed or 0) if lacks.seeds is not None else 0
        beyond = STEPS if Missing.RATES_BEYOND in lacks.missing else 0
        closer = self.finer_rates or Missing.RATES_CLOSER in lacks.missing
        return Extension(max(self.seeds, seeds), self.more_rates + beyond, closer)


@dataclass(frozen=True)
class Source:
    """Where runs come from, as commands name it.

    `which` is what a sweep is called with, an experiment and its options; `place` is the option of the results and `to`
    that of what is made of them, where these are not the defaults. Known of the project's own experiments only are the
    next `larger` preset, the `trials` of each search of a transfer, and the `extension` of the preset's grid.
    """

    kind: Kind
    which: tuple[str, ...]
    experiment: str
    preset: str
    place: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    larger: Larger | None = None
    trials: int | None = None
    extension: Extension = Extension()

    def again(self, preset: str) -> str:
        """The command that reads what was added to a preset."""
        return shlex.join(["scionlab", "report", self.experiment, "--preset", preset, *self.place, *self.to])


@dataclass(frozen=True)
class Line:
    """A sentence on what is missing, and the names of whose outcomes it would settle."""

    text: str
    of: tuple[str, ...]

    def __str__(self) -> str:
        more = [f"{len(self.of) - NAMED} more"] if len(self.of) > NAMED else []
        return f"{self.text} For: {'; '.join([*self.of[:NAMED], *more])}."


@dataclass(frozen=True)
class Advice:
    """What the outcomes of a fit are, and what would settle the open ones; no lines where there is none.

    `commands` add what is missing: first to the grid at hand, then by a larger preset; `again` reads what the first of
    them added, and `note` says what is to be done without a command. All may be empty.
    """

    outcomes: tuple[dict[str, Any], ...]
    lines: tuple[Line, ...]
    commands: tuple[str, ...]
    again: str
    note: str


def advise(judgements: Iterable[Judgement], source: Source) -> Advice:
    """The advice on a fit's judgements of runs from a source."""
    judged = list(judgements)
    lines: dict[str, list[str]] = {}
    for judgement in judged:
        for text in sentences(judgement.lacks):
            lines.setdefault(text, []).append(judgement.of)
    lacking = [lacks for judgement in judged if (lacks := _addable(judgement.lacks)).missing]
    here = all_of([lacks for lacks in lacking if not _of_a_larger(lacks)])
    larger = all_of([lacks for lacks in lacking if _of_a_larger(lacks)])
    steps = list(dict.fromkeys(filter(None, (_step(here, source), _step(larger, source)))))
    return Advice(
        outcomes=tuple(_outcome(judgement, source) for judgement in judged),
        lines=tuple(Line(text, tuple(of)) for text, of in lines.items()),
        commands=tuple(step.command for step in steps),
        again=source.again(steps[0].preset) if steps else "",
        note=TO_A_TABLE if lines and source.kind == "imported" else _note(lacking, source),
    )


def _outcome(judgement: Judgement, source: Source) -> dict[str, Any]:
    """A judgement for JSON."""
    seeds = judgement.lacks.seeds
    return {
        "of": judgement.of,
        "outcome": judgement.outcome,
        "meaning": judgement.outcome.meaning,
        "missing": [str(kind) for kind in judgement.missing],
        "seeds": None if seeds is None else {"present": seeds.present, "needed": seeds.needed},
        "advice": " ".join(sentences(judgement.lacks)) or None,
        "command": command(judgement.lacks, source),
    }


def sentences(lacks: Lacks) -> list[str]:
    """What is missing, a sentence each."""
    found = {kind: SENTENCES[kind] for kind in lacks.missing}
    if lacks.seeds is not None and lacks.seeds.present == 1:
        found[Missing.SEEDS] = ONE_SEED
    if lacks.seeds is not None and not lacks.seeds.within_reach:
        found[Missing.SEEDS] = f"Many more seeds: at the present value {lacks.seeds.most} would not do."
    return list(found.values())


def _of_a_larger(lacks: Lacks) -> set[Missing]:
    """What is missing that a larger preset has more of, and no option of `scionlab run` adds."""
    return {kind for kind in lacks.missing if kind in OF_A_LARGER}


def command(lacks: Lacks, source: Source) -> str | None:
    """The one command that adds what is missing; None where there is nothing it could add.

    What no option adds is asked of the next larger preset. Seeds that are not within reach are not asked for.
    """
    step = _step(lacks, source)
    return None if step is None else step.command


@dataclass(frozen=True)
class _Step:
    """A command, and the preset whose runs it adds to."""

    command: str
    preset: str


def _addable(lacks: Lacks) -> Lacks:
    """Without seeds that are not within reach."""
    if lacks.seeds is None or lacks.seeds.within_reach:
        return lacks
    return Lacks(tuple(kind for kind in lacks.missing if kind != Missing.SEEDS))


def _step(lacks: Lacks, source: Source) -> _Step | None:
    lacks = _addable(lacks)
    if source.kind == "imported" or not lacks.missing:
        return None
    return _transfer(lacks, source) if source.kind == "transfer" else _run(lacks, source)


def _run(lacks: Lacks, source: Source) -> _Step | None:
    preset, added = source.preset, source.extension.with_missing(lacks)
    if source.larger is not None and _of_a_larger(lacks) & source.larger.more:
        preset, added = source.larger.preset, Extension().with_missing(lacks)
        added = replace(added, seeds=added.seeds if added.seeds > source.larger.seeds else 0)
    elif added == source.extension and Missing.RUNS not in lacks.missing:
        return None
    names = [*source.which, "--preset", preset, *added.options(), *source.place]
    return _Step(shlex.join(["scionlab", "run", *names]), preset)


def _transfer(lacks: Lacks, source: Source) -> _Step | None:
    """More trials of the searches, or the runs that failed; the seeds of the final comparison are a preset's."""
    if Missing.TRIALS in lacks.missing and source.trials is not None:
        more = ["--preset", source.preset, "--trials", str(2 * source.trials), *source.place]
        return _Step(shlex.join(["scionlab", "transfer", *source.which, *more]), source.preset)
    if Missing.RUNS in lacks.missing:
        again = ["--preset", source.preset, *(["--trials", str(source.trials)] if source.trials else []), *source.place]
        return _Step(shlex.join(["scionlab", "transfer", *source.which, *again]), source.preset)
    seeds = lacks.seeds.needed if lacks.seeds is not None else None
    if seeds is None or source.larger is None or source.larger.seeds < seeds:
        return None
    names = [*source.which, "--preset", source.larger.preset, *source.place]
    both = " && ".join(shlex.join(["scionlab", name, *names]) for name in ("tune", "transfer"))
    return _Step(both, source.larger.preset)


def _note(lacking: Sequence[Lacks], source: Source) -> str:
    """What is to be done that no command does, and what a command calls a file that is not known."""
    asked = [command(lacks, source) for lacks in lacking]
    added = {*OPTIONS, *(source.larger.more if source.larger else ()), *([Missing.TRIALS] if source.trials else [])}
    left = None in asked or any(set(lacks.missing) - added for lacks in lacking)
    named = [OF_THE_FILE] if OWN_FILE in source.which and any(asked) else []
    return " ".join([*named, *([TO_A_FILE] if left else [])])
