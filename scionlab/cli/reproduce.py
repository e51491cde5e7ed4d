"""`scionlab reproduce`: numbers that were published beside those of the project's own fits, on the same tables."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scionlab.cli.options import Json, Results, app, out, print_json, with_home

if TYPE_CHECKING:
    from scionlab.reproduce.run import Reproduction


@app.command()
def reproduce(
    tables: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            callback=with_home,
            help="folder of public tables, recognized by their columns; default: only what comes with the project",
        ),
    ] = None,
    results: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """Fit published tables and set each published number beside ours, with both intervals and a verdict.

    Writes results/report/reproduce.html, and results/fits/reproduce/ as JSON and CSV. What is missing from the folder
    is listed with where to get it, and the others go on.

    Examples:

      scionlab reproduce

      scionlab reproduce --tables ~/tables --json
    """
    from scionlab.cli import terminal
    from scionlab.reproduce.run import reproduce as compare

    found = compare(tables)
    files = _write(found, results)
    if as_json:
        print_json({**found.as_dict(), "files": files})
        return
    for title, frame in found.summaries():
        terminal.print_frame(frame, title, out)
    for result in found.tables:
        for number in result.numbers:
            if number.why:
                out.print(f"{result.table.name}, {number.published.name}: {number.why}")
        if result.problem:
            out.print(f"{result.table.name} ({result.table.source}): {result.problem}")
    if found.peak_mb is not None:
        out.print(f"memory: at most {found.peak_mb:,.0f} MB")
    for path in files:
        out.print(f"written: {path}")


def _write(found: "Reproduction", results: Path) -> list[Path]:
    from analysis.pipeline import writing
    from analysis.report.index import index
    from scionlab.reproduce.page import NAME, render

    with writing(results / "fits" / NAME) as folder:
        written = [folder / f"{NAME}.json", folder / f"{NAME}.csv"]
        text = json.dumps(found.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        written[0].write_text(text + "\n", encoding="utf-8")
        found.frame().to_csv(written[1], index=False)
    with writing(results / "report") as folder:
        page = folder / f"{NAME}.html"
        page.write_text(render(found), encoding="utf-8")
        (folder / "index.html").write_text(index(folder), encoding="utf-8")
    return [*written, page]
