"""What can be asked of a sweep's rows: a study is a fit, its figures and its page.

`STUDIES` is the one table of names. An experiment names its study; `scionlab fit NAME` may ask for another one. To add
a study, make a folder beside this file, and add its line here. By these names a folder holds

    figures/       a module each (`analysis.drawing.saving`); `FIGURES` in its __init__ names them
    page.py        what its page says, and page.html.j2, how (`analysis.report.build`)

and whatever its fit needs, mostly fit.py, result.py and settings.py. Studies do not import each other: what two of them
need is a fit (`analysis.fits`), a law (`analysis.laws`) or a part of figures (`analysis.drawing`).
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import pandas as pd

from analysis.fits.outcomes import Judgement
from analysis.studies.batch_scaling.fit import fit_batch_scaling
from analysis.studies.comparison.fit import fit_comparison
from analysis.studies.comparison.settings import ComparisonSettings
from analysis.studies.convergence.fit import fit_convergence
from analysis.studies.convergence.settings import ConvergenceSettings
from analysis.studies.coordinate_check.fit import fit_coordinate
from analysis.studies.isoflop.fit import fit_isoflop
from analysis.studies.isoflop.settings import IsoflopSettings
from analysis.studies.lr_transfer.fit import fit_lr_transfer
from analysis.studies.lr_transfer.settings import LrTransferSettings
from analysis.studies.norm_control.fit import fit_norm_control
from analysis.studies.norm_transfer.fit import fit_norm_transfer
from analysis.studies.restarts.fit import fit_restarts
from analysis.studies.scaling_law.fit import fit_scaling_laws
from analysis.studies.scaling_law.settings import ScalingLawSettings
from analysis.studies.transfer.fit import fit_proxy
from analysis.studies.transfer.settings import ProxySettings
from analysis.tables.settings import Settings
from analysis.tables.sweep import SweepTables
from scionlab.errors import unknown


class Fit(Protocol):
    """A frozen result."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the name of their CSV."""

    def judgements(self) -> Sequence[Judgement]:
        """Its outcomes, and what the open ones lack."""

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """Titled tables of texts for a terminal."""


@dataclass(frozen=True)
class Study:
    """A fit of a sweep's tables. `stem` names its JSON, `experiment` the one it is meant for, if that is one.

    `settings` reads what experiments tell it; None if there is nothing to tell. `package` has its figures and its page;
    by default it is the folder of its name.
    """

    name: str
    stem: str
    experiment: str
    fit: Callable[[SweepTables], Any]
    settings: type[Settings] | None = None
    package: str = ""

    def check(self, told: Mapping[str, Any]) -> None:
        """UserError for settings that it would refuse."""
        (self.settings or Settings).parse(told)

    def figures(self) -> Mapping[str, ModuleType]:
        """Its figures; matplotlib is imported here, not before."""
        figures: Mapping[str, ModuleType] = self._module("figures").FIGURES
        return figures

    def page(self) -> ModuleType:
        """The module that fills its page."""
        return self._module("page")

    def _module(self, name: str) -> ModuleType:
        package = self.package or f"analysis.studies.{self.name.replace('-', '_')}"
        return importlib.import_module(f"{package}.{name}")


def _lr_transfer(tables: SweepTables) -> Any:
    return fit_lr_transfer(tables.runs, settings=LrTransferSettings.parse(tables.settings))


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study("lr-transfer", "lr_transfer", "width", _lr_transfer, LrTransferSettings),
        Study("batch-scaling", "batch_scaling", "batch", lambda tables: fit_batch_scaling(tables.runs, tables.probes)),
        Study("scaling-law", "scaling_law", "", fit_scaling_laws, ScalingLawSettings),
        Study("isoflop", "isoflop", "", fit_isoflop, IsoflopSettings),
        Study("restarts", "restarts", "restarts", fit_restarts),
        Study("comparison", "comparison", "", fit_comparison, ComparisonSettings),
        Study("coordinate-check", "coordinate", "coordinates", fit_coordinate),
        Study("norm-control", "norm_control", "norm-control", fit_norm_control),
        Study("norm-transfer", "norm_transfer", "norm-transfer", fit_norm_transfer),
        Study("convergence", "convergence", "convergence", fit_convergence, ConvergenceSettings),
        Study("transfer", "proxy", "transfer", fit_proxy, ProxySettings),
    )
}


def study(name: str) -> Study:
    """The study called `name`; a UserError that lists the names otherwise."""
    if name not in STUDIES:
        raise unknown("study", name, STUDIES)
    return STUDIES[name]
