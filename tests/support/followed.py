"""A page of docs/ followed to the letter, with the smoke preset: its files, its commands."""

import re
import shlex
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
SMOKE = {"run": ["--preset", "smoke", "--executor", "inline"], "report": ["--preset", "smoke"]}


class Page:
    """`name` is that of its file in docs/."""

    def __init__(self, name: str) -> None:
        self.text = (DOCS / name).read_text()

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of a language, "" for commands."""
        found = re.findall(r"^```(\w*)\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE)
        return [block for of, block in found if of == language]

    def write_files(self, folder: Path) -> None:
        """Its Python files, by the name in their first line."""
        for source in self.blocks("python"):
            (folder / re.match(r"# (\w+\.py)\n", source)[1]).write_text(source)

    def commands(self, programs: str = "scionlab") -> list[list[str]]:
        """The arguments of its commands of these programs, a regular expression."""
        lines = [line for block in self.blocks("") for line in block.splitlines()]
        return [shlex.split(line)[1:] for line in lines if re.match(programs, line)]


def asked(arguments: list[str]) -> list[str]:
    """The arguments of a command of the page, for the smoke preset."""
    return [*arguments, *SMOKE.get(arguments[0], [])]
