"""Durations, for people."""

import math
from datetime import datetime


def clock(seconds: float) -> str:
    """Whole seconds as m:ss, h:mm:ss or 3d h:mm:ss; – if there is no such number."""
    if not math.isfinite(seconds):
        return "–"
    minutes, s = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,}d {hours}:{minutes:02d}:{s:02d}"
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes}:{s:02d}"


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago something was; clocks of two machines may differ, so that it may seem to lie ahead."""
    if then is None:
        return "never"
    seconds = (now - then).total_seconds()
    return "just now" if seconds < 60 else f"{clock(seconds)} ago"
