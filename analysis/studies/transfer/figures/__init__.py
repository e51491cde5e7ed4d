"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.transfer.figures import proxy

FIGURES: dict[str, ModuleType] = {
    "proxy": proxy,
}
