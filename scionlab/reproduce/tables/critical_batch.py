"""Steps to a target loss by batch size and network size, and how the critical batch grows.

Its numbers are of a law over N of tokens to a target, for which the project has no study. With one, `fit` reads them.
"""

from scionlab.reproduce.declare import Published, PublishedTable

TABLE = PublishedTable(
    name="critical-batch",
    title="The critical batch size over network sizes",
    source="Zhang et al., arXiv 2410.21676",
    how="B_20%, the batch whose tokens exceed the linear regime from 256 sequences by 20%, is 93.20 N^.468 sequences "
    "of 512 tokens, N in millions.",
    fit=None,
    lacks="a study of tokens to a target",
    columns=("n_params_millions", "batch_size_seqs", "steps_to_goal"),
    fetch="steps to the goal of arXiv 2410.21676, one row a size and batch",
    values=(
        Published("B_20% at a million parameters", 93.20, unit="sequences", form=".2f"),
        Published("exponent of B_20% in N", 0.468),
    ),
)
