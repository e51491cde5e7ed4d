"""The contract of every figure: its CSV is all it needs, it fits the page, and it has words."""

import io
import re

import pandas as pd


def svg(figure):
    """The figure as its file's bytes, without a date."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def check_drawn(module, data, widest):
    """Draw a table and what its CSV reads as, at most `widest` inches; returns the words that stand for the figure."""
    drawn = module.draw(data)
    assert drawn.get_figwidth() < widest  # words stay legible at the report's width
    read = pd.read_csv(io.StringIO(data.to_csv(index=False)))
    assert svg(module.draw(read)) == svg(drawn)
    words = module.alt(data)
    assert module.alt(read) == words
    assert len(words) > 40
    assert not re.search(r"nan|None|\$", words), words
    return words
