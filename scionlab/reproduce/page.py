"""The page of published numbers beside ours: one self-contained file in the frame that all pages have."""

from pathlib import Path

from analysis.report.build import environment
from scionlab.reproduce.declare import Verdict
from scionlab.reproduce.run import Reproduction, TableResult

NAME = "reproduce"
TITLE = "Published numbers beside ours"
QUESTION = "Do the project's fits give what was published, on the tables it was published from?"


def render(found: Reproduction) -> str:
    """The page as text."""
    findings = [
        {"of": result.table.title, "verdict": _word(result), "text": f"{result.finding} {result.table.source}"}
        for result in found.tables
    ]
    peak = "" if found.peak_mb is None else f"at most {found.peak_mb:,.0f} MB of memory"
    return (
        environment(Path(__file__).parent)
        .get_template("page.html.j2")
        .render(
            sweep={"title": TITLE, "question": QUESTION, "experiment": NAME, "preset": "published tables"},
            carried=findings,
            about=[f"{sum(result.compared for result in found.tables)} of {len(found.tables)} tables"],
            datatables=None,
            charts=[],
            tables=found.tables,
            meanings={str(verdict): verdict.meaning for verdict in Verdict},
            cost=[
                f"{result.table.name}: {result.cost}, {result.file or 'no file'}"
                for result in found.tables
                if result.compared
            ],
            peak=peak,
        )
    )


def _word(result: TableResult) -> str:
    """The verdict of the number that fits worst: they are listed from best to worst."""
    order = list(Verdict)
    return str(max((number.verdict for number in result.numbers), key=order.index))
