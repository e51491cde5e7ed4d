"""`scionlab import`: runs that were trained elsewhere into the run store."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scionlab.cli.options import HERE, Json, Runs, app, err, out, print_json, with_home
from scionlab.errors import UserError, unknown

if TYPE_CHECKING:
    from scionlab.api import ImportedTable

LISTED = 8  # values of a column, or rows, that are printed one by one
PRINTED = (
    *("optimizer", "group", "n_params", "width", "depth", "tokens", "flops", "batch_size", "seq_len", "lr", "momentum"),
    *("beta2", "weight_decay", "warmup", "schedule", "data", "checkpoint_step", "seed"),
)


@app.command("import")
def import_runs(
    file: Annotated[
        Path,
        typer.Argument(
            callback=with_home, help="a .csv, .tsv, .jsonl or .parquet file with a row a run, or a logged step"
        ),
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
    decimal: Annotated[
        str | None,
        typer.Option(metavar="MARK", help=". or , where numbers do not say it themselves: 1,234 is 1234 or 1.234"),
    ] = None,
    repeats: Annotated[
        bool,
        typer.Option("--number-repeats", help="runs that differ in nothing but their losses are seeds 0, 1, …"),
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="name of the import, which its report is asked for by; default: the file's")
    ] = None,
    results: Runs = HERE,
    as_json: Json = False,
) -> None:
    """Take runs from a table that you have; an import of the same name is replaced.

    Needed are tokens (T, of the whole run) and val_loss (final, nats per token or any one unit), and either batch_size
    (B, sequences a step), seq_len (S, tokens a sequence) and lr (peak), or n_params without lr, for the law of sizes.
    Of n_params, tokens and flops two are enough: flops = 6 * n_params * tokens. Optional are optimizer, group (a source
    or series that is fitted apart), seed, n_params, width, depth, flops, momentum (weight of the new gradient: 1 - what
    PyTorch calls momentum), beta2, weight_decay, warmup (share of the run), schedule, data, steps, checkpoint_step, and
    status (ok or diverged). With run and step a row is a logged step, the last one of a run is the run, and all are its
    curve, with train_loss if there is one.

    A column that has a target's name is taken as it is. Others are mapped by arithmetic: column names, numbers,
    + - * / **, parentheses and round, log, log2, log10, exp, exp2, sqrt, abs, min, max; names that are not words in
    backticks (and the whole in single quotes, as a shell runs what stands in backticks). If batch_size is in tokens,
    set seq_len=1. Without --map, the columns that are known by other names are shown with a command to copy.
    A val_loss of inf or nan is a run that diverged; an empty one is a mistake unless its status says diverged. What
    --where leaves out is counted; otherwise nothing is.

    Examples:

      scionlab import runs.csv --map "tokens=D,batch_size=bs,lr=2**log2_lr,val_loss=loss" --set seq_len=1024

      scionlab import tracker.csv --map 'lr=`params.lr`,val_loss=`metrics.loss`' --where status=FINISHED

      scionlab import points.csv --map 'n_params=`Model Size`,flops=`Training FLOP`,val_loss=loss'

      scionlab import runs.parquet --name mine --map "tokens=steps*bs,batch_size=bs/ctx,seq_len=ctx,momentum=1-beta"
    """
    from analysis.tables.foreign.targets import TARGETS
    from scionlab.api.importing import take

    given = {"--where": where or [], "--decimal": [decimal] if decimal else [], "--name": [name] if name else []}
    options = [word for option, values in given.items() for value in values for word in (option, value)]
    options += ["--number-repeats"] if repeats else []
    options += [] if results is HERE else ["--results", str(results)]

    def command(maps: Mapping[str, str], sets: Mapping[str, str]) -> str:
        said = {"--map": maps, "--set": sets}
        words = [[option, ",".join(f"{k}={v}" for k, v in pairs.items())] for option, pairs in said.items() if pairs]
        return shlex.join(["scionlab", "import", str(file), *options, *(word for pair in words for word in pair)])

    maps = assignments("map", mapping or [], TARGETS)
    sets = assignments("set", constants or [], TARGETS)
    conditions = _parts(where or [])
    table = take(file, maps, sets, conditions, decimal, repeats, name, results, command)
    if as_json:
        print_json(
            {
                "name": table.name,
                "runs": len(table.runs),
                "diverged": table.n_diverged,
                "replaced": table.replaced,
                "left_out": len(table.left_out),
                "left_out_rows": table.left_out,
                "reasons": {reason: len(rows) for reason, rows in table.reasons.items()},
                "taken": table.taken,
                "written": table.written,
                "curves": table.curves,
                "repeated": table.repeated,
                "unused": table.unused,
                "study": table.study.study,
                "warnings": table.warnings,
            }
        )
        return
    if conditions:
        words = ", ".join(map(str.strip, conditions))
        left = len(table.left_out)
        out.print(f"left out: {left} of {left + table.n_rows} rows, by {words}")
        for reason, rows in table.reasons.items():
            out.print(f"  {reason}: {len(rows)}, {_rows(rows)}")
    _print(table)
    if table.left_out and not table.reasons:
        out.print(f"left out: {_rows(table.left_out)}")
    out.print(f"study: {table.study.study}, about {table.study.about}; another with --study")
    # Of a sweep and an import of one name, a report is of the sweep unless it is told.
    which = ["--preset", "imported"] if table.name in set(results.store().sweeps()["experiment"]) else []
    out.print(f"next: {shlex.join(['scionlab', 'report', table.name, *which, '--results', str(results)])}")


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
    """What commas divide that are not within backticks or parentheses."""
    return [part for text in texts for part in _divided(text)]


def _divided(text: str) -> list[str]:
    depth, parts, part = 0, list[str](), ""
    for piece in re.findall(r"`[^`]*`|.", text, re.DOTALL):
        depth = max(0, depth + (piece == "(") - (piece == ")"))
        if piece == "," and not depth:
            parts, part = [*parts, part], ""
        else:
            part += piece
    return [each for each in (*parts, part) if each]


def _print(table: "ImportedTable") -> None:
    instead = f", in place of {table.replaced} imported before" if table.replaced else ""
    out.print(f"{table.name}: {len(table.runs)} runs imported, {table.n_diverged} of them diverged{instead}")
    if table.curves:
        out.print(f"curves: {table.curves}")
    out.print("taken: " + ", ".join(f"{target} = {text}" for target, text in table.taken.items()))
    if table.repeated:
        out.print(f"repeats: {table.repeated} runs repeat others' settings; they have seeds of their own")
    for column, about in table.written.items():
        out.print(f"numbers of {column}: {about}")
    if table.unused:
        out.print(f"not used: {', '.join(table.unused)}")
    for column in PRINTED:
        if values := table.values(column):
            out.print(f"{column}: {_listed(values)}")
    for question in table.warnings:
        err.print(f"warning: {question}", soft_wrap=True)


def _listed(values: list[Any]) -> str:
    """The values, or the first and the last of many."""
    texts = [repr(v) if isinstance(v, str) and "," in v else v if isinstance(v, str) else f"{v:.6g}" for v in values]
    return ", ".join(texts) if len(texts) <= LISTED else f"{texts[0]} … {texts[-1]} ({len(texts)} values)"


def _rows(rows: Sequence[int]) -> str:
    """Numbers of rows, the first of many."""
    more = f", … ({len(rows) - LISTED} more)" if len(rows) > LISTED else ""
    return f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:LISTED]))}{more}"
