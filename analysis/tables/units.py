"""What losses are averaged over: bytes of text, or images."""

import pandas as pd

IMAGES = ("digits", "mnist", "cifar10")
PROBLEMS = "noise"  # made-up problems, whose loss has no unit


def unit(runs: pd.DataFrame) -> str:
    """`byte`, `image`, or `` where there is none."""
    if "data" not in runs:
        return "byte"
    source = str(runs["data"].iloc[0]).partition(":")[0]
    return "image" if source in IMAGES else "" if source == PROBLEMS else "byte"


def nats(runs: pd.DataFrame) -> str:
    """The unit of differences of losses, with a blank before it; empty where there is none."""
    return " nats" if unit(runs) else ""
