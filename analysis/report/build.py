"""Fill a page: what all pages share, and the study's own part.

A page is a module `page.py` of its study's folder with `VARYING` (fields of a trial that its grid varies), `grid(runs)`
and `context(tables, fit)`, and beside it a template `page.html.j2` that extends `base.html.j2`. Its context has
`verdicts`, the findings: `of` what, `verdict` in a word or two, and `text`, whose first sentence the index repeats. A
page whose grid depends on the experiment's settings has `varying` and `grid` in its context instead. `DIVERGED` says
what became of diverged trials where it is not what most pages do.

Every page has the same parts in the same order: question, findings, figures, all trials to explore, the grid,
provenance. It holds its libraries itself and may ask nothing of a network (`POLICY`).
"""

import base64
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.drawing.saving import SavedFigure
from analysis.fits.advice import Advice
from analysis.fits.intervals import CONFIDENCE, RESAMPLES
from analysis.report import assets
from analysis.report.charts import explore
from analysis.report.texts import raised
from analysis.report.trials import trials
from analysis.tables import keys
from analysis.tables.sweep import IMPORTED, SweepTables
from scionlab.runs.where import ResultsPlace

DIVERGED = (
    "They are drawn at the top edge; a learning rate at which more than half of the runs diverged counts as infinitely "
    "bad, and no curve goes through it."
)
# What a browser lets the page load: what it holds. DataTables is a module from a blob; Vega compiles its expressions.
CARRIED = ("of", "verdict", "text")  # of a finding, by the index
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval' blob:; "
    "base-uri 'none'; form-action 'none'"
)


