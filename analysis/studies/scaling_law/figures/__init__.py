"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.scaling_law.figures import scaling_law_points, scaling_law_residuals

FIGURES: dict[str, ModuleType] = {
    "scaling_law_points": scaling_law_points,
    "scaling_law_residuals": scaling_law_residuals,
}
