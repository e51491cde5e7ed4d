"""What memory the machine has to give."""

import os
from pathlib import Path


def free_memory(root: Path = Path("/")) -> float | None:
    """Bytes that a new process could take: of the machine, or of this container if that is less; None if unknown."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        table = dict(line.split(":", 1) for line in lines)
        free = float(table["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return _physical_memory()
    try:
        limit = (root / "sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = (root / "sys/fs/cgroup/memory.current").read_text(encoding="ascii").strip()
        return free if limit == "max" else min(free, float(limit) - float(used))
    except (OSError, ValueError):
        return free


def _physical_memory() -> float | None:
    """All memory of the machine, where nothing says what is free (macOS)."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
