"""The command line: `scionlab run`, `fit`, `figures`, `report`. The only module that knows every room.

Exit status: 0 done, 1 some trials failed, 2 a mistake in the input, 130 interrupted by Ctrl-C.
Torch, Ray and matplotlib are imported by the commands that need them, so that help is immediate.
"""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from scionlab.errors import UserError

app = typer.Typer(
    help="Measure how hyperparameters transfer across width, depth and token budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Preset = Annotated[str, typer.Option(help="size of the grid: smoke, laptop, full or gpu")]
Results = Annotated[Path, typer.Option(help="folder that holds runs, fits, figures and the report")]
ExperimentName = Annotated[str, typer.Option("--experiment", help="name of the experiment")]

LR_TRANSFER_TITLE = "Learning-rate transfer (drift in octaves of lr per octave of width, regret in nats)"

# Logs have no width: tables in them are not squeezed into 80 columns.
out = Console(soft_wrap=True, highlight=False, markup=False, width=None if Console().is_terminal else 120)
err = Console(stderr=True, highlight=False, markup=False)


def main() -> None:
    """Entry point: a UserError is one line and exit status 2; anything else keeps its traceback."""
    try:
        app()
    except UserError as error:
        err.print(f"error: {error}", style="bold red", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("Stopped.")
        sys.exit(130)


@app.callback()
def _root() -> None:
    pass


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(help="name of an experiment, or path to your own .py file")],
    preset: Preset = "laptop",
    results: Results = Path("results"),
    executor: Annotated[str, typer.Option(help="ray (trials in parallel) or inline (this process)")] = "ray",
    workers: Annotated[
        int | None, typer.Option(min=1, help="trials at a time; default: one per core, or per GPU")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the cells and their cost, train nothing")] = False,
) -> None:
    """Train the trials of an experiment that are not in the store yet.

    Examples:

      scionlab run width --preset smoke

      scionlab run my_experiment.py --preset laptop --results /data/results

      scionlab run width --preset gpu --dry-run
    """
    from scionlab import terminal
    from scionlab.loading import load_experiment
    from scionlab.store import RunStore
    from scionlab.sweep import default_workers, plan_sweep, run_sweep

    spec = load_experiment(experiment)
    store = RunStore(results / "runs")
    if dry_run:
        plan = plan_sweep(spec, preset, store)
        terminal.print_plan(plan, store.runs(), workers or default_workers(plan), out)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be asked to stop is to be interrupted
    result = run_sweep(spec, preset, store, err, executor, workers)
    if result.interrupted:
        kept = len(store.finished())
        out.print(f"Stopped. {kept} finished trials are kept in {store.root}; run the same command to go on.")
        raise typer.Exit(130)
    terminal.print_result(result, f"{spec.name}/{preset}", out)
    if errors := result.errors():
        err.print(
            f"Failed: {len(errors)} (run the same command to try them again). The first:\n{errors[0]}", soft_wrap=True
        )
        raise typer.Exit(1)


@app.command()
def fit(
    what: Annotated[str, typer.Argument(help="which fit: lr-transfer")] = "lr-transfer",
    experiment: ExperimentName = "width",
    preset: Preset = "laptop",
    results: Results = Path("results"),
) -> None:
    """Fit the runs in the store; writes results/fits/ and prints the numbers."""
    from analysis.pipeline import FITS, fit_results
    from scionlab import terminal
    from scionlab.errors import unknown

    if what not in FITS:
        raise unknown("fit", what, FITS)
    fitted = fit_results(results, experiment, preset)
    terminal.print_frame(fitted.summary(), LR_TRANSFER_TITLE, out)
    out.print(f"written: {results / 'fits' / 'lr_transfer.json'}")


@app.command()
def figures(
    experiment: ExperimentName = "width", preset: Preset = "laptop", results: Results = Path("results")
) -> None:
    """Fit and draw; writes results/figures/ as SVG, PNG and the CSV behind each."""
    from analysis.pipeline import draw_results

    for figure in draw_results(results, experiment, preset).figures:
        out.print(f"written: {figure.path}.svg, .png, .csv")


@app.command()
def report(experiment: ExperimentName = "width", preset: Preset = "laptop", results: Results = Path("results")) -> None:
    """Fit, draw and write results/report/index.html, one self-contained page."""
    from analysis.pipeline import report_results
    from scionlab import terminal

    fitted, path = report_results(results, experiment, preset)
    terminal.print_frame(fitted.summary(), LR_TRANSFER_TITLE, out)
    out.print(f"report: {path}")
