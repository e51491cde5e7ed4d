"""The settings that the BST paper predicts from its small run: batch sizes and rates of four larger ones."""

from pathlib import Path

from analysis.fits.intervals import Estimate
from analysis.laws.proposals import Plan
from scionlab.api import plan
from scionlab.reproduce.declare import Ours, Published, PublishedTable

BASE = {"tokens": 1.337e9, "batch_size": 256, "seq_len": 1024, "lr": 3.6e-4}
TIMES = {"2.7e9": 2, "5.3e9": 4, "8.0e9": 6}  # the paper's budgets as it writes them, and what they are of the base's
PUBLISHED = {"2.7e9": (416, 3.0e-4), "5.3e9": (672, 2.4e-4), "8.0e9": (896, 2.1e-4), "10.8e9, 1B": (1120, 1.95e-4)}
ROUNDED = 0.05  # rates are published to two digits


def _fit(path: Path | None) -> Ours:
    found: dict[str, Estimate | None] = {}
    for tokens, times in TIMES.items():
        made = plan(
            BASE["tokens"] * times, BASE, multiple=32, down=True, kappa_batch_exponent=0.1, kappa_batch_shift=-9.4
        )
        found |= _numbers(tokens, made, "bst-kappa")
    # The constants of the paper's 1B model and of this one.
    made = plan(10.8e9, BASE, multiple=32, down=True, mu_ratio=2.9 / 3.1, l_ratio=10.6 / 7.2, kappa_ratio=111.9 / 62.7)
    return found | _numbers("10.8e9, 1B", made, "bst")


def _numbers(tokens: str, made: Plan, rule: str) -> dict[str, Estimate | None]:
    rounded = next(proposal.rounded for proposal in made.proposals if proposal.rule.name == rule)
    return {f"batch at {tokens}": Estimate(rounded.batch_size), f"rate at {tokens}": Estimate(rounded.lr)}


TABLE = PublishedTable(
    name="bst-plan",
    title="Batch size and rate carried to larger budgets",
    source="Islamov et al., arXiv 2603.21191",
    how="The plan's rule with κ(B) ∝ (B − 9.4)^0.1, and for the 1B model with the paper's constants, from 1.337e9 "
    "tokens, B = 256, γ = 3.6e-4; batches go down to multiples of 32, and rates are those of the rounded batch. "
    f"Rates may differ by {ROUNDED:.0%}, as they are published to two digits.",
    fit=_fit,
    values=tuple(
        value
        for tokens, (batch, lr) in PUBLISHED.items()
        for value in (
            Published(f"batch at {tokens}", batch, unit="sequences", form=".0f"),
            Published(f"rate at {tokens}", lr, form=".2e", tolerance=ROUNDED),
        )
    ),
)
