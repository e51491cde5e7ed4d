"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.isoflop.figures import isoflop_growth, isoflop_valleys

FIGURES: dict[str, ModuleType] = {
    "isoflop_valleys": isoflop_valleys,
    "isoflop_growth": isoflop_growth,
}
