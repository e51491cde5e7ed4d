"""`scionlab run`: train what an experiment asks for."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from scionlab.cli.completion import complete_experiment, complete_optimizer
from scionlab.cli.options import (
    AUTO,
    CHECKPOINT_MINUTES,
    HERE,
    CheckpointMinutes,
    Compile,
    DryRun,
    Executor,
    Json,
    MicroBatch,
    PresetName,
    Runs,
    Stack,
    Stem,
    Track,
    WithoutGpu,
    Workers,
    app,
    err,
    examples_of,
    out,
    print_json,
    stop_when_asked,
)

if TYPE_CHECKING:
    from scionlab.runs.store import RunStore
    from scionlab.spec import Experiment
    from scionlab.sweep import How, SweepResult


@app.command()
def run(
    experiment: Annotated[
        str,
        typer.Argument(help="name of an experiment, or path to your own .py file", autocompletion=complete_experiment),
    ],
    preset: PresetName = "laptop",
    results: Runs = HERE,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="train the grid with this optimizer instead of the experiment's own: a name, or your MODULE:RECIPE",
            autocompletion=complete_optimizer,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="train every setting of the grid with at least so many seeds: those it has, and the next ones",
        ),
    ] = None,
    more_rates: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="go on so many steps beyond both ends of the learning rates, by the ratio there; a setting of one "
            "rate keeps it",
        ),
    ] = None,
    finer_rates: Annotated[
        bool,
        typer.Option("--finer-rates", help="also train the geometric mean of every two neighbouring learning rates"),
    ] = False,
    executor: Executor = "ray",
    workers: Workers = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to run on: auto (this machine is part of it) or HOST:PORT")
    ] = None,
    compile: Compile = "auto",
    stack: Stack = None,
    stem: Stem = "auto",
    micro_batch: MicroBatch = AUTO,
    checkpoint_minutes: CheckpointMinutes = CHECKPOINT_MINUTES,
    track: Track = None,
    without_gpu: WithoutGpu = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train the trials of an experiment that are not in the store yet.

    Progress is on stderr: a few live lines in a terminal, now and then a plain one elsewhere.

    Where a fit cannot tell, --seeds, --more-rates and --finer-rates extend the preset's grid. The fit is of the grid of
    the last call, with what the store had of it: give all that it shall have together.

    Examples:

      scionlab run width --preset smoke

      scionlab run batch --preset laptop --optimizer muon

      scionlab run my_experiment.py --preset laptop --results /data/results

      scionlab run width --preset laptop --seeds 5

      scionlab run width --preset laptop --more-rates 1 --finer-rates

      scionlab run width --compile never --stack 1

      scionlab run width --preset laptop --track tensorboard

      scionlab run width --preset gpu --dry-run

      scionlab run width --address auto --results s3://bucket/prefix
    """
    from analysis.studies.table import study
    from scionlab.cli import terminal
    from scionlab.spec.grid import extend_preset
    from scionlab.spec.loading import load_experiment
    from scionlab.sweep import How, check_gpu, run_sweep
    from scionlab.trackers import start_trackers

    spec = load_experiment(experiment, optimizer)
    # A name or settings that the report would not know are better refused before hours of training.
    study(spec.study).check(spec.settings)
    if seeds or more_rates or finer_rates:
        spec = extend_preset(spec, preset, seeds or 1, more_rates or 0, finer_rates)
    how = How(compile, stack, checkpoint_minutes, stem, examples_of(micro_batch))
    store = results.store()
    if dry_run:
        _dry_run(spec, preset, store, workers, how, as_json)
        return
    if not without_gpu:
        check_gpu(preset, [trial.device for trial in spec.preset(preset).trials])
    trackers = start_trackers(track or [], results.folder, spec.name)
    stop_when_asked()
    result = run_sweep(spec, preset, store, err, executor, workers, how, trackers, address)
    if as_json:
        print_json(_record(result, spec.name, preset, store))
    elif result.interrupted:
        kept = len(store.finished())
        out.print(f"Stopped. {kept} finished trials are kept in {store}; run the same command to go on.")
    else:
        terminal.print_result(result, f"{spec.name}/{preset}", out)
    if result.interrupted:
        raise typer.Exit(130)
    if errors := result.errors():
        err.print(
            f"Failed: {len(errors)} (run the same command to try them again). The first:\n{errors[0]}", soft_wrap=True
        )
        raise typer.Exit(1)


def _dry_run(
    spec: "Experiment", preset: str, store: "RunStore", workers: int | None, how: "How", as_json: bool
) -> None:
    from scionlab.cli import terminal
    from scionlab.sweep import default_workers, plan_sweep
    from scionlab.sweep.arrange import planned_stems
    from scionlab.sweep.estimate import estimate_seconds
    from scionlab.sweep.micro import largest
    from scionlab.sweep.stems import shares_of, with_stems

    plan = plan_sweep(spec, preset, store)
    at_once = workers or default_workers(plan)
    most = largest(plan.todo, how.micro_batch, at_once)
    tasks = with_stems(plan.todo, planned_stems(plan, at_once, how))
    kept = len({cell.trial_id for cell in plan.todo} & store.checkpoints.trial_ids())
    if not as_json:
        out.print(f"{spec.name}/{preset}: {spec.preset(preset).about}")
        terminal.print_plan(plan, tasks, store.runs(), at_once, out)
        terminal.print_kept(kept, out)
        terminal.print_memory(most, out)
        return
    print_json(
        {
            "experiment": spec.name,
            "preset": preset,
            "trials": len(plan.cells),
            "left": len(plan.todo),
            "kept": kept,
            "tokens": sum(cell.trial.exact_tokens for cell in plan.todo),
            "flops": sum(cell.flops for cell in plan.todo),
            "stems": sum(task.stem for task in tasks),
            "tokens_trained": sum(task.tokens for task in tasks),
            "flops_trained": sum(task.flops for task in tasks),
            "workers": at_once,
            "seconds": estimate_seconds(plan.todo, store.runs(), shares_of(tasks)) / at_once,
            "memory_bytes": most and most.bytes,
            "micro_batch": most and most.micro_batch,
        }
    )


def _record(result: "SweepResult", experiment: str, preset: str, store: "RunStore") -> dict[str, object]:
    """What --json prints of a sweep; `failures` are tracebacks by trial."""
    count = Counter(report.status for report in result.reports)
    return {
        "experiment": experiment,
        "preset": preset,
        "store": str(store),
        "interrupted": result.interrupted,
        "trials": len(result.plan.cells),
        "trained": len(result.reports),
        "ok": count["ok"],
        "diverged": count["diverged"],
        "failed": count["error"],
        "workers": result.workers,
        "wall_time_s": result.wall_time_s,
        "trial_seconds": result.trial_seconds,
        "failures": {report.trial_id: report.error for report in result.reports if report.error},
    }
