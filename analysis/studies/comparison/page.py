"""The page on a comparison of arms."""

from typing import Any

import pandas as pd

from analysis.fits.outcomes import Outcome
from analysis.report.texts import counts, power, powers, thousands
from analysis.studies.comparison.claims import in_words
from analysis.studies.comparison.design import arms_of
from analysis.studies.comparison.result import CellResult, Comparison, Rank, Ranking, rank_texts
from analysis.tables.keys import plain, spoken, values
from analysis.tables.sweep import SweepTables

SHOWN = 5  # arms that the finding names with their numbers


def context(tables: SweepTables, fit: Comparison) -> dict[str, Any]:
    """The template's own names."""
    settings = fit.design.settings
    claims = [{"of": claim.claim, "verdict": claim.verdict, "text": claim.text} for claim in fit.claims]
    return {
        "verdicts": claims + [_finding(ranking, fit) for ranking in fit.rankings],
        "claimed": bool(claims),
        "together": in_words(len(claims)),
        "rankings": [
            {"at": ranking.at, "rows": [rank_texts(rank, fit) for rank in ranking.ranks]} for ranking in fit.rankings
        ],
        "cells": [_row(cell, fit) for cell in fit.cells],
        "metric": fit.metric,
        "across": fit.design.across,
        "paired": fit.paired,
        "known": fit.noise_known,
        "tuned": " and ".join(map(spoken, settings.tuned)),
        "gap": settings.metric == "gap",
        "varying": (*settings.arms, *settings.tuned, *([settings.across] if settings.across else []), "lr"),
        "grid": _grid(tables.runs, fit),
    }


def _finding(ranking: Ranking, fit: Comparison) -> dict[str, str]:
    """The ranking in one sentence, and who cannot be told apart from its first."""
    first, *others = ranking.ranks
    tied = [rank.arm for rank in others if rank.verdict.open]
    verdict = f"{Outcome.TIED}: {', '.join([first.arm, *tied])}" if tied else f"{Outcome.BEST}: {first.arm}"
    if not others:
        verdict = "one arm"
    shown = ", ".join(_entry(rank) for rank in ranking.ranks[:SHOWN])
    if len(ranking.ranks) > SHOWN:
        shown += f"; {len(ranking.ranks) - SHOWN} more down to {_entry(ranking.ranks[-1])}"
    text = f"{fit.metric.capitalize()}{fit.unit and f' in{fit.unit}'}: {shown}."
    return {"of": ranking.title, "verdict": verdict, "text": text}


def _entry(rank: Rank) -> str:
    if rank.value is None:
        return f"{rank.arm} diverges"
    if rank.difference is None:
        return f"{rank.arm} {rank.value.text('.3f')}"
    apart = rank.difference.text("+.3f")
    return f"{rank.arm} {rank.value.value:.3f} ({apart}{'' if rank.verdict == Outcome.WORSE else '; ' + rank.verdict})"


def _row(cell: CellResult, fit: Comparison) -> dict[str, Any]:
    place = fit.design.place(fit.design.places.index(cell.place))
    return {
        "arm": cell.arm,
        **({fit.design.across: place} if fit.design.across else {}),
        fit.metric: "–" if cell.value is None else cell.value.text(".4f"),
        "best lr": "none" if cell.lr is None else cell.lr.text(".3g"),
        "as a power": "–" if cell.lr is None else power(cell.lr.value),
        **{f"best {spoken(key)}": plain(value) for key, value in cell.choice.items()},
        "best rate": cell.state,
        "rates": str(cell.n_rates),
        "seeds": str(cell.n_seeds),
        "diverged": str(cell.n_diverged),
    }


def _grid(runs: pd.DataFrame, fit: Comparison) -> list[dict[str, Any]]:
    """What was run: one row per arm and place."""
    settings = fit.design.settings
    place = pd.Series(None, index=runs.index) if settings.across is None else values(runs, settings.across, "across")
    names = [arm.name for arm in arms_of(runs, settings)]
    rows = []
    for arm in dict.fromkeys(names):
        mine = runs[[name == arm for name in names]]
        for at, group in mine.groupby(place[mine.index], dropna=False, sort=fit.design.numeric):
            rows.append(
                {
                    "arm": arm,
                    **({fit.design.across: settings.labels.get(plain(at), plain(at))} if settings.across else {}),
                    "parameters": thousands(group["n_params"].max()),
                    "tokens": thousands(group["tokens"].max()),
                    "steps": thousands(group["steps"].max()),
                    "learning rates": powers(group["lr"]),
                    "seeds": str(group["seed"].nunique()),
                    **counts(group),
                }
            )
    return rows
