"""Rows of the scores table, in long form: what validation comes to by group, and the noise of gradients by layer."""

import math
from typing import Any

from torch import Tensor

from scionlab.problems.data import Source

# What the column `split` says.
VALIDATION, NOISE = "validation", "noise"


def score_rows(source: Source, step: int, groups: Tensor) -> list[dict[str, Any]]:
    """Of a validation after this step: loss, accuracy and examples of every group, from (G, 3).

    Groups without an example, and accuracies where nothing is classified, have no row.
    """
    rows = []
    for group, (loss, accuracy, count) in zip(source.groups, groups.tolist(), strict=True):
        for metric, value in (("loss", loss), ("accuracy", accuracy), ("examples", count)):
            if count and not math.isnan(value):
                rows.append({"step": step, "split": VALIDATION, "group": group, "metric": metric, "value": value})
    return rows
