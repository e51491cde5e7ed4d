"""Why a cell is no number, where a table is full of such cells: said once, with what to do."""

import re
from dataclasses import dataclass

from analysis.tables.foreign.marks import BLANKS
from scionlab.errors import option


@dataclass(frozen=True)
class Cause:
    """What many cells of a file share, and what to do about it; where rows can be `left_out`, that is said, too."""

    name: str
    hint: str
    left_out: bool = False

    def text(self) -> str:
        """The hint as a clause."""
        return f"{self.hint}, or leave such rows out with {option('where')}" if self.left_out else self.hint


MISSING = Cause("missing", "leave the cell empty", left_out=True)
LOST = Cause("lost", "write inf for a run that diverged, leave the cell empty and map a status", left_out=True)
DATE = Cause(
    "date", "it is a date, which a spreadsheet may have made of a number such as 2.5; format the column as numbers"
)
MARKS = "marks"
_BETWEEN = rf".,{BLANKS}"
_MONTH = r"(jan|feb|mar|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-zä]{0,6}"
CAUSES = {
    r"\d{4}-\d\d?-\d\d?([t ].*)?|\d\d?([./-])\d\d?\2\d{2}(\d\d)?": DATE,
    rf"\d\d?[ ./-]*{_MONTH}([ ./-]*\d{{2,4}})?|{_MONTH}[ ./-]*\d{{1,4}}": DATE,
    # What is left of these was not read as a number by its column (`marks`).
    rf"[-+]?\d[\d{_BETWEEN}]*[{_BETWEEN}][\d{_BETWEEN}]*": Cause(MARKS, "write 1234567.5, 1,234,567.5 or 1.234.567,5"),
    r"[-+]?[\d.,]+\s*%": Cause("percent", "write the share, 0.1 for 10%"),
    r"[-+]?[\d.,]+(e[-+]?\d+)?\s*([a-zµ]+)": Cause("unit", "write the number alone, 1e8 for 100M"),
}
WORDS = {"-", "--", "–", "?", ".", "n/a", "na", "<na>", "n.a.", "none", "null", "nil", "nat", "missing", "undefined"}
ENDS = {"diverged", "failed", "crashed", "oom", "error"}


def cause_of(cell: str, is_loss: bool, hint: str = "") -> Cause | None:
    """The cause of a cell that is no number, None for what is not known.

    is_loss: a run may have none.
    hint: what the column says of texts that may be numbers (`Numbers.hint`).
    """
    text = cell.strip().lower()
    if text in WORDS or text in ENDS or text.startswith("#"):  # spreadsheets write #N/A and #DIV/0!
        return LOST if is_loss else MISSING
    cause = next((cause for pattern, cause in CAUSES.items() if re.fullmatch(pattern, text)), None)
    return Cause(f"{MARKS} {hint}", hint) if cause is not None and cause.name == MARKS and hint else cause
