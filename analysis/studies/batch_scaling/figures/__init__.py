"""The figures of the study, by the names of their files."""

from types import ModuleType

from analysis.studies.batch_scaling.figures import (
    batch_exponents,
    batch_profiles,
    batch_rates,
    batch_rules,
    batch_sensitivity,
    constants_mu,
    constants_prediction,
    constants_variance,
    critical_batch,
    momentum,
    scaling_law,
)

FIGURES: dict[str, ModuleType] = {
    "batch_profiles": batch_profiles,
    "batch_exponents": batch_exponents,
    "batch_rates": batch_rates,
    "batch_rules": batch_rules,
    "batch_sensitivity": batch_sensitivity,
    "momentum": momentum,
    "constants_mu": constants_mu,
    "constants_variance": constants_variance,
    "constants_prediction": constants_prediction,
    "critical_batch": critical_batch,
    "scaling_law": scaling_law,
}
