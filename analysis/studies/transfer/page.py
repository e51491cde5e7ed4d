"""The page on tuning a proxy and using its values at larger targets."""

from typing import Any

import pandas as pd

from analysis.report.texts import counts, power, thousands
from analysis.studies.transfer.result import MARGIN, ProxyTransfer, finding, texts, values_text
from analysis.tables.sweep import SweepTables

VARYING = ("width", "depth", "tokens", "batch_size", "seq_len", "lr", "momentum")
DIVERGED = "A way with a diverged run has no loss and no regret; it is called diverging."


def context(tables: SweepTables, fit: ProxyTransfer) -> dict[str, Any]:
    """The template's own names."""
    return {
        "verdicts": [finding(method, fit.of(method)) for method in fit.methods],
        "cells": [texts(cell) for cell in fit.cells],
        "values": _values(fit),
        "targets": {cell.target: cell.changes for cell in fit.cells},
        "skipped": fit.skipped,
        "rule": fit.rule,
        "margin": f"{MARGIN:g}",
        "noise": _noise(fit),
        "pruned": sum({cost.study: cost.pruned for cell in fit.cells for cost in (cell.proxy, cell.search)}.values()),
        "search_lengths": sorted(
            {cell.search.trials for cell in fit.cells} | {cell.proxy.trials for cell in fit.cells}
        ),
    }


def grid(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """What was run after the searches: one row per method and setting."""
    keys = ["optimizer", "width", "depth", "tokens", "batch_size", "lr"]
    return [
        {
            "optimizer": str(rows["optimizer"].iloc[0]),
            "width": str(rows["width"].iloc[0]),
            "depth": str(rows["depth"].iloc[0]),
            "tokens": thousands(rows["tokens"].iloc[0]),
            "batch size": str(rows["batch_size"].iloc[0]),
            "learning rate": power(rows["lr"].iloc[0]),
            "seeds": str(rows["seed"].nunique()),
            **counts(rows),
        }
        for _, rows in runs.groupby(keys, sort=True)
    ]


def _values(fit: ProxyTransfer) -> list[dict[str, str]]:
    """What every search found, and how its trials ended."""
    searches = {cell.proxy.study: ("proxy", cell.method, cell.proxy) for cell in fit.cells}
    searches |= {cell.search.study: (cell.target, cell.method, cell.search) for cell in fit.cells}
    return [
        {
            "tuned at": place,
            "method": method,
            "best values": values_text(cost.best_params),
            "loss at the search's seed": f"{cost.best_loss:.3f}",
            "whole trials": str(cost.complete),
            "pruned": str(cost.pruned),
            "diverged": str(cost.diverged),
            "failed": str(cost.failed),
        }
        for place, method, cost in searches.values()
    ]


def _noise(fit: ProxyTransfer) -> str:
    """The range over the cells of the noise of a difference."""
    known = [cell.noise.sd for cell in fit.cells if cell.noise.sd is not None]
    if not known:
        return "unknown"
    low, high = f"{min(known):.3f}", f"{max(known):.3f}"
    return f"{low} nats" if low == high else f"{low} to {high} nats"
