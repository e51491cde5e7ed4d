"""A scaling law of every method or source, with the best networks by it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.fits.intervals import Estimate
from analysis.fits.outcomes import SETTLED, Judgement, Lacks, Outcome
from analysis.laws.compute_optimal import Allocation
from analysis.laws.scaling_laws import ScalingLaw


@dataclass(frozen=True)
class SourceLaw:
    """The law of one method or source, and the best allocations of numbers of operations; `left_out` counts runs."""

    name: str
    law: ScalingLaw
    allocations: tuple[Allocation, ...]
    left_out: dict[str, int]
    verdict: Outcome
    lacks: Lacks = SETTLED

    @property
    def exponents(self) -> tuple[Estimate, Estimate] | None:
        """Those of N* and T* with operations; None without an allocation."""
        of_size = self.law.allocation
        return None if of_size is None else (of_size, of_size.from_one())


@dataclass(frozen=True)
class ScalingLaws:
    """All laws of a table of runs."""

    laws: tuple[SourceLaw, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; points are in the CSV."""
        return {"laws": [_law(each) for each in self.laws]}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the name of their CSV."""
        laws = [each.law.frame().assign(source=each.name) for each in self.laws]
        return {
            "scaling_law": pd.concat(laws, ignore_index=True) if laws else pd.DataFrame(),
            "scaling_law_points": pd.concat([points(each) for each in self.laws], ignore_index=True),
            "scaling_law_allocations": pd.DataFrame(
                _flat(each.name, allocation) for each in self.laws for allocation in each.allocations
            ),
        }

    def judgements(self) -> Sequence[Judgement]:
        """One per law."""
        return tuple(Judgement(each.name, each.verdict, each.lacks) for each in self.laws)

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """A row per law, and one per allocation, as text."""
        laws = pd.DataFrame(texts(each) for each in self.laws).drop(columns=["A", "B"])  # of little use alone
        best = [allocation_texts(each.name, allocation) for each in self.laws for allocation in each.allocations]
        tables = [("L(N, T) = E + A N^-a + B T^-b, losses in the table's unit", laws)]
        return tables + ([("Best networks at C = 6 N T operations, by the law", pd.DataFrame(best))] if best else [])


def points(each: SourceLaw) -> pd.DataFrame:
    """The law's points with what it predicts."""
    return each.law.points().assign(source=each.name)


def texts(each: SourceLaw) -> dict[str, str]:
    """A law as a row of texts."""
    law, found = each.law, each.exponents
    shown = {name: value.text(".3g" if name in ("A", "B") else ".3f") for name, value in law.parameters.items()}
    return {
        "source": each.name,
        "points": f"{len(law.loss):,}",
        **{name: shown.get(name, "–") for name in ("E", "A", "a", "B", "b")},
        "N* ∝ C^": "–" if found is None else found[0].text(".3f"),
        "rms": "–" if law.rms is None else f"{law.rms:.4f}",
        "status": law.status,
    }


def allocation_texts(name: str, best: Allocation) -> dict[str, str]:
    """An allocation as a row of texts."""
    return {
        "source": name,
        "C": f"{best.flops:.3g}",
        "N*": best.n_params.text(".3g"),
        "T*": best.tokens.text(".3g"),
        "T*/N*": f"{best.tokens.value / best.n_params.value:.3g}",
        "loss": best.loss.text(".4f"),
    }


def _law(each: SourceLaw) -> dict[str, Any]:
    law = {name: value for name, value in each.law.as_dict().items() if name not in ("x", "loss", "form")}
    best = [asdict(allocation) for allocation in each.allocations]
    return {
        "source": each.name,
        "verdict": each.verdict,
        "n_points": len(each.law.loss),
        **law,
        "profiles": {name: asdict(estimate) for name, estimate in each.law.profiles.items()},
        "allocations": best,
        "left_out": each.left_out,
    }


def _flat(name: str, best: Allocation) -> dict[str, Any]:
    of = best.n_params.columns("n_params") | best.tokens.columns("tokens") | best.loss.columns("loss")
    return {"source": name, "flops": best.flops, **of}
