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
from analysis.studies.comparison.settings import ComparisonSettings
from analysis.studies.convergence.settings import ConvergenceSettings
from analysis.studies.critical_batch.settings import CriticalBatchSettings
from analysis.studies.isoflop.settings import IsoflopSettings
from analysis.studies.joint_scaling.settings import JointScalingSettings
from analysis.studies.lr_transfer.settings import LrTransferSettings
from analysis.studies.scaling_law.settings import ScalingLawSettings
from analysis.studies.token_efficiency.settings import TokenEfficiencySettings
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


# Fits are imported when they are called: SciPy takes a second, and `scionlab run` only looks at a study's settings.


def _lr_transfer(tables: SweepTables) -> Any:
    from analysis.studies.lr_transfer.fit import fit_lr_transfer

    return fit_lr_transfer(tables.runs, settings=LrTransferSettings.parse(tables.settings))


def _batch_scaling(tables: SweepTables) -> Any:
    from analysis.studies.batch_scaling.fit import fit_batch_scaling

    return fit_batch_scaling(tables.runs, tables.probes)


def _of(package: str, function: str) -> Callable[[SweepTables], Any]:
    """A fit that takes the tables as they are."""

    def fit(tables: SweepTables) -> Any:
        return getattr(importlib.import_module(f"analysis.studies.{package}.fit"), function)(tables)

    return fit


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study("lr-transfer", "lr_transfer", "width", _lr_transfer, LrTransferSettings),
        Study("batch-scaling", "batch_scaling", "batch", _batch_scaling),
        Study("scaling-law", "scaling_law", "", _of("scaling_law", "fit_scaling_laws"), ScalingLawSettings),
        Study("isoflop", "isoflop", "", _of("isoflop", "fit_isoflop"), IsoflopSettings),
        Study("joint-scaling", "joint_scaling", "", _of("joint_scaling", "fit_joint_scaling"), JointScalingSettings),
        Study(
            "critical-batch", "critical_batch", "", _of("critical_batch", "fit_critical_batches"), CriticalBatchSettings
        ),
        Study(
            "token-efficiency",
            "token_efficiency",
            "",
            _of("token_efficiency", "fit_token_efficiency"),
            TokenEfficiencySettings,
        ),
        Study("restarts", "restarts", "restarts", _of("restarts", "fit_restarts")),
        Study("comparison", "comparison", "", _of("comparison", "fit_comparison"), ComparisonSettings),
        Study("coordinate-check", "coordinate", "coordinates", _of("coordinate_check", "fit_coordinate")),
        Study("norm-control", "norm_control", "norm-control", _of("norm_control", "fit_norm_control")),
        Study("gradient-noise", "gradient_noise", "gradient-noise", _of("gradient_noise", "fit_gradient_noise")),
        Study("norm-transfer", "norm_transfer", "norm-transfer", _of("norm_transfer", "fit_norm_transfer")),
        Study("convergence", "convergence", "convergence", _of("convergence", "fit_convergence"), ConvergenceSettings),
        Study("transfer", "proxy", "transfer", _of("transfer", "fit_proxy"), ProxySettings),
    )
}


def study(name: str) -> Study:
    """The study called `name`; a UserError that lists the names otherwise."""
    if name not in STUDIES:
        raise unknown("study", name, STUDIES)
    return STUDIES[name]
