"""Rules that carry a tuned setting from one token budget to another (`base`), a module for each family.

`RULES` are the main ones, which plans print and reports score; `RIVALS` those that plans print when asked. Three more
need more than a base point: `KappaBst` (`analysis.laws.kappa`) the batch law of κ, `AbsoluteStepLaw` the number of
parameters, `PowerLaw` optima at several budgets, `JointRule` optima of several sizes, too. `ABSOLUTE` say everything
of N and T alone, without a base.
"""

from analysis.laws.rules.adamw import SDE, TIMESCALE, PowerLines
from analysis.laws.rules.base import Anchored, Certainty, Need, OfSize, Point, Power, Rule, Setting, Values
from analysis.laws.rules.bst import BST_SOURCE, NO_CHANGE, bst, square_root
from analysis.laws.rules.joint_law import JointRule
from analysis.laws.rules.lmo import (
    FW_GAP,
    FW_GAP_ALL,
    FW_GAP_ALPHA,
    FW_GAP_FIXED,
    LMO_KL,
    LMO_KL_ALPHA,
    LmoKl,
    schatten_batch,
)
from analysis.laws.rules.measured import (
    HORIZON,
    OPTIMAL_NORM,
    STEP_LAW,
    TIME_TRANSFER,
    AbsoluteDeepSeek,
    AbsoluteStepLaw,
    DeepSeek,
)
from analysis.laws.rules.power_law import PowerLaw
from analysis.laws.rules.recipes import HYPERP, NANOCHAT, Delphi

__all__ = [
    "ABSOLUTE",
    "BST_SOURCE",
    "NO_CHANGE",
    "OPTIMAL_NORM",
    "RIVALS",
    "RULES",
    "STEP_LAW",
    "AbsoluteDeepSeek",
    "AbsoluteStepLaw",
    "Anchored",
    "Certainty",
    "DeepSeek",
    "Delphi",
    "JointRule",
    "LmoKl",
    "Need",
    "OfSize",
    "Point",
    "Power",
    "PowerLaw",
    "PowerLines",
    "Rule",
    "Setting",
    "Values",
    "bst",
    "schatten_batch",
    "square_root",
]

RULES: dict[str, Rule] = {rule.name: rule for rule in (bst(), NO_CHANGE, square_root(), OPTIMAL_NORM, STEP_LAW)}
RIVALS: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        LMO_KL,
        LMO_KL_ALPHA,
        FW_GAP,
        FW_GAP_FIXED,
        FW_GAP_ALPHA,
        FW_GAP_ALL,
        schatten_batch(2),
        schatten_batch(4),
        SDE,
        PowerLines(),
        TIMESCALE,
        HORIZON,
        TIME_TRANSFER,
        DeepSeek(),
        AbsoluteStepLaw(),
        NANOCHAT,
        HYPERP,
        Delphi(),
    )
}
ABSOLUTE: dict[str, Rule] = {rule.name: rule for rule in (AbsoluteStepLaw(), AbsoluteDeepSeek())}
