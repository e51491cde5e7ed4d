"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.comparison.figures import comparison_curves, comparison_rates, comparison_tuned

FIGURES: dict[str, ModuleType] = {
    "comparison_tuned": comparison_tuned,
    "comparison_rates": comparison_rates,
    "comparison_curves": comparison_curves,
}