def environment(*folders: Path) -> Environment:
    """Where templates live, in `folders` or in this one, and how they are filled."""
    made = Environment(
        loader=FileSystemLoader([*folders, assets.HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"headings": headings, "raised": raised}
    made.globals.update(own=assets.own, policy=POLICY)
    return made


def headings(html: str) -> list[tuple[str, Markup]]:
    """Id and text of every `<h2>` of a part of a page, for its table of contents."""
    return [(name, Markup(text)) for name, text in re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', html)]


def render(
    page: ModuleType,
    tables: SweepTables,
    fit: Any,
    figures: Sequence[SavedFigure],
    results: ResultsPlace,
    advice: Advice,
) -> str:
    """The page as text; figures are embedded, nothing is linked. `results` is what its commands name.

    `advice` is what would settle the findings that are open; it is shown below them.
    """
    folder = Path(str(page.__file__)).parent
    context = page.context(tables, fit)
    varying = context.pop("varying") if "varying" in context else page.VARYING
    grid = context.pop("grid") if "grid" in context else page.grid(tables.runs)
    table = trials(tables.runs)
    charts = explore(tables, table)
    imported = tables.sweep["preset"] == IMPORTED  # which has its file already
    return (
        environment(folder)
        .get_template("page.html.j2")
        .render(
            sweep=tables.sweep,
            carried=[_carried(finding) for finding in context["verdicts"]],
            figures={figure.name: _figure(figure, tables, results) for figure in figures},
            trials=table,
            charts=charts,
            vega=assets.vega() if charts else "",
            datatables=assets.datatables(),
            export="" if imported else _command("export", tables, results, "--output", f"{tables.experiment}.csv"),
            about=_about(tables),
            grid=grid,
            advice=advice,
            excluded=_excluded(tables, getattr(page, "DIVERGED", DIVERGED)),
            provenance=_provenance(tables),
            confidence=f"{CONFIDENCE:.0%}",
            resamples=RESAMPLES,
            fixed=_fixed(tables.runs, varying),
            **context,
        )
    )


def _carried(finding: Mapping[str, Any]) -> dict[str, str]:
    """A finding as the page carries it in its head for the index: texts as HTML."""
    return {name: str(raised(finding[name]) if name == "text" else escape(finding[name])) for name in CARRIED}


def _about(tables: SweepTables) -> list[str]:
    """What the index says of a page beside its question and findings."""
    sweep = tables.sweep
    when = [f"{sweep['started_at']:%Y-%m-%d %H:%M} UTC"] if "started_at" in sweep else []
    return [*when, str(sweep["preset"]), f"{len(tables.runs):,} trials"]


def _command(name: str, tables: SweepTables, results: ResultsPlace, *more: str) -> str:
    """A command on the sweep of the page, quoted for a shell."""
    which = [tables.experiment, "--preset", str(tables.sweep["preset"]), "--results", str(results)]
    return shlex.join(["scionlab", name, *which, *more])


def _figure(figure: SavedFigure, tables: SweepTables, results: ResultsPlace) -> dict[str, str]:
    svg = figure.path.with_suffix(".svg").read_bytes()
    return {
        "name": figure.name,
        "title": figure.title,
        "alt": figure.alt,
        "caption": figure.caption,
        "source": "data:image/svg+xml;base64," + base64.b64encode(svg).decode(),
        "csv": f"figures/{tables.experiment}/{figure.name}.csv",
        "command": _command(
            "figures", tables, results, "--figure", figure.name, *tables.sweep.get("options", ()), *results.to_option
        ),
    }


def _fixed(runs: pd.DataFrame, varying: Iterable[str]) -> dict[str, str]:
    """What all trials have in common, and each optimizer's options; nothing for runs without a spec."""
    if "spec" not in runs:
        return {}
    specs = keys.specs(runs)
    names = [
        name
        for name in {key: None for spec in specs for key in spec}
        if name not in {"optimizer", "options", "seed", *varying}
    ]
    shown = {name: _several(spec.get(name) for spec in specs) for name in names}
    for optimizer in sorted({spec["optimizer"] for spec in specs}):
        shown[f"options of {optimizer}"] = _several(
            ", ".join(f"{k} {v}" for k, v in spec["options"].items() if keys.OPTION + k not in varying)
            for spec in specs
            if spec["optimizer"] == optimizer
        )
    return shown


def _several(values: Iterable[Any]) -> str:
    return " | ".join(dict.fromkeys(map(str, values))) or "none"


def _excluded(tables: SweepTables, of_diverged: str) -> list[str]:
    """What the fit left out or treated apart, in sentences; one says what became of diverged trials."""
    status = tables.runs["status"]
    diverged, failed = int((status == "diverged").sum()), int((status == "error").sum())
    lines = []
    if diverged:
        lines.append(f"Diverged trials: {diverged}. {of_diverged}")
    if failed:
        lines.append(f"Failed trials, left out: {failed}. Calling the sweep again tries them again.")
    for optimizer, rows in tables.runs.groupby("optimizer"):
        if (rows["status"] == "error").all():
            lines.append(f"All trials of {optimizer} failed, so it does not appear in the findings.")
    without = set(tables.runs.loc[status != "error", "trial_id"]) - tables.with_curve
    if without and tables.sweep["preset"] != IMPORTED:
        lines.append(f"Trials whose curve is not in the store, missing from the loss curves: {len(without)}.")
    if tables.missing:
        lines.append(f"Trials of the grid not trained yet: {tables.missing} of {len(tables.sweep['trial_ids'])}.")
        lines.append("Seeds that do not cover every learning rate of a setting are left out where others do.")
    return lines


def _how(runs: pd.DataFrame) -> str:
    """Which trials were compiled, stacked, or began with a stem, for rows that say so."""
    if "stack" not in runs or runs["stack"].isna().all():
        return ""
    compiled, stacked = int(runs["compiled"].eq(True).sum()), int(runs["stack"].gt(0).sum())
    seconds = f" ({runs['compile_s'].sum():,.0f} s of it for compiling)" if compiled else ""
    stemmed = int(runs["stem_steps"].gt(0).sum()) if "stem_steps" in runs else 0
    stems = f", {stemmed} from stems" if stemmed else ""
    return f"; {compiled} of {len(runs)} with compiled gradients{seconds}, {stacked} in stacks{stems}"


def _provenance(tables: SweepTables) -> dict[str, str]:
    if tables.sweep["preset"] == IMPORTED:
        return {"imported from": ", ".join(sorted(tables.runs["source"].unique())), "rows": f"{len(tables.runs):,}"}
    runs, sweep = tables.runs, tables.sweep

    def values(column: str) -> str:
        return ", ".join(sorted(map(str, runs[column].dropna().unique()))) or "unknown"

    trained = tables.sweeps["n_trained"].sum()
    busy = tables.sweeps["trial_seconds"].sum() / max(
        1e-9, (tables.sweeps["wall_time_s"] * tables.sweeps["workers"]).where(tables.sweeps["n_trained"] > 0, 0).sum()
    )
    return {
        "scionlab": values("scionlab_version"),
        "git commit": values("git_commit"),
        "PyTorch": values("torch_version"),
        "corpus": values("data"),
        "SHA-256 of the corpus": values("data_sha256"),
        "machine": f"{values('machine')} ({values('device')}, {values('dtype')}); last sweep on {sweep['machine']}",
        "trained": f"{runs['started_at'].min():%Y-%m-%d %H:%M} to {runs['started_at'].max():%Y-%m-%d %H:%M} UTC",
        "training time": f"{runs['wall_time_s'].sum():,.0f} s summed over trials" + _how(runs),
        "sweep": (
            f"{tables.sweeps['wall_time_s'].sum():,.0f} s in {len(tables.sweeps)} calls that trained {trained} trials; "
            f"workers were {busy:.0%} busy"
        ),
        "sweep id": str(sweep["sweep_id"]),
    }
