"""Tables of tokens to a target: what a row says is not how low a run came, but with how many tokens it came there."""

import pandas as pd

BATCHES = 3  # that come to a loss; equal final losses of so many would be a strange accident
SIZE = ["optimizer", "n_params"]


def of_goals(runs: pd.DataFrame) -> bool:
    """Whether every loss of trained runs is a goal: one number at three or more batch sizes of its method and size.

    `runs` has the columns optimizer, batch_size, val_loss, and perhaps n_params, seq_len and status; one that did not
    come to its goal has another status than "ok", or no loss.
    """
    if "batch_size" not in runs:
        return False
    came = runs[runs["val_loss"].notna() & (runs["status"] == "ok" if "status" in runs else True)]
    if came.empty or came["batch_size"].isna().any():
        return False
    goal = [*(column for column in SIZE if column in came), "val_loss"]
    batch = came["batch_size"] * came["seq_len"].fillna(1) if "seq_len" in came else came["batch_size"]
    found = came.assign(batch=batch.astype(float)).groupby(goal, dropna=False)["batch"]
    # Of a sweep with rounded losses several budgets of a batch size have one loss; of a goal there is one, or repeats.
    return bool((found.nunique() >= BATCHES).all())
