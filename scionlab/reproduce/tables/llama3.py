"""Llama 3's sweeps of equal operations, of a table that holds those of five sources with their outliers marked."""

from pathlib import Path

from scionlab.api import fit, fit_scaling_law, import_table
from scionlab.reproduce.declare import Ours, Published, PublishedTable

GROUP = "llama_3__raw_loss"
MAP = {"n_params": "params", "flops": "budget", "val_loss": "loss", "group": "experiment"}
VPNLS = "variable projection (VPNLS), without outliers"


def _fit(path: Path | None) -> Ours:
    assert path is not None, "it has columns"
    of = [f"experiment={GROUP}"]
    everything = import_table(path, map=MAP, where=of, number_repeats=True)
    without = import_table(path, map=MAP, where=[*of, "outlier=False"], number_repeats=True)
    law = fit_scaling_law(without)
    (valleys,) = fit("isoflop", everything, curve="parabola").sources  # type: ignore[attr-defined]
    return {
        "a, all points": fit_scaling_law(everything).size_exponent,
        "a": law.size_exponent,
        "E": law.E,
        "α": law.alpha,
        "β": law.beta,
        "a by parabolas": None if valleys.chosen is None else valleys.chosen.size,
    }


TABLE = PublishedTable(
    name="llama3",
    title="Llama 3's law of size and tokens",
    source="A table of five sources' sweeps; on what parabolas make of them arXiv 2603.22339",
    how="fit_scaling_law on the rows of Llama 3's raw losses without those marked as outliers, and with all of them; "
    "by parabolas (study isoflop) with all.",
    fit=_fit,
    columns=("source", "experiment", "tokens", "params", "budget", "loss", "outlier"),
    fetch="points of sweeps of equal operations of Chinchilla, Llama 3, Marin and others, one row each, with outlier "
    "True or False",
    values=(
        Published("a, all points", 0.53, form=".3f"),
        Published("a", 0.503, where=VPNLS),
        Published("E", 0.605, where=VPNLS),
        Published("α", 0.310, where=VPNLS),
        Published("β", 0.314, where=VPNLS),
        Published(
            "a by parabolas",
            0.463,
            where="approach 2; which points it is of is not said",
            why="Without the rows marked as outliers parabolas give 0.500, with all 0.463.",
        ),
    ),
)
