"""What losses are averaged over: bytes of text, tokens, or images."""

import pandas as pd

IMAGES = ("digits", "mnist", "cifar10")
TOKENS = "tokens"  # shards, whose tokens are of any tokenizer
PROBLEMS = "noise"  # made-up problems, whose loss has no unit


def unit(runs: pd.DataFrame) -> str:
    """`byte`, `token`, `image`, or `` where there is none."""
    if "data" not in runs:
        return "byte"
    source = str(runs["data"].iloc[0]).partition(":")[0]
    known = {**dict.fromkeys(IMAGES, "image"), TOKENS: "token", PROBLEMS: ""}
    return known.get(source, "byte")


def nats(runs: pd.DataFrame) -> str:
    """The unit of differences of losses, with a blank before it; empty where there is none."""
    return " nats" if unit(runs) else ""
