"""Tables of tokens to a target: what a row says is not how low a run came, but with how many tokens it came there."""

import pandas as pd

BATCHES = 3  # that come to a loss; equal final losses of so many would be a strange accident
NEEDED = ("optimizer", "batch_size", "tokens", "val_loss")
SIZE = ["optimizer", "n_params"]


def of_goals(runs: pd.DataFrame) -> bool:
    """Whether every loss of trained runs is a goal: one number at three or more batch sizes of its method and size,
    and no batch size comes to two of them with the same tokens.

    `runs` has perhaps the columns `NEEDED`, without which nothing is a goal, and n_params, seq_len and status; one that
    did not come to its goal has another status than "ok", or no loss.
    """
    if not {*NEEDED} <= {*runs}:
        return False
    came = runs[runs["val_loss"].notna() & (runs["status"] == "ok" if "status" in runs else True)]
    if came.empty or came["batch_size"].isna().any():
        return False
    size = [column for column in SIZE if column in came]
    batch = came["batch_size"] * came["seq_len"].fillna(1) if "seq_len" in came else came["batch_size"]
    came = came.assign(batch=batch.astype(float))
    shared = came.groupby([*size, "val_loss"], dropna=False)["batch"].nunique() >= BATCHES
    # Of a sweep several runs of one budget may share their losses with other batch sizes'; a lower goal takes longer.
    of_batch = came.groupby([*size, "batch"], dropna=False)
    return bool(shared.all() and (of_batch["tokens"].nunique() >= of_batch["val_loss"].nunique()).all())
