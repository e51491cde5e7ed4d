"""Step Law's sweeps: best rate and batch over sizes and budgets.

Its numbers are of a joint law over N and D, for which the project has no study yet. With one, `fit` reads them.
"""

from scionlab.reproduce.declare import Published, PublishedTable

TABLE = PublishedTable(
    name="steplaw",
    title="Best rate and batch over sizes and budgets",
    source="Step Law, arXiv 2503.04715",
    how="lr = 1.79 N^-.713 D^.307 and B = .58 D^.571 tokens a step, of 1,911 dense runs.",
    fit=None,
    lacks="the joint law of best rate and batch over N and D",
    columns=("lr", "bs", "ti", "D", "N", "smooth loss"),
    without=("topk",),
    fetch="the dense runs of arXiv 2503.04715, one row each, with D, N, lr and bs in sequences of 2,048 tokens",
    values=(
        Published("exponent of the rate in N", -0.713, -0.774, -0.655),
        Published("exponent of the rate in D", 0.307, 0.271, 0.345),
        Published("exponent of the batch in D", 0.571, 0.534, 0.606),
    ),
)
