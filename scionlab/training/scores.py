"""Rows of the scores table: what validation comes to by group, in long form."""

import math
from typing import Any

from torch import Tensor

from scionlab.problems.data import Source


def score_rows(source: Source, step: int, groups: Tensor) -> list[dict[str, Any]]:
    """Of a validation after this step: loss, accuracy and examples of every group, from (G, 3).

    Groups without an example, and accuracies where nothing is classified, have no row.
    """
    rows = []
    for group, (loss, accuracy, count) in zip(source.groups, groups.tolist(), strict=True):
        for metric, value in (("loss", loss), ("accuracy", accuracy), ("examples", count)):
            if count and not math.isnan(value):
                rows.append({"step": step, "split": "validation", "group": group, "metric": metric, "value": value})
    return rows
