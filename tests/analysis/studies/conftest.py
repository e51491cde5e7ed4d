"""Of every result that a study's tests make: an outcome is open if, and only if, something is said to be missing."""

import functools

import pytest

from analysis.studies.batch_scaling.result import BatchScaling
from analysis.studies.comparison.result import Comparison
from analysis.studies.convergence.fit import ConvergenceFit
from analysis.studies.coordinate_check.fit import CoordinateCheck
from analysis.studies.critical_batch.result import CriticalBatches
from analysis.studies.gradient_noise.fit import GradientNoise
from analysis.studies.isoflop.result import Isoflop
from analysis.studies.joint_scaling.result import JointScaling
from analysis.studies.lr_transfer.result import LrTransfer
from analysis.studies.norm_control.fit import NormControl
from analysis.studies.norm_transfer.fit import NormTransfer
from analysis.studies.restarts.fit import Restarts
from analysis.studies.scaling_law.result import ScalingLaws
from analysis.studies.token_efficiency.result import TokenEfficiency
from analysis.studies.transfer.result import ProxyTransfer

RESULTS = (
    BatchScaling,
    Comparison,
    ConvergenceFit,
    CoordinateCheck,
    CriticalBatches,
    GradientNoise,
    Isoflop,
    JointScaling,
    LrTransfer,
    NormControl,
    NormTransfer,
    ProxyTransfer,
    Restarts,
    ScalingLaws,
    TokenEfficiency,
)


def checked(init):
    @functools.wraps(init)
    def made(self, *args, **fields):
        init(self, *args, **fields)
        for judgement in self.judgements():
            assert judgement.outcome.open == bool(judgement.missing), judgement

    return made


@pytest.fixture(scope="package", autouse=True)
def open_outcomes_lack_something():
    with pytest.MonkeyPatch.context() as patch:
        for result in RESULTS:
            patch.setattr(result, "__init__", checked(result.__init__))
        yield
