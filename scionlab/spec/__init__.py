"""What is asked for, as typed and checked values: trials, grids of them, experiments, and their identity."""

from scionlab.spec.experiment import Experiment, Preset
from scionlab.spec.identity import NUMERICS_VERSION, trial_id
from scionlab.spec.trial import ADDED_LATER, PlannedStage, Stage, Trial, Value

__all__ = [
    "ADDED_LATER",
    "NUMERICS_VERSION",
    "Experiment",
    "PlannedStage",
    "Preset",
    "Stage",
    "Trial",
    "Value",
    "trial_id",
]
