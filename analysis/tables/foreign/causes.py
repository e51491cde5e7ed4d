"""Why a cell is no number, where a table is full of such cells: said once, with what to do."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """What many cells of a file share, and what to do about it."""

    name: str
    hint: str


MISSING = Cause("missing", "leave the cell empty, or leave such rows out with --where")
LOST = Cause("lost", "write inf for a run that diverged, leave the cell empty and map a status, or use --where")
MARKS = "marks"
CAUSES = {
    # What is left of these was not read as a number by its column (`marks`).
    r"[-+]?\d[\d.,'’ \u00a0\u2009\u202f]*[.,'’ \u00a0\u2009\u202f][\d.,'’ \u00a0\u2009\u202f]*": Cause(
        MARKS, "write 1234567.5, 1,234,567.5 or 1.234.567,5"
    ),
    r"[-+]?[\d.,]+(e[-+]?\d+)?\s*([a-z%µ]+)": Cause("unit", "write the number alone, 1e8 for 100M"),
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
