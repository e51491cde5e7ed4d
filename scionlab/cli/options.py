"""What commands share: the application, its consoles, and options that mean the same everywhere."""

import json
import math
import signal
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from scionlab.cli.completion import choices, complete_preset, complete_stored
from scionlab.errors import UserError
from scionlab.homes import expanded
from scionlab.runs.where import ResultsPlace

EXIT_CODES = "Exit status: 0 done, 1 some trials failed, 2 a mistake in the input, 130 stopped by Ctrl-C or SIGTERM."

app = typer.Typer(
    help="Measure how hyperparameters transfer across width, batch size and token budget, and plan a large run.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PresetName = Annotated[
    str,
    typer.Option(
        "--preset",
        help="size of the grid: smoke, laptop, full, gpu, or another the experiment has",
        autocompletion=complete_preset,
    ),
]
Stored = Annotated[
    str | None,
    typer.Argument(help="name of an experiment or import; default: the last one run", autocompletion=complete_stored),
]
# What was given by this option before it was an argument: the way is still open, but not shown.
ByOption = Annotated[str | None, typer.Option("--experiment", hidden=True, autocompletion=complete_stored)]
LastPreset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="size of the grid; default: that of its last sweep, or its import",
        autocompletion=complete_preset,
    ),
]


def one_name(
    given: str | None, before: str | None, field: str = "experiment", older: str = "--experiment"
) -> str | None:
    """What is given as it is today or, `before`, by the option `older`; UserError of `field` where these differ."""
    if given and before and given != before:
        raise UserError(f"{field}: {given!r} and {older} {before!r} are two; name one")
    return given or before


def _on_disk(results: Path) -> Path:
    if ":/" in str(results):
        raise UserError(f"results: {str(results)!r} is not allowed here: this command needs a folder on a disk")
    return Path(expanded(str(results), "results"))


def with_home(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The callback of options that are paths: ~ is the home folder."""
    return None if path is None else Path(expanded(str(path), str(option.name).rstrip("_")))


Results = Annotated[Path, typer.Option(callback=_on_disk, help="folder that holds runs, fits, figures and the report")]
Runs = Annotated[
    ResultsPlace,
    typer.Option(
        "--results",
        parser=ResultsPlace.of,
        metavar="FOLDER|URL",
        help="folder of runs, fits, figures and the report; or s3://bucket/prefix of the runs",
    ),
]
HERE = ResultsPlace("results")  # its default
To = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        callback=with_home,
        help="where fits, figures and report go; default: the results folder, or below ./results/s3",
    ),
]
Executor = Annotated[
    str,
    typer.Option(help="ray (trials in parallel) or inline (this process)", autocompletion=choices("ray", "inline")),
]
Workers = Annotated[int | None, typer.Option(min=1, help="trials at a time; default: one per core, or per GPU")]
Compile = Annotated[
    str,
    typer.Option(
        help="take gradients from compiled graphs: auto (where it pays), always or never",
        autocompletion=choices("auto", "always", "never"),
    ),
]
Stack = Annotated[
    int | None,
    typer.Option(min=1, help="trials of one shape trained together as one model; default: what is fastest"),
]
Stem = Annotated[
    str,
    typer.Option(
        help="train the steps once that budgets of one setting share: auto (where it is faster), always or never",
        autocompletion=choices("auto", "always", "never"),
    ),
]
AUTO = "auto"
MicroBatch = Annotated[
    str,
    typer.Option(
        "--micro-batch",
        metavar="N|auto",
        help="read larger batches in parts of N examples; auto: of what fits into memory; 0: always whole",
    ),
]
CHECKPOINT_MINUTES = 5.0  # the default of the next
CheckpointMinutes = Annotated[
    float,
    typer.Option(
        metavar="MINUTES",
        help="how often a trial that is trained alone is saved on its way, to go on from there; inf: only when asked "
        "to stop",
    ),
]
Track = Annotated[
    list[str] | None,
    typer.Option(
        help="also write to tensorboard (below RESULTS/tensorboard) or wandb; repeatable",
        autocompletion=choices("tensorboard", "wandb"),
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the cells and their cost, train nothing")]
WithoutGpu = Annotated[
    bool, typer.Option("--without-gpu", help="train a preset for GPUs on the CPU, where torch sees no GPU")
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")]

# Logs have no width: tables in them are not squeezed into 80 columns.
out = Console(soft_wrap=True, highlight=False, markup=False, width=None if Console().is_terminal else 120)
err = Console(stderr=True, highlight=False, markup=False)


def examples_of(micro_batch: str) -> int | None:
    """What --micro-batch says: a number of examples, or None for what fits; UserError for anything else."""
    if micro_batch == AUTO:
        return None
    if not micro_batch.isdecimal():
        raise UserError(
            f"micro_batch: {micro_batch!r} is not allowed: it must be auto, or a number of examples, at least 0"
        )
    return int(micro_batch)


def stop_when_asked() -> None:
    """From here on SIGTERM is as Ctrl-C: to be asked to stop is to be interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def print_json(value: Any) -> None:
    """One JSON document on stdout: paths and times as text, what is not a finite number as null."""
    typer.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value
