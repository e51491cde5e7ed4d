"""`scionlab import`: runs that were trained elsewhere into the run store."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scionlab.cli.options import HERE, Json, Runs, app, err, out, print_json, with_home
from scionlab.errors import UserError, unknown

if TYPE_CHECKING:
    from analysis.tables.foreign.runs import ForeignRuns

LONGEST_NAME = 100  # it becomes the name of files
NAME = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{LONGEST_NAME - 1}}}")
LISTED = 8  # values of a column that are printed one by one


@app.command("import")
def import_runs(
    file: Annotated[
        Path, typer.Argument(callback=with_home, help="a .csv, .tsv or .parquet file with one row per run")
    ],
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="TARGET=EXPRESSION,…", help="what the file's columns mean; repeatable"),
    ] = None,
    constants: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TARGET=VALUE,…", help="what is the same for all runs; repeatable"),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="COLUMN=VALUE,…",
            help="take only such rows, as of the file's columns; also !=, <, >, and A|B for one of two; repeatable",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="name of the import, which its report is asked for by; default: the file's")
    ] = None,
    results: Runs = HERE,
    as_json: Json = False,
) -> None:
    """Take runs from a table that you have; an import of the same name is replaced.

    Needed are tokens (T, of the whole run), batch_size (B, sequences a step), seq_len (S, tokens a sequence), lr
    (peak) and val_loss (final, nats per token or any one unit). Optional are optimizer, seed, n_params, width, momentum
    (weight of the new gradient: 1 - what PyTorch calls momentum), steps, and status (ok or diverged).

    A column that has a target's name is taken as it is. Others are mapped by arithmetic: column names, numbers,
    + - * / ** and parentheses; names that are not words in backticks. If batch_size is in tokens, set seq_len=1.
    A val_loss of inf or nan is a run that diverged; an empty one is a mistake unless its status says diverged. What
    --where leaves out is counted; otherwise nothing is.

    Examples:

      scionlab import runs.csv --map "tokens=D,batch_size=bs,lr=2**log2_lr,val_loss=loss" --set seq_len=1024

      scionlab import tracker.csv --map "lr=`params.lr`,val_loss=`metrics.loss`" --where status=FINISHED

      scionlab import runs.parquet --name mine --map "tokens=steps*bs,batch_size=bs/ctx,seq_len=ctx,momentum=1-beta"
    """
    from analysis.tables.foreign.problems import Problems
    from analysis.tables.foreign.runs import TARGETS, read_runs
    from analysis.tables.foreign.table import read_table
    from analysis.tables.foreign.where import Condition, choose
    from analysis.tables.varied import study_of

    chosen = _name(name, file)
    maps = assignments("map", mapping or [], TARGETS)
    sets = assignments("set", constants or [], TARGETS)
    problems = Problems(file.name)
    conditions = [Condition.parse(part) for part in _parts(where or [])]
    table = choose(read_table(file, problems), conditions)
    runs = read_runs(table, chosen, maps, sets, problems)
    store = results.store()
    store.check_writable()
    replaced = len(store.imports(chosen))
    store.write_import(chosen, runs.rows)
    study = study_of(store.imports(chosen))
    if as_json:
        print_json(
            {
                "name": chosen,
                "runs": len(runs.rows),
                "diverged": runs.n_diverged,
                "replaced": replaced,
                "left_out": table.left_out,
                "taken": runs.sources,
                "unused": runs.unused,
                "study": study.study,
                "warnings": runs.questions,
            }
        )
        return
    if conditions:
        words = ", ".join(condition.text for condition in conditions)
        out.print(f"left out: {table.left_out} of {table.left_out + len(table.rows)} rows, by {words}")
    _print(runs, chosen, replaced)
    out.print(f"study: {study.study}, about {study.about}; another with --study")
    # Of a sweep and an import of one name, a report is of the sweep unless it is told.
    which = ["--preset", "imported"] if chosen in set(store.sweeps()["experiment"]) else []
    out.print(f"next: {shlex.join(['scionlab', 'report', chosen, *which, '--results', str(results)])}")


def assignments(option: str, texts: Iterable[str], targets: Iterable[str]) -> dict[str, str]:
    """`target=text` pairs, divided by commas that are not within backticks; UserError for anything else."""
    names, pairs = list(targets), dict[str, str]()
    for part in _parts(texts):
        target, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UserError(f"{option}: {part.strip()!r} is not of the form target=…")
        if target not in names:
            raise unknown(option, target, names)
        if target in pairs:
            raise UserError(f"{option}: {target!r} is given twice, as {pairs[target]!r} and {value!r}")
        pairs[target] = value
    return pairs


def _parts(texts: Iterable[str]) -> list[str]:
    """What commas divide that are not within backticks."""
    return [part for text in texts for part in re.findall(r"(?:`[^`]*`|[^,])+", text)]


def _name(given: str | None, file: Path) -> str:
    if given is None:
        stem = Path(file.stem).stem if file.suffix.lower() == ".gz" else file.stem
        given = re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_")[:LONGEST_NAME]
        if not given:
            raise UserError(f"name: {file.name!r} does not make one; give --name")
    if not NAME.fullmatch(given):
        raise UserError(
            f"name: {given!r} is not allowed; it must be lower-case letters, digits, - and _, {LONGEST_NAME} at most"
        )
    return given


def _print(runs: "ForeignRuns", name: str, replaced: int) -> None:
    instead = f", in place of {replaced} imported before" if replaced else ""
    out.print(f"{name}: {len(runs.rows)} runs imported, {runs.n_diverged} of them diverged{instead}")
    out.print("taken: " + ", ".join(f"{target} = {text}" for target, text in runs.sources.items()))
    if runs.unused:
        out.print(f"not used: {', '.join(runs.unused)}")
    for column in ("optimizer", "n_params", "width", "tokens", "batch_size", "seq_len", "lr", "momentum", "seed"):
        if values := runs.values(column):
            out.print(f"{column}: {_listed(values)}")
    for question in runs.questions:
        err.print(f"warning: {question}", soft_wrap=True)


def _listed(values: list[Any]) -> str:
    """The values, or the first and the last of many."""
    texts = [value if isinstance(value, str) else f"{value:.6g}" for value in values]
    return ", ".join(texts) if len(texts) <= LISTED else f"{texts[0]} … {texts[-1]} ({len(texts)} values)"
