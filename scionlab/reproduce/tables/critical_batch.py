"""Steps to a target loss by batch size and network size, and how the critical batch grows."""

from pathlib import Path

from analysis.studies.critical_batch.target import EXCEEDS
from scionlab.api import fit, import_table
from scionlab.reproduce.declare import Ours, Published, PublishedTable

MAP = {
    "n_params": "n_params_millions*1e6",
    "tokens": "steps_to_goal*batch_size_seqs*seq_len",
    "batch_size": "batch_size_seqs",
    "val_loss": "goal_loss_c4",
}


def _fit(path: Path | None) -> Ours:
    assert path is not None, "it has columns"
    (found,) = fit("critical-batch", import_table(path, map=MAP)).sources  # type: ignore[attr-defined]
    law = next((law for law in found.growths if (law.definition, law.over) == (EXCEEDS, "N")), None)
    at = None if law is None or found.seq_len is None else law.at_reference.times(1 / found.seq_len)
    return {"B_20% at a million parameters": at, "exponent of B_20% in N": law and law.exponent}


TABLE = PublishedTable(
    name="critical-batch",
    title="The critical batch size over network sizes",
    source="Zhang et al., arXiv 2410.21676",
    how="B_20%, the batch whose tokens exceed the linear regime from 256 sequences by 20%, is 93.20 N^.468 sequences "
    "of 512 tokens, N in millions. Study critical-batch: B_20% of five sizes on the law T(B) = T_min (1 + B/B_crit), "
    "and a power law of N through them.",
    fit=_fit,
    columns=("n_params_millions", "goal_loss_c4", "batch_size_seqs", "seq_len", "steps_to_goal"),
    fetch="steps to the goal of arXiv 2410.21676, one row a size and batch",
    values=(
        Published("B_20% at a million parameters", 93.20, unit="sequences", form=".2f"),
        Published("exponent of B_20% in N", 0.468),
    ),
)
