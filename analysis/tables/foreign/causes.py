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
CAUSES = {
    r"[-+]?\d{1,3}([,'’ \u00a0\u202f]\d{3}){2,}([.,]\d+)?|[-+]?\d{1,3}(['’ \u00a0\u202f]\d{3})+([.,]\d+)?"
    r"|[-+]?\d{1,3}(\.\d{3}){2,}(,\d+)?|[-+]?\d{1,3}(,\d{3})+\.\d+": Cause(
        "thousands", "write numbers without thousands separators"
    ),
    r"[-+]?\d*,\d+(e[-+]?\d+)?": Cause(
        "comma", "write a point for a decimal comma, and numbers without thousands separators"
    ),
    r"[-+]?[\d.]+(e[-+]?\d+)?\s*([a-z%µ]+)": Cause("unit", "write the number alone, 1e8 for 100M"),
}
WORDS = {"-", "--", "–", "?", ".", "n/a", "na", "<na>", "n.a.", "none", "null", "nil", "nat", "missing", "undefined"}
ENDS = {"diverged", "failed", "crashed", "oom", "error"}


def cause_of(cell: str, is_loss: bool) -> Cause | None:
    """The cause of a cell that is no number, None for what is not known. `is_loss`: a run may have none."""
    text = cell.strip().lower()
    if text in WORDS or text in ENDS or text.startswith("#"):  # spreadsheets write #N/A and #DIV/0!
        return LOST if is_loss else MISSING
    return next((cause for pattern, cause in CAUSES.items() if re.fullmatch(pattern, text)), None)
