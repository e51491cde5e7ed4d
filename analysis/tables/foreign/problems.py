"""What is wrong with a file that somebody else wrote, collected and said once."""

from dataclasses import dataclass, field

from scionlab.errors import UserError, printable

SHOWN = 20  # problems that are printed; the others are counted
LONGEST = 500  # characters of a problem that are printed


@dataclass
class Problems:
    """Problems of a file in the order of its rows. Row 0 stands for the whole file.

    `advice` is what to say below, where one is of the whole file; lines that are fit to be shown.
    """

    file: str
    advice: str = ""
    found: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    more: dict[str, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = shown(self.file)

    def add(self, row: int, text: str, cause: str = "") -> None:
        """Something wrong with a row; the same words count once.

        cause: what many cells share, such as "comma". Of one cause the first problem is told, and the rest counted.
        """
        problem = f"row {row}, {text}" if row else text
        if cause and self.first.setdefault(cause, problem) != problem:
            self.more.setdefault(cause, set()).add(row)
        else:
            self.found[problem] = row

    @property
    def rows(self) -> set[int]:
        """The rows with a problem."""
        return set(self.found.values()).union(*self.more.values())

    def raise_any(self) -> None:
        """UserError if there is anything: one problem in one line, several in a line each."""
        counted = {
            self.first[cause]: _likewise(len(rows - {self.found[self.first[cause]]}))
            for cause, rows in self.more.items()
        }
        ordered = sorted(self.found, key=self.found.__getitem__)
        texts = [shown(text) + counted.get(text, "") for text in ordered]
        advice = f"\n{self.advice}" if self.advice and 0 in self.found.values() else ""
        if len(texts) == 1:
            raise UserError(f"{self.file}: {texts[0]}{advice}")
        if texts:
            rest = [f"… and {len(texts) - SHOWN} more"] if len(texts) > SHOWN else []
            lines = "\n".join(f"  {text}" for text in [*texts[:SHOWN], *rest])
            raise UserError(f"{self.file}: {len(texts)} problems\n{lines}{advice}")


def _likewise(rows: int) -> str:
    return f" (likewise {rows} more row{'s' * (rows > 1)})" if rows else ""


def shown(text: str) -> str:
    """The text in one line that a terminal can show; what is too long is cut."""
    line = printable(text[:LONGEST])
    return line if len(line) <= LONGEST >= len(text) else f"{line[: LONGEST - 2]} …"
