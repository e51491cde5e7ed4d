"""What losses are averaged over follows from the data, and figures say it."""

import pandas as pd
import pytest

from analysis.drawing import units as drawn
from analysis.tables.units import nats, unit


@pytest.mark.parametrize(
    ("data", "per", "label", "examples"),
    [
        ("sotu", "byte", " (nats per byte)", "tokens"),
        ("path:text.txt", "byte", " (nats per byte)", "tokens"),
        ("tokens:shards/*.bin", "token", " (nats per token)", "tokens"),
        ("digits", "image", " (nats per image)", "images"),
        ("cifar10:folder", "image", " (nats per image)", "images"),
        ("noise:none", "", "", "examples"),
    ],
)
def test_losses_are_per(data, per, label, examples):
    runs = pd.DataFrame({"data": [data]})
    assert unit(runs) == per
    assert nats(runs) == (" nats" if per else "")
    table = drawn.with_unit(pd.DataFrame({"x": [1.0]}), runs)
    assert (drawn.nats(table), drawn.examples(table)) == (label, examples)
