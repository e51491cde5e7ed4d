"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.gradient_noise.figures import gradient_noise

FIGURES: dict[str, ModuleType] = {
    "gradient_noise": gradient_noise,
}
