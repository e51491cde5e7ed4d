"""Where numbers come from: versions, commit, machine."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path


@cache
def git_commit() -> str | None:
    """Commit of the source tree this package runs from, with "+dirty" if tracked files differ; None outside git."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # An installed copy may lie inside somebody else's repository: only our own top level counts.
    top = git("rev-parse", "--show-toplevel")
    if top is None or Path(top) != root:
        return None
    commit = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"{commit}+dirty" if commit and changed else commit


@cache
def version(package: str) -> str:
    """Installed version of a package."""
    return metadata.version(package)


def cpu_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Operating system and processor architecture."""
    return f"{platform.system()} {platform.machine()}"
