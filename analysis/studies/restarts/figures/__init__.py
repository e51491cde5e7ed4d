"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.restarts.figures import restarts

FIGURES: dict[str, ModuleType] = {
    "restarts": restarts,
}
