"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.token_efficiency.figures import token_efficiency_curves, token_efficiency_ratios

FIGURES: dict[str, ModuleType] = {
    "token_efficiency_curves": token_efficiency_curves,
    "token_efficiency_ratios": token_efficiency_ratios,
}
