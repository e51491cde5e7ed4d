"""What can be asked of a sweep's rows: a study is a fit, its figures and its page.

`STUDIES` is the one table of names. An experiment names its study; `scionlab fit NAME` may ask for another one. To add
a study, write its fit, figures (`analysis.figures`) and page (`analysis.report`), and add its line here.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import pandas as pd

from analysis.batch.fit import fit_batch_scaling
from analysis.comparison.fit import fit_comparison
from analysis.comparison.settings import ComparisonSettings
from analysis.convergence import fit_convergence
from analysis.convergence_arms import ConvergenceSettings
from analysis.coordinate import fit_coordinate
from analysis.lr_transfer import fit_lr_transfer
from analysis.lr_transfer_result import LrTransferSettings
from analysis.norm_control import fit_norm_control
from analysis.norm_transfer import fit_norm_transfer
from analysis.proxy.fit import fit_proxy
from analysis.proxy.settings import ProxySettings
from analysis.restarts import fit_restarts
from analysis.settings import Settings
from analysis.tables import SweepTables
from scionlab.errors import unknown


class Fit(Protocol):
    """A frozen result."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""

    def frames(self) -> dict[str, pd.DataFrame]:
        """Its tables, by the name of their CSV."""

    def summaries(self) -> list[tuple[str, pd.DataFrame]]:
        """Titled tables of texts for a terminal."""


@dataclass(frozen=True)
class Study:
    """A fit of a sweep's tables. `stem` names its JSON, `experiment` the one it is meant for, if that is one.

    `settings` reads what experiments tell it; None if there is nothing to tell.
    """

    name: str
    stem: str
    experiment: str
    fit: Callable[[SweepTables], Any]
    settings: type[Settings] | None = None

    def check(self, told: Mapping[str, Any]) -> None:
        """UserError for settings that it would refuse."""
        (self.settings or Settings).parse(told)

    def figures(self) -> Mapping[str, ModuleType]:
        """Its figures; matplotlib is imported here, not before."""
        from analysis.figures import FIGURES

        return FIGURES[self.name]

    def page(self) -> ModuleType:
        """The module that fills its page."""
        return importlib.import_module(f"analysis.report.{self.stem}")


def _lr_transfer(tables: SweepTables) -> Any:
    return fit_lr_transfer(tables.runs, settings=LrTransferSettings.parse(tables.settings))


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study("lr-transfer", "lr_transfer", "width", _lr_transfer, LrTransferSettings),
        Study("batch-scaling", "batch_scaling", "batch", lambda tables: fit_batch_scaling(tables.runs, tables.probes)),
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
        raise unknown("fit", name, STUDIES)
    return STUDIES[name]
