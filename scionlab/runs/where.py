"""What --results names: runs, on a disk or in a bucket, and what is made of them, in a folder on this machine.

The store is imported when it is asked for, so that a command line can name results without loading it.
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlsplit

from scionlab.errors import UserError
from scionlab.homes import expanded
from scionlab.names import IN_WORDS, PATTERN

if TYPE_CHECKING:
    from scionlab.runs.store import RunStore

BESIDE_A_BUCKET = Path("results")


def named(experiment: str) -> str:
    """The name of an experiment as a user or a store's row says it; UserError unless it can name files.

    A spec's name is checked when it is made, but anyone who may write to a shared store can write its rows.
    """
    if not re.fullmatch(PATTERN, experiment):
        raise UserError(f"experiment: {experiment!r} is not allowed: {IN_WORDS}")
    return experiment


def _path_of(url: str) -> Path:
    """An S3 prefix as a path that no other prefix has: its server where the URL names one, its bucket and its names."""
    parts = urlsplit(url)
    servers = parse_qs(parts.query).get("endpoint_override", [])
    names = [*servers, parts.netloc, *filter(None, unquote(parts.path).split("/"))]
    quoted = (quote(name, safe=" ") for name in names)
    return Path(*(name.replace(".", "%2E") if name in (".", "..") else name for name in quoted))


@dataclass(frozen=True)
class ResultsPlace:
    """`root` is a folder, file:///… or s3://bucket/prefix; `to` a folder for fits, figures and reports, if another."""

    root: str
    to: Path | None = None

    @classmethod
    def of(cls, value: "str | os.PathLike[str] | ResultsPlace") -> "ResultsPlace":
        """Of what a user gave; a URL that no store can be at is a UserError of `store`."""
        return value if isinstance(value, ResultsPlace) else cls(expanded(os.fspath(value), "results"))

    def __str__(self) -> str:
        return self.root

    def writing_to(self, to: Path | None) -> "ResultsPlace":
        """The same runs, but what is made of them goes to another folder."""
        return self if to is None else replace(self, to=to)

    def store(self) -> "RunStore":
        """The runs. UserError for a URL that no store can be at."""
        from scionlab.runs.store import RunStore, join

        return RunStore(join(self.root, "runs"))

    @property
    def folder(self) -> Path:
        """Where fits, figures and reports go: beside the runs, and of those in a bucket into a folder of their own.

        That is results/s3/BUCKET/PREFIX in the working directory.
        """
        if self.to is not None:
            return self.to
        store = self.store()
        if not store.on_disk:
            return BESIDE_A_BUCKET / "s3" / _path_of(self.root)
        return store.root.parent if "://" in self.root else Path(self.root)

    @property
    def to_option(self) -> list[str]:
        """What a command line says of `to`, beside --results."""
        return ["--to", str(self.to)] if self.to else []
