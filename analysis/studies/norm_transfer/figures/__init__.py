"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.norm_transfer.figures import norm_transfer, norm_transfer_scale

FIGURES: dict[str, ModuleType] = {
    "norm_transfer": norm_transfer,
    "norm_transfer_scale": norm_transfer_scale,
}
