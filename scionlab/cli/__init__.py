"""The command line: `scionlab run`, `fit`, `figures`, `report`, `plan`, `import`, `explain`, `compact`.

It knows all other rooms.

Exit status: 0 done, 1 some trials failed, 2 a mistake in the input, 130 interrupted by Ctrl-C.
Torch, Ray and matplotlib are imported by the commands that need them, so that help is immediate. To add a command,
write it into a module here and import that module below.
"""

import sys

from scionlab.cli import compact, explain, foreign, plan, results, run
from scionlab.cli.options import app, err
from scionlab.errors import UserError

__all__ = ["app", "compact", "explain", "foreign", "main", "plan", "results", "run"]


def main() -> None:
    """Entry point: a UserError is one line and exit status 2; anything else keeps its traceback."""
    try:
        app()
    except UserError as error:
        err.print(f"error: {error}", style="bold red", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("Stopped.")
        sys.exit(130)


@app.callback()
def _root() -> None:
    pass
