"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.convergence.figures import convergence, descent

FIGURES: dict[str, ModuleType] = {
    "convergence": convergence,
    "descent": descent,
}
