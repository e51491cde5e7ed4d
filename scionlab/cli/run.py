"""`scionlab run`: train what an experiment asks for."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from scionlab.cli.options import PresetName, Results, app, err, out


@app.command()
def run(
    experiment: Annotated[str, typer.Argument(help="name of an experiment, or path to your own .py file")],
    preset: PresetName = "laptop",
    results: Results = Path("results"),
    optimizer: Annotated[
        str | None, typer.Option(help="train the grid with this optimizer instead of the experiment's own")
    ] = None,
    executor: Annotated[str, typer.Option(help="ray (trials in parallel) or inline (this process)")] = "ray",
    workers: Annotated[
        int | None, typer.Option(min=1, help="trials at a time; default: one per core, or per GPU")
    ] = None,
    compile: Annotated[
        str, typer.Option(help="take gradients from compiled graphs: auto (where it pays), always or never")
    ] = "auto",
    stack: Annotated[
        int | None,
        typer.Option(min=1, help="trials of one shape trained together as one model; default: what is fastest"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the cells and their cost, train nothing")] = False,
) -> None:
    """Train the trials of an experiment that are not in the store yet.

    Examples:

      scionlab run width --preset smoke

      scionlab run batch --preset laptop --optimizer muon

      scionlab run my_experiment.py --preset laptop --results /data/results

      scionlab run width --compile never --stack 1

      scionlab run width --preset gpu --dry-run
    """
    from analysis.studies import study
    from scionlab import terminal
    from scionlab.loading import load_experiment
    from scionlab.store import RunStore
    from scionlab.sweep import How, default_workers, plan_sweep, run_sweep

    spec = load_experiment(experiment, optimizer)
    # A name or settings that the report would not know are better refused before hours of training.
    study(spec.study).check(spec.settings)
    how = How(compile, stack)
    store = RunStore(results / "runs")
    if dry_run:
        plan = plan_sweep(spec, preset, store)
        out.print(f"{spec.name}/{preset}: {spec.preset(preset).about}")
        terminal.print_plan(plan, store.runs(), workers or default_workers(plan), out)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be asked to stop is to be interrupted
    result = run_sweep(spec, preset, store, err, executor, workers, how)
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
