"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.joint_scaling.figures import joint_optima, joint_readings, joint_residuals

FIGURES: dict[str, ModuleType] = {
    "joint_optima": joint_optima,
    "joint_readings": joint_readings,
    "joint_residuals": joint_residuals,
}
