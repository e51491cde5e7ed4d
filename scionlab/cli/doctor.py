"""`scionlab doctor`: does the installation work, and what to do where it does not."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from scionlab.cli.options import Json, Results, app, out, print_json

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@app.command(epilog="Exit status: 0 no problem (there may be warnings), 1 a problem, 2 a mistake in the input.")
def doctor(
    results: Results = Path("results"),
    full: Annotated[
        bool, typer.Option("--full", help="also train two tiny trials under Ray, compiled (about half a minute)")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check Python, torch, compiler, GPU, Ray, memory, disk, data and store; say what to do about what is wrong.

    Examples:

      scionlab doctor

      scionlab doctor --full --results /data/results

      scionlab doctor --json
    """
    from scionlab.doctor import checks

    findings = []
    for finding in checks(results, full):
        findings.append(finding)
        if not as_json:
            line = Text.assemble((f"{finding.level:8}", STYLES[finding.level]), f"{finding.name}: {finding.found}")
            out.print(line.append(f"; {finding.advice}" if finding.advice else ""))
    problems = sum(finding.level == "problem" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if as_json:
        print_json({"problems": problems, "warnings": warnings, "checks": [asdict(finding) for finding in findings]})
    else:
        out.print(f"{problems} problems, {warnings} warnings")
    if problems:
        raise typer.Exit(1)
