"""`scionlab tune` and `scionlab transfer`: search on the smallest model, use what was found, and say what it loses."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scionlab.cli.completion import choices
from scionlab.cli.options import (
    AUTO,
    CHECKPOINT_MINUTES,
    CheckpointMinutes,
    DryRun,
    Executor,
    Json,
    MicroBatch,
    PresetName,
    Results,
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
from scionlab.cli.tune_plan import show_searches, show_transfer

if TYPE_CHECKING:
    import pandas as pd

    from scionlab.spec.tuning import TransferPreset
    from scionlab.tune.run import TuneResult
    from scionlab.tune.search import Place, Search

ALWAYS = "always"  # the way of compiling that searches know, too
Which = Annotated[str, typer.Argument(help="`transfer`, or path to your own .py file")]
Methods = Annotated[list[str] | None, typer.Option("--method", help="only this method; may be given several times")]
Trials = Annotated[int | None, typer.Option(min=1, help="trials of a search; default: the preset's")]
Compile = Annotated[
    str,
    typer.Option(
        help="take gradients from compiled graphs: always, never, or auto (in searches never, in the comparison where "
        "it pays)",
        autocompletion=choices("auto", "always", "never"),
    ),
]


@app.command()
def tune(
    experiment: Which = "transfer",
    preset: PresetName = "laptop",
    results: Results = Path("results"),
    method: Methods = None,
    trials: Trials = None,
    executor: Executor = "ray",
    workers: Workers = None,
    compile: Compile = "auto",
    without_gpu: WithoutGpu = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Search for the proxy's best values: learning rate, momentum and what else the method's space names.

    The search is made once with every seed of the preset's search_seeds. Each goes on where an earlier call stopped,
    until it has its number of trials. Where the preset says pruning="median", trials behind the others are ended early.

    Examples:

      scionlab tune

      scionlab tune --preset smoke --method scion --trials 8

      scionlab tune my_transfer.py --preset laptop --workers 4

      scionlab tune --preset full --dry-run
    """
    from scionlab.spec.loading import load_transfer
    from scionlab.sweep import How, check_gpu
    from scionlab.tune.run import search_workers
    from scionlab.tune.run import tune as make
    from scionlab.tune.search import chosen_methods, make_searches

    spec, store, how = load_transfer(experiment), _store(results), How(compile)
    chosen = spec.preset(preset)
    if not without_gpu and not dry_run:
        check_gpu(preset, chosen.devices)
    place = places(chosen, chosen.rule)[0]
    searches = make_searches(
        spec, preset, chosen_methods(chosen, method), [place], store, trials, how.compile == ALWAYS
    )
    if dry_run:
        at_once = search_workers(searches, store, executor, workers)
        show_searches(searches, store, results / "tuning", at_once, as_json)
        return
    stop_when_asked()
    result = make(searches, store, results / "tuning", err, executor, workers)
    if as_json:
        print_json(_document(result, results, spec.name))
    _end(result, results, spec.name, quiet=as_json)


