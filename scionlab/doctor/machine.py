"""What the machine has: memory, shared memory, a terminal."""

import os
import shutil
import sys
from pathlib import Path

from scionlab import provenance
from scionlab.doctor import Finding
from scionlab.host import free_memory
from scionlab.sweep.sockets import SHORT, fits, usual

GB = 1e9
# A worker takes about this much, Ray itself the rest (`scionlab.sweep.workers`).
WORKER_BYTES, RAY_BYTES = 0.4 * GB, 0.6 * GB
SHARED_BYTES = 100e6  # Ray's object store, and something to spare


def memory() -> Finding:
    """Free memory against what as many workers as cores take."""
    cores = provenance.cpu_count()
    needed = min(cores, 8) * WORKER_BYTES + RAY_BYTES
    free = free_memory()
    if free is None:
        return Finding("memory", "warning", "this system does not say how much is free")
    found = f"{free / GB:.1f} GB free for {cores} cores, that is {free / cores / GB:.1f} GB a worker"
    if free >= needed:
        return Finding("memory", "ok", found)
    fit = max(1, int((free - RAY_BYTES) / WORKER_BYTES))
    return Finding("memory", "warning", found, f"run sweeps with --workers {fit}, or close other programs")


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Ray keeps its objects in /dev/shm on Linux, which containers make small."""
    if not folder.is_dir():
        return Finding("shared memory", "ok", "not used on this system")
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e6:,.0f} MB free in {folder}"
    if free >= SHARED_BYTES:
        return Finding("shared memory", "ok", found)
    return Finding("shared memory", "warning", found, "start the container with --shm-size=256m; Ray is slow without")


def sockets(short: Path = SHORT) -> Finding:
    """Ray's sockets have long paths, so the temporary folder's may not be."""
    folder = usual()
    if fits(folder):
        return Finding("sockets", "ok", f"in {folder}")
    found = f"{folder!r} is too long a path for those of Ray"
    if os.access(short, os.W_OK):
        return Finding("sockets", "ok", f"{found}; they go below {short}")
    return Finding("sockets", "problem", found, "set RAY_TMPDIR to a shorter one, or run sweeps with --executor inline")


def terminal() -> Finding:
    """What the encoding of the output can show."""
    encoding = (sys.stderr.encoding or "unknown").lower()
    kind = "a terminal" if sys.stderr.isatty() else "no terminal: sweeps print plain lines"
    if encoding.startswith("utf"):
        return Finding("terminal", "ok", f"{kind}, {encoding}")
    return Finding("terminal", "warning", f"{kind}, {encoding}", "set LANG=C.UTF-8 to see every sign")
