"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.critical_batch.figures import critical_batch_growth, critical_batch_tokens

FIGURES: dict[str, ModuleType] = {
    "critical_batch_tokens": critical_batch_tokens,
    "critical_batch_growth": critical_batch_growth,
}
