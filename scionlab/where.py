"""What --results names: runs, on a disk or in a bucket, and what is made of them, in a folder on this machine.

The store is imported when it is asked for, so that a command line can name results without loading it.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scionlab.store import RunStore

BESIDE_A_BUCKET = Path("results")


@dataclass(frozen=True)
class ResultsPlace:
    """`root` is a folder, file:///… or s3://bucket/prefix; `to` a folder for fits, figures and reports, if another."""

    root: str
    to: Path | None = None

    @classmethod
    def of(cls, value: "str | os.PathLike[str] | ResultsPlace") -> "ResultsPlace":
        """Of what a user gave; a URL that no store can be at is a UserError of `store`."""
        return value if isinstance(value, ResultsPlace) else cls(os.fspath(value))

    def __str__(self) -> str:
        return self.root

    def writing_to(self, to: Path | None) -> "ResultsPlace":
        """The same runs, but what is made of them goes to another folder."""
        return self if to is None else replace(self, to=to)

    def store(self) -> "RunStore":
        """The runs. UserError for a URL that no store can be at."""
        from scionlab.store import RunStore, join

        return RunStore(join(self.root, "runs"))

    @property
    def folder(self) -> Path:
        """Where fits, figures and reports go: beside the runs, and of those in a bucket below the working directory."""
        if self.to is not None:
            return self.to
        store = self.store()
        if not store.on_disk:
            return BESIDE_A_BUCKET
        return store.root.parent if "://" in self.root else Path(self.root)

    @property
    def to_option(self) -> list[str]:
        """What a command line says of `to`, beside --results."""
        return ["--to", str(self.to)] if self.to else []
