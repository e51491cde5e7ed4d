"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.norm_control.figures import norm_control

FIGURES: dict[str, ModuleType] = {
    "norm_control": norm_control,
}
