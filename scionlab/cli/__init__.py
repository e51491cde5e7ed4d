"""The command line: what each of its modules adds to `scionlab`. It knows all other rooms.

Exit status: 0 done, 1 some trials failed, 2 a mistake in the input, 130 stopped by Ctrl-C or SIGTERM.
Torch, Ray and matplotlib are imported by the commands that need them, so that help is immediate. To add a command,
write it into a module here and import that module below; docs/cli.md has a section for each.
"""

import platform
import sys
from importlib import metadata
from typing import Annotated, Any

import typer

from scionlab import homes
from scionlab.cli import (
    compact,
    doctor,
    explain,
    export,
    foreign,
    plan,
    reproduce,
    results,
    run,
    status,
    tokenize,
    tune,
)
from scionlab.cli.options import EXIT_CODES, app, err
from scionlab.errors import UserError, on_command_line
from scionlab.own.packages import own_analysis_first

__all__ = [
    "app",
    "compact",
    "doctor",
    "explain",
    "export",
    "foreign",
    "main",
    "plan",
    "reproduce",
    "results",
    "run",
    "status",
    "tokenize",
    "tune",
]

# Of unknown commands and options. Typer has this class from click, and versions of it differ in where.
UsageError: Any = typer.BadParameter.__mro__[1]

for _command in app.registered_commands:
    _command.epilog = _command.epilog or EXIT_CODES


def main() -> None:
    """Entry point: a mistake of the user is one line and exit status 2; anything else keeps its traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Unicode gets a ? and no traceback
    own_analysis_first()
    homes.stand_in()
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        _refuse(str(error))
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help has been printed
            sys.exit(2)
        _refuse(" ".join(error.format_message().split()))
    except KeyboardInterrupt:
        sys.exit(130)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _refuse(message: str) -> None:
    err.print(f"error: {message}", style="bold red", soft_wrap=True)
    sys.exit(2)


def _version(asked: bool) -> None:
    if asked:
        torch = metadata.version("torch")
        typer.echo(f"scionlab {metadata.version('scionlab')} (Python {platform.python_version()}, torch {torch})")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print versions and exit")
    ] = False,
) -> None:
    context.with_resource(on_command_line())
