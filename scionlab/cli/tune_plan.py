"""`scionlab tune --dry-run` and `scionlab transfer --dry-run`: the trials that are left, and what they cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scionlab.cli.options import err, out, print_json
from scionlab.errors import UserError

if TYPE_CHECKING:
    from scionlab.runs.store import RunStore
    from scionlab.tune.estimate import Cost, SearchCost
    from scionlab.tune.search import Search


def show_searches(searches: "Sequence[Search]", store: "RunStore", folder: Path, workers: int, as_json: bool) -> None:
    """What is left of searches whose studies lie in `folder`."""
    from scionlab.tune.estimate import search_costs

    costs = search_costs(searches, store, folder)
    if as_json:
        print_json(_document(costs, workers))
    else:
        _print(costs, workers)


def show_transfer(
    proxies: "Sequence[Search]",
    directs: "Sequence[Search]",
    store: "RunStore",
    folder: Path,
    workers: int,
    as_json: bool,
) -> None:
    """What is left of the searches at the targets, and the comparison; warns where a search of the proxy's lacks."""
    from scionlab.tune.estimate import comparison_cost, search_costs
    from scionlab.tune.run import best_rows

    try:
        best_rows(store, proxies)
    except UserError as error:
        err.print(f"warning: {error}", soft_wrap=True)
    costs, comparison = search_costs(directs, store, folder), comparison_cost(directs, store)
    if as_json:
        print_json(_document(costs, workers) | {"comparison": _cost(comparison, workers)})
        return
    _print(costs, workers)
    out.print(f"then the comparison: at most {comparison.trials} trials, {_words(comparison, workers)}")


def _document(costs: "Sequence[SearchCost]", workers: int) -> dict[str, Any]:
    from scionlab.tune.estimate import total

    first, left = costs[0].search, _cost(total(cost.left for cost in costs), workers)
    return {
        "experiment": first.experiment,
        "preset": first.preset_name,
        "trials": sum(cost.has + cost.left.trials for cost in costs),
        "left": left.pop("trials"),
        **left,
        "workers": workers,
        "searches": [
            {
                "study": cost.search.study,
                "method": cost.search.method_name,
                "place": cost.search.place.name,
                "seed": cost.search.seed,
                "has": cost.has,
                "left": cost.left.trials,
                "tokens": cost.left.tokens,
                "flops": cost.left.flops,
            }
            for cost in costs
        ],
    }


def _cost(cost: "Cost", workers: int) -> dict[str, Any]:
    seconds = None if cost.seconds is None else cost.seconds / workers
    return {"trials": cost.trials, "tokens": cost.tokens, "flops": cost.flops, "seconds": seconds}


def _print(costs: "Sequence[SearchCost]", workers: int) -> None:
    from scionlab.cli.terminal import print_rows
    from scionlab.tune.estimate import total

    first, left = costs[0].search, total(cost.left for cost in costs)
    out.print(f"{first.experiment}/{first.preset_name}: {first.preset.about}")
    rows = [
        [
            cost.search.method_name,
            cost.search.place.name,
            f"{cost.search.seed}",
            f"{cost.has}",
            f"{cost.left.trials}",
            f"{cost.left.tokens:,}",
            f"{cost.left.flops:.2e}",
        ]
        for cost in costs
    ]
    print_rows(["method", "place", "seed", "trials", "to train", "tokens of these", "FLOPs"], rows, "Searches", out)
    count = sum(cost.has for cost in costs) + left.trials
    out.print(f"{left.trials} of {count} trials to train, {_words(left, workers)}")


def _words(cost: "Cost", workers: int) -> str:
    from scionlab.cli.terminal import cost_words

    return cost_words(cost.flops, None if cost.seconds is None else cost.seconds / workers, workers)
