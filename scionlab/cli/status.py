"""`scionlab status`: what is done, what failed and why, and what is left."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from scionlab.cli.completion import complete_preset, complete_stored
from scionlab.cli.options import HERE, Json, Runs, app, out, print_json
from scionlab.errors import UserError, listed
from scionlab.times import ago, clock

if TYPE_CHECKING:
    from scionlab.runs.status import SearchStatus, SweepStatus
    from scionlab.runs.store import RunStore


@app.command()
def status(
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="name of an experiment, or path to your own .py file; default: all that the store has sweeps of",
            autocompletion=complete_stored,
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="size of the grid; default: all that were run", autocompletion=complete_preset)
    ] = None,
    results: Runs = HERE,
    as_json: Json = False,
) -> None:
    """Show what of a sweep is done, diverged, failed (and why) and left, and about how long that takes.

    The store is read, nothing is trained or timed. A sweep that was killed can be told from one that runs. With a path,
    or a --preset that was never run, the grid is that of the file as it stands.

    Examples:

      scionlab status

      scionlab status width --preset laptop

      scionlab status my_experiment.py --preset laptop --json
    """
    from scionlab.runs.status import searches, statuses

    store = results.store()
    from_file = experiment is not None and experiment.endswith(".py")
    found = [] if from_file else statuses(store, experiment, preset)
    searched = [] if from_file else searches(store, experiment, preset)
    if not found and not searched and experiment is not None:
        found = _planned(store, experiment, preset)
    if as_json:
        print_json(
            {
                "results": str(results),
                "sweeps": [sweep.as_dict() for sweep in found],
                "searches": [search.as_dict() for search in searched],
            }
        )
        return
    if searched:
        _print_searches(searched)
    if not found and not searched:
        names = store.experiments()
        makes = f"`scionlab run width --preset smoke --results {results}` makes one"
        out.print(f"no sweep in {results}; {f'imports: {listed(names)}' if names else makes}")
    elif len(found) == 1:
        _print_one(found[0])
    elif found:
        _print_all(found)


def _planned(store: "RunStore", experiment: str, preset: str | None) -> "list[SweepStatus]":
    """The presets of an experiment's file, looked up in the store."""
    from scionlab.runs.status import COLUMNS, statuses, sweep_status
    from scionlab.spec.loading import load_experiment
    from scionlab.sweep import default_workers, plan_sweep

    spec = load_experiment(experiment)
    names = [preset] if preset else list(spec.presets)
    kept, found = store.checkpoints.trial_ids(), []
    for name in names:
        plan = plan_sweep(spec, name, store)
        costs = {cell.trial_id: cell.cost for cell in plan.cells}
        runs = store.runs(set(costs), COLUMNS).set_index("trial_id")
        called = statuses(store, spec.name, name)
        if preset is None and not called:
            continue
        state = called[0].state if called else "planned"
        if state == "done" and plan.todo:
            state = "changed"
        found.append(
            sweep_status(
                runs,
                costs,
                experiment=spec.name,
                preset=name,
                state=state,
                updated_at=called[0].updated_at if called else None,
                workers=called[0].workers if called else default_workers(plan),
                kept=kept,
            )
        )
    if not found:
        raise UserError(f"preset: none of {experiment!r} was run; choose one of {', '.join(spec.presets)}")
    return found


def _print_searches(found: "list[SearchStatus]") -> None:
    """A line for each."""
    from scionlab.cli.terminal import print_rows

    rows = [
        [
            search.experiment,
            search.preset,
            search.method,
            search.place,
            str(search.seed),
            ", ".join(f"{count} {state}" for state, count in search.trials.items()),
            "–" if search.best is None else f"{search.best:.4f}",
        ]
        for search in found
    ]
    print_rows(["experiment", "preset", "method", "place", "seed", "trials", "best val loss"], rows, "Searches", out)


def _print_all(found: "list[SweepStatus]") -> None:
    """A line for each."""
    from scionlab.cli.terminal import print_rows

    columns = ["experiment", "preset", "state", "done", "diverged", "failed", "left", "time left", "heard of"]
    rows = [
        [
            sweep.experiment,
            sweep.preset,
            sweep.state,
            f"{sweep.ok + sweep.diverged}/{sweep.trials}",
            f"{sweep.diverged}",
            f"{sweep.failed}",
            f"{sweep.left}",
            "?" if sweep.seconds_left is None else clock(sweep.seconds_left),
            ago(sweep.updated_at, datetime.now(UTC)),
        ]
        for sweep in found
    ]
    print_rows(columns, rows, "Sweeps", out)


def _print_one(sweep: "SweepStatus") -> None:
    from scionlab.cli.terminal import print_kept

    done = sweep.ok + sweep.diverged
    out.print(f"{sweep.experiment}/{sweep.preset}: {sweep.state}, heard of {ago(sweep.updated_at, datetime.now(UTC))}")
    out.print(
        f"{done} of {sweep.trials} trials done, {sweep.diverged} of them diverged; {sweep.failed} failed; "
        f"{sweep.left} left" + (", the failed ones included" if sweep.failed else "")
    )
    if sweep.left:
        time = "nothing to tell by" if sweep.seconds_left is None else f"about {clock(sweep.seconds_left)}"
        out.print(f"time left: {time} with {sweep.workers} at a time")
    print_kept(sweep.kept, out)
    for reason, count in sweep.failures.items():
        out.print(f"failed, {count} times: {reason}" if count > 1 else f"failed: {reason}")
    for optimizer, loss in sorted(sweep.best.items(), key=lambda item: item[1]):
        out.print(f"best val loss: {optimizer} {loss:.4f}")
