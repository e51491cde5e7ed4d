"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.lr_transfer.figures import loss_curves, lr_optimum, transfer

FIGURES: dict[str, ModuleType] = {
    "transfer": transfer,
    "lr_optimum": lr_optimum,
    "loss_curves": loss_curves,
}