@app.command()
def transfer(
    experiment: Which = "transfer",
    preset: PresetName = "laptop",
    results: Results = Path("results"),
    method: Methods = None,
    trials: Trials = None,
    rule: Annotated[
        str | None,
        typer.Option(help="how batch and rate go to another budget: bst, no-change, …; default: the preset's"),
    ] = None,
    executor: Executor = "ray",
    workers: Workers = None,
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
    """Use the proxy's values at every target as they are, tune each target from scratch, and compare the two.

    Needs the searches of `scionlab tune`, and makes as many at every target, one with each seed of search_seeds. What
    both ways found with the same seed is trained with fresh seeds, as an ordinary sweep, and compared. It is this sweep
    that --stack, --stem, --micro-batch, --checkpoint-minutes and --track are for.

    Examples:

      scionlab transfer

      scionlab transfer --preset smoke --method scion --rule no-change

      scionlab transfer --preset full --dry-run
    """
    from scionlab.cli import terminal
    from scionlab.spec.loading import load_transfer
    from scionlab.sweep import How, check_gpu, run_sweep
    from scionlab.trackers import start_trackers
    from scionlab.tune.final import final_experiment
    from scionlab.tune.run import best_rows, search_workers
    from scionlab.tune.run import tune as make
    from scionlab.tune.search import chosen_methods, make_searches

    spec, store = load_transfer(experiment), _store(results)
    how = How(compile, stack, checkpoint_minutes, stem, examples_of(micro_batch))
    chosen = spec.preset(preset)
    if not without_gpu and not dry_run:
        check_gpu(preset, chosen.devices)
    names, law = chosen_methods(chosen, method), rule or chosen.rule
    proxy, *targets = places(chosen, law)
    proxies = make_searches(spec, preset, names, [proxy], store, trials)
    directs = make_searches(spec, preset, names, targets, store, trials, how.compile == ALWAYS)
    if dry_run:
        at_once = search_workers(directs, store, executor, workers)
        show_transfer(proxies, directs, store, results / "tuning", at_once, as_json)
        return
    best_rows(store, proxies)  # before hours of training, as are the trackers
    trackers = start_trackers(track or [], results, spec.name)
    stop_when_asked()
    result = make(directs, store, results / "tuning", err, executor, workers)
    if result.interrupted:
        if as_json:
            print_json(_document(result, results, spec.name))
        _end(result, results, spec.name, quiet=as_json)
    found = best_rows(store, [*proxies, *directs])
    final = final_experiment(spec, preset, law, found, proxies, directs, store)
    swept = run_sweep(final, preset, store, err, executor, workers, how, trackers)
    if as_json:
        trained = {"trials": len(swept.plan.cells), "trained": len(swept.reports), "failed": len(swept.errors())}
        print_json(_document(result, results, spec.name) | {"interrupted": swept.interrupted, "comparison": trained})
    if swept.interrupted:
        err.print("Stopped. What was finished is kept; run the same command to go on.")
        raise typer.Exit(130)
    if not as_json:
        terminal.print_result(swept, f"{spec.name}/{preset}", out)
        again = ["scionlab", "report", spec.name, "--preset", preset, "--results", str(results)]
        out.print(f"next: {shlex.join(again)}")
    _end(result, results, spec.name, quiet=as_json, failed=swept.errors())


def places(preset: "TransferPreset", rule: str) -> "list[Place]":
    """The proxy and the targets, with the batch size and the factor on the learning rate that the rule says.

    A batch size that a target names itself stays, and the rate is the rule's for it. UserError for an unknown rule.
    """
    from analysis.laws.rules import RULES, Point
    from scionlab.errors import unknown
    from scionlab.spec.tuning import PROXY
    from scionlab.tune.search import Place

    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    law, name = RULES[rule], next(iter(preset.methods))

    def point(fields: Mapping[str, Any]) -> Point:
        trial = preset.trial(name, fields, preset.methods[name].middle, preset.search_seeds[0])
        return Point(trial.tokens, trial.batch_size, trial.seq_len, lr=1.0)

    own = preset.fields(PROXY)
    base, found = point(own), [Place(PROXY, own)]
    for target, changes in preset.targets.items():
        fields = preset.fields(target)
        there = point(fields)
        if "batch_size" not in changes:
            fields["batch_size"] = max(1, round(float(law.batch_tokens(base, float(there.tokens)) / there.seq_len)))
        factor = law.learning_rate(base, float(there.tokens), fields["batch_size"] * there.seq_len)
        found.append(Place(target, fields, float(factor)))
    return found


def _store(results: Path) -> Any:
    from scionlab.runs.store import RunStore

    return RunStore(results / "runs")


def _end(result: "TuneResult", results: Path, experiment: str, quiet: bool, failed: Sequence[str] = ()) -> None:
    """Say what the searches found and where to look at them; raises Exit where the call did not end well."""
    from scionlab.cli import terminal
    from scionlab.tune.studies import database

    if result.interrupted:
        err.print("Stopped. Finished trials are kept; run the same command to go on.")
        raise typer.Exit(130)
    if not quiet:
        terminal.print_frame(_table(result), "Searches", out)
        _say_what_has_no_end(result)
        out.print(f"to look at every trial: optuna-dashboard sqlite:///{database(results / 'tuning', experiment)}")
    if errors := [*result.errors(), *failed]:
        err.print(
            f"Failed: {len(errors)} (run the same command to make up for them). The first:\n{errors[0]}", soft_wrap=True
        )
        raise typer.Exit(1)


def _say_what_has_no_end(result: "TuneResult") -> None:
    from scionlab.tune.run import without_end

    for search in result.searches:
        rows = result.rows[search.study]
        if rows and result.best(search) is None:
            err.print(f"warning: {without_end(search, (row['state'] for row in rows))}", soft_wrap=True)


def _document(result: "TuneResult", results: Path, experiment: str) -> dict[str, Any]:
    """What the searches did, for a program."""
    from scionlab.tune.studies import database

    return {
        "database": database(results / "tuning", experiment),
        "interrupted": result.interrupted,
        "workers": result.workers,
        "wall_time_s": result.wall_time_s,
        "made": len(result.made),
        "searches": [_search(result, search) for search in result.searches],
    }


def _table(result: "TuneResult") -> "pd.DataFrame":
    """What the searches found, for a reader."""
    import pandas as pd

    found = [_search(result, search) for search in result.searches]
    return pd.DataFrame(
        {
            "method": each["method"],
            "place": each["place"],
            "seed": each["seed"],
            "trials": ", ".join(f"{count} {state}" for state, count in each["trials"].items()),
            "best loss": f"{each['best']['val_loss']:.3f}" if each["best"] else "–",
            "with": _values(each["best"]) if each["best"] else "–",
            "FLOPs": f"{each['flops']:.2e}",
            "seconds": f"{each['seconds']:.0f}",
        }
        for each in found
    )


def _values(best: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in best["params"].items())


def _search(result: "TuneResult", search: "Search") -> dict[str, Any]:
    rows, best = result.rows[search.study], result.best(search)
    return {
        "study": search.study,
        "method": search.method_name,
        "place": search.place.name,
        "seed": search.seed,
        "trials": {state: sum(row["state"] == state for row in rows) for state in sorted({r["state"] for r in rows})},
        "flops": sum(row.get("flops") or 0.0 for row in rows),
        "seconds": sum(row.get("wall_time_s") or 0.0 for row in rows),
        "best": best
        and {name: best[name] for name in ("number", "val_loss", "trial_id")} | {"params": json.loads(best["params"])},
    }
