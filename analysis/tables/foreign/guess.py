"""The whole command that would take a file whose columns have other names: shown, to be copied or corrected."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.tables.arrays import Floats
from analysis.tables.foreign.names import known_by
from analysis.tables.foreign.problems import Problems, shown
from analysis.tables.foreign.runs import read_runs
from analysis.tables.foreign.sources import Source, given_sources, missing_of
from analysis.tables.foreign.table import Table, is_empty
from analysis.tables.foreign.targets import NUMBERS, TARGETS, TEXTS
from scionlab.errors import UserError, printable

UNITS = {
    "n_params": "parameters",
    "tokens": "of the whole run",
    "flops": "of the whole run",
    "batch_size": "sequences a step",
    "seq_len": "tokens a sequence",
    "lr": "peak",
    "val_loss": "final, nats",
    "steps": "optimizer steps",
    "warmup": "share of the run",
    "beta2": "weight of the old",
}
ONE_LENGTH = 1.02  # tokens ÷ (batch_size × steps) within this factor of one number are that sequence length
UNKNOWN = "…"


@dataclass(frozen=True)
class Guess:
    """Texts of `--map` and `--set` that are not given yet, other columns that may be meant, and what is still missing.

    `meets` is what the import would then say, "" where it would take the file; `without` a column of learning rates
    that is left out, as the batch is not known.
    """

    maps: Mapping[str, str]
    sets: Mapping[str, str]
    others: Mapping[str, Sequence[str]]
    missing: Sequence[str]
    meets: str
    without: str = ""


def suggestion(
    table: Table,
    mapping: Mapping[str, str],
    constants: Mapping[str, str],
    call: Callable[[Mapping[str, str], Mapping[str, str]], str],
    repeats: bool = False,
) -> str:
    """What to say below the targets that are missing: columns that may be meant, and the call, ready to be copied.

    `call` writes the import as it was called, with another mapping and other constants. "" where no target that is
    needed is missing, or nothing is known by its name. `repeats` is that of `read_runs`.
    """
    found = guess(table, mapping, constants, repeats)
    if found is None or not (found.maps or found.sets):
        return ""
    parts = [f"{target} = {text}{_unit(target)}" for target, text in {**found.maps, **found.sets}.items()]
    lines = [f"the names of columns suggest: {', '.join(parts)}"]
    lines += [
        shown(f"{target} may also be: {', '.join(columns)}") for target, columns in found.others.items() if columns
    ]
    if found.without:
        lines.append(
            f"lr = {found.without} is left out, as batch_size or seq_len is not known; sizes and losses are enough for "
            "their law"
        )
    if found.missing:
        words = ", ".join(f"{target}{_unit(target)}" for target in found.missing)
        lines.append(f"no column is known for {words}: put one, or a number, in the place of {UNKNOWN}")
    lines.append(f"that would then meet: {found.meets}" if found.meets else "if they mean that, copy:")
    maps = {**mapping, **found.maps, **dict.fromkeys(found.missing, UNKNOWN)}
    return "\n".join(f"  {printable(line)}" for line in [*lines, call(maps, {**constants, **found.sets})])


def _unit(target: str) -> str:
    return f" ({UNITS[target]})" if target in UNITS else ""


def guess(
    table: Table, mapping: Mapping[str, str], constants: Mapping[str, str], repeats: bool = False
) -> Guess | None:
    """What names of columns say of the targets that have no source; None where none that is needed is missing."""
    wrong = Problems(table.file)
    given = given_sources(table, mapping, constants, wrong)
    if wrong.found or not missing_of(table, given):
        return None  # what is wrong is to be put right first
    used = {column for source in given.values() for column in source.columns}
    free = [column for column in table.columns if column not in used and column not in table.twins]
    names = {t: name for t, name in known_by(free).items() if t not in given and _fits(table, t, name.column)}
    maps = {target: name.expression for target, name in names.items()}
    sets = dict[str, str]()
    have = {*given, *maps}
    if "tokens" not in _sources(table, {**mapping, **maps}, constants) and {"steps", "batch_size", "seq_len"} <= have:
        said = {**constants, **mapping, **maps}
        texts = [said.get(target, target) for target in ("steps", "batch_size", "seq_len")]
        maps["tokens"] = "*".join(f"({text})" if set("+-") & set(text) else text for text in texts)
    if "seq_len" not in have and {"lr", "batch_size", "steps"} <= have:
        length = _one_length(table, _sources(table, {**mapping, **maps}, constants))
        sets |= {} if length is None else {"seq_len": str(length)}
    without = ""
    wanted = {*_sources(table, {**mapping, **maps}, {**constants, **sets}), *sets}
    if "lr" in maps and "n_params" in wanted and not {"batch_size", "seq_len"} <= wanted:
        del maps["lr"]  # with the rest the law of sizes can be had
        without = names["lr"].column
    missing = [
        t for t in missing_of(table, _sources(table, {**mapping, **maps}, {**constants, **sets})) if t not in sets
    ]
    meets = "" if missing else _meets(table, {**mapping, **maps}, {**constants, **sets}, repeats)
    ordered = {target: maps[target] for target in TARGETS if target in maps}
    return Guess(ordered, sets, {t: names[t].others for t in ordered if t in names}, missing, meets, without)


def _sources(table: Table, mapping: Mapping[str, str], constants: Mapping[str, str]) -> dict[str, Source]:
    return given_sources(table, mapping, constants, Problems(table.file))


def _fits(table: Table, target: str, column: str) -> bool:
    """Whether a column's cells may be a target: mostly numbers, or for a group names that several rows share."""
    try:
        cells = table.columns[column]
    except UserError:
        return False
    filled = [cell for cell in cells if not is_empty(cell)]
    if target in TEXTS:
        return bool(filled) and all(isinstance(cell, str) for cell in filled) and 2 * len(set(filled)) <= len(cells)
    numbers = table.numbers(column)
    optional = NUMBERS[target].optional or target == "lr"
    known = int((~numbers.empty & ~numbers.wrong).sum())
    return 2 * known > len(filled) and (not optional or len(filled) == len(cells))


def _one_length(table: Table, sources: Mapping[str, Source]) -> int | None:
    """Tokens a sequence by tokens ÷ (batch_size × steps), where all rows have one: its median, as steps are whole."""
    found = dict[str, Floats]()
    for target in ("tokens", "batch_size", "steps"):
        source = sources.get(target)
        if source is None or source.expression is None:
            return None
        columns = {column: table.numbers(column).values for column in source.columns}
        found[target] = np.broadcast_to(np.asarray(source.expression(columns), dtype=float), len(table.rows))
    with np.errstate(all="ignore"):
        lengths = found["tokens"] / (found["batch_size"] * found["steps"])
    lengths = lengths[np.isfinite(lengths)]
    middle = float(np.median(lengths)) if len(lengths) else math.nan
    same = middle >= 1 and lengths.max() <= ONE_LENGTH * middle and lengths.min() * ONE_LENGTH >= middle
    return round(middle) if same else None


def _meets(table: Table, mapping: Mapping[str, str], constants: Mapping[str, str], repeats: bool) -> str:
    """What an import with these would say first, "" where it would take the file."""
    try:
        read_runs(table, "guess", mapping, constants, Problems(table.file), repeats)
    except UserError as error:
        first, *more = str(error).splitlines()
        return ": ".join([first, *(line.strip() for line in more[:1])])
    return ""
