"""What commands share: the application, its consoles, and options that mean the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Measure how hyperparameters transfer across width, batch size and token budget, and plan a large run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PresetName = Annotated[str, typer.Option("--preset", help="size of the grid: smoke, laptop, full or gpu")]
Results = Annotated[Path, typer.Option(help="folder that holds runs, fits, figures and the report")]

# Logs have no width: tables in them are not squeezed into 80 columns.
out = Console(soft_wrap=True, highlight=False, markup=False, width=None if Console().is_terminal else 120)
err = Console(stderr=True, highlight=False, markup=False)
