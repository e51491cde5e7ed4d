"""Chinchilla's points as they were read off its figure, and the law through them."""

from pathlib import Path

from scionlab.api import fit_scaling_law, import_table
from scionlab.reproduce.declare import Ours, Published, PublishedTable

HIGHEST = 5  # losses that the source leaves out
MAP = {"n_params": "Model Size", "flops": "Training FLOP", "val_loss": "loss"}


def _fit(path: Path | None) -> Ours:
    assert path is not None, "it has columns"
    runs = import_table(path, map=MAP).runs
    law, of_all = fit_scaling_law(runs.sort_values("val_loss").iloc[:-HIGHEST]), fit_scaling_law(runs)
    return {
        "E": law.E,
        "A": law.A,
        "B": law.B,
        "α": law.alpha,
        "β": law.beta,
        "a = β/(α+β)": law.size_exponent,
        "β, all points": of_all.beta,
    }


TABLE = PublishedTable(
    name="chinchilla",
    title="Chinchilla's law of size and tokens",
    source="Besiroglu et al. (Epoch AI), arXiv 2404.10102, Table 1",
    how="fit_scaling_law without the five highest losses; T = C/6N. The last line is of all points.",
    fit=_fit,
    columns=tuple(MAP.values()),
    fetch="the points that go with arXiv 2404.10102, one row each",
    values=(
        Published("E", 1.817, unit="nats"),
        Published("A", 482, 482 - 244, 482 + 244, form=".0f"),
        Published("B", 2085, 2085 - 2534, 2085 + 2534, form=".0f"),
        Published("α", 0.348, 0.308, 0.388),
        Published("β", 0.366, 0.326, 0.406),
        Published("a = β/(α+β)", 0.512),
        Published("β, all points", 0.453, where="of all 245 points"),
    ),
)
