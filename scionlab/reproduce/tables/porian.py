"""Sweeps of equal operations in six configurations, from Kaplan's to Chinchilla's exponent."""

from pathlib import Path

from scionlab.api import fit, import_table
from scionlab.reproduce.declare import Ours, Published, PublishedTable

# What the paper changes one after the other, by the names that its table has for them; and N* ∝ C^a.
EXPONENTS = {
    "rw/base/long/kaplan/kaplan/train": ("Kaplan et al.'s setting", 0.834),
    "rw/base/long/kaplan/standard/val": ("the head's operations counted", 0.701),
    "rw/base/short/kaplan/standard/val": ("warm-up shortened", 0.604),
    "rw/base/short/chinchilla/standard/val": ("rate decayed to the end", 0.571),
    "rw/tuned/short/const/standard/val": ("tuned", 0.497),
    "rw/tuned/long/const/kaplan/train": ("Kaplan et al.'s setting, tuned", 0.708),
}


def _fit(path: Path | None) -> Ours:
    assert path is not None, "it has columns"
    table = import_table(path, map={"val_loss": "loss", "group": "config"}, number_repeats=True)
    found = fit("isoflop", table, curve="akima")
    sources = {source.name: source.chosen for source in found.sources}  # type: ignore[attr-defined]
    growths = {words: sources.get(config) for config, (words, _) in EXPONENTS.items()}
    return {words: None if growth is None else growth.size for words, growth in growths.items()}


TABLE = PublishedTable(
    name="porian",
    title="The exponent of the best size, configuration by configuration",
    source="Porian et al., arXiv 2406.19146, Figure 1",
    how="Study isoflop with Akima's curve through the losses of each budget; a of N* ∝ C^a with Student's interval of "
    "the line through the budgets.",
    fit=_fit,
    columns=("config", "flops", "n_params", "tokens", "loss"),
    fetch="the losses of the sweeps of arXiv 2406.19146, one row a size and budget, with its configurations' names",
    values=tuple(Published(words, value, where=config) for config, (words, value) in EXPONENTS.items()),
)
