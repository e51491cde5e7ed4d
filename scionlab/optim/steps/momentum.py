"""What may not happen to the momentum of a parameter group: α here is the weight of the new gradient."""

from collections.abc import Mapping
from typing import Any

from scionlab.errors import UserError

AVERAGED_WITH = "averaged_with_momentum"


def refuse_cycle(optimizer: str, group: Mapping[str, Any]) -> None:
    """Raises UserError where a scheduler cycles momentum in the other convention, up to 0.5 and beyond.

    OneCycleLR and CyclicLR write `momentum` at every step, and leave the ends of its range in the group.
    """
    low, high = group.get("base_momentum"), group.get("max_momentum")
    if isinstance(high, (int, float)) and high >= 0.5:
        raise UserError(
            f"{optimizer}: momentum: OneCycleLR or CyclicLR moves it between {low} and {high}, which is not allowed: "
            "it is the weight of the new gradient here (0.1 is what others call momentum 0.9); give the scheduler "
            "cycle_momentum=False, or a max_momentum below 0.5"
        )


def refuse_change(optimizer: str, group: Mapping[str, Any]) -> None:
    """Raises UserError where momentum is not what the group's average was made with (`remember`)."""
    first = group.get(AVERAGED_WITH, group["momentum"])
    if group["momentum"] != first:
        raise UserError(
            f"{optimizer}: momentum: {group['momentum']!r} is not allowed: it was {first!r} in the steps before, and "
            "what is kept in the gradients is an average for that one; use Scion where momentum changes"
        )


def remember(group: dict[str, Any]) -> None:
    """Note in the group, and so in its state_dict, which momentum its average was made with."""
    group[AVERAGED_WITH] = group["momentum"]
