"""The page on restarts."""

from typing import Any

import pandas as pd

from analysis.report.texts import counts, power, thousands
from analysis.studies.restarts.fit import Restarts, Way, texts
from analysis.tables.sweep import SweepTables

VARYING = ("batch_size", "seq_len", "lr", "stages")


def context(tables: SweepTables, fit: Restarts) -> dict[str, Any]:
    """The template's own names."""
    return {
        "verdicts": [_finding(way, fit.reference) for way in fit.ways],
        "ways": [texts(way) for way in fit.ways],
        "tokens": f"{fit.tokens:,.0f}",
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run: one row per first stage and its restarts."""
    keys = ["batch_size", "lr", "stages"]
    return [
        {
            "batch size": str(rows["batch_size"].iloc[0]),
            "learning rate": power(rows["lr"].iloc[0]),
            "restarts": "yes" if isinstance(rows["stages"].iloc[0], str) else "no",
            "tokens": thousands(rows["tokens"].iloc[0]),
            "steps": thousands(rows["steps"].iloc[0]),
            "seeds": str(rows["seed"].nunique()),
            **counts(rows),
        }
        for _, rows in runs.groupby(keys, sort=True, dropna=False)
    ]


def _finding(way: Way, reference: str) -> dict[str, Any]:
    """What the way's difference from the reference allows to say."""
    if way.loss is None:
        return {"of": way.name, "verdict": way.verdict, "text": f"{way.n_diverged} of {way.n_seeds} runs diverged."}
    text = f"Validation loss {way.loss.text('.3f')} nats over {way.n_seeds} seeds"
    if way.difference is not None:
        text += f", {way.difference.text('+.3f')} from “{reference}”"
    return {"of": way.name, "verdict": way.verdict, "text": text + "."}
