"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.coordinate_check.figures import coordinate, coordinate_steps

FIGURES: dict[str, ModuleType] = {
    "coordinate": coordinate,
    "coordinate_steps": coordinate_steps,
}
