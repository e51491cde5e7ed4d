"""The contract of a sampler: which training examples a step sees, with what weights, as it hears how they did.

    drawn = sampler.draw(64)                  indices of 64 examples, with weights or without
    sampler.heard(losses, errors)             how these did, at the weights the step was taken by

By default a trial has none: every example comes once an epoch (`scionlab.problems.data.base.ShuffledBatches`).
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scionlab.errors import UserError
from scionlab.own.finding import described, find, told

EXAMPLE = "my_sampler:ClassFocused"
SHUFFLED = "shuffled"


@dataclass(frozen=True)
class Drawn:
    """The examples of a batch: `indices` (B,) integers below the number of examples, and what they count in the loss.

    The loss of the batch is Σ wᵢ ℓᵢ/B with its `weights` w (B,), finite; None is all 1.
    """

    indices: np.ndarray
    weights: np.ndarray | None = None


class Sampler(ABC):
    """Chooses examples of `n_examples`, whose groups are `groups` (n_examples,) integers, None where there are none.

    `seed` is the trial's; `rng` is seeded by it. What a sampler goes on by, besides `rng`, it keeps in `state`: numbers
    and arrays of them, which checkpoints save. The trial's sampler_options are further arguments of the class.
    """

    # Whether it is told how every batch did. Then no batch is drawn ahead of its step.
    listens: ClassVar[bool] = False

    def __init__(self, n_examples: int, groups: np.ndarray | None, seed: int) -> None:
        self.n_examples, self.groups = n_examples, groups
        self.rng = np.random.default_rng((seed, 0, 1))  # not the stream of shuffled orders
        self.state: dict[str, Any] = {}

    @abstractmethod
    def draw(self, count: int) -> Drawn:
        """`count` examples of the next step."""

    def heard(self, losses: np.ndarray, errors: np.ndarray | None) -> None:
        """Of the batch last drawn: losses (B,), and errors (B,), 1 where the likeliest class is wrong and 0 else.

        `errors` is None where nothing is classified.
        """
        return

    def checked_draw(self, count: int) -> Drawn:
        """As `draw`. UserError for indices or weights that are none."""
        drawn = self.draw(count)
        indices = np.asarray(drawn.indices)
        if indices.shape != (count,) or indices.dtype.kind != "i" or not _inside(indices, self.n_examples):
            raise UserError(
                f"sampler: {type(self).__name__} drew {described(drawn.indices)} for a batch of {count}; it must draw "
                f"so many integers from 0 to {self.n_examples - 1}"
            )
        weights = drawn.weights
        if weights is not None and (weights.shape != (count,) or not np.isfinite(weights).all()):
            raise UserError(
                f"sampler: {type(self).__name__} drew weights {described(weights)} for a batch of {count}; they must "
                "be so many finite numbers"
            )
        return Drawn(indices, weights)

    def state_dict(self) -> dict[str, Any]:
        """What it goes on by, as plain values."""
        plain = {name: _plain(value) for name, value in self.state.items()}
        return {"rng": json.dumps(self.rng.bit_generator.state), "state": json.dumps(plain)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.rng.bit_generator.state = json.loads(state["rng"])
        self.state = {name: _value(value) for name, value in json.loads(state["state"]).items()}


def _plain(value: Any) -> Any:
    """A number, or an array as what JSON keeps exactly: the shortest digits that give the same number back."""
    array = np.asarray(value)
    return {"dtype": str(array.dtype), "values": array.tolist()} if isinstance(value, np.ndarray) else array.item()


def _value(plain: Any) -> Any:
    return np.array(plain["values"], dtype=plain["dtype"]) if isinstance(plain, dict) else plain


def _inside(indices: np.ndarray, count: int) -> bool:
    return bool((indices >= 0).all() and (indices < count).all())


def sampler_class(name: str) -> type[Sampler]:
    """The class of the caller's that MODULE:SAMPLER names. UserError where it is none."""
    _, found = find("sampler", name, f"{SHUFFLED} or MODULE:SAMPLER", EXAMPLE)
    if not (isinstance(found, type) and issubclass(found, Sampler)):
        raise UserError(
            f"sampler: {name!r} is {described(found)}; it must be a class derived from "
            "scionlab.problems.data.sampler.Sampler"
        )
    return found


def make_sampler(
    name: str, options: Mapping[str, Any], n_examples: int, groups: np.ndarray | None, seed: int
) -> Sampler:
    """A sampler of the caller's, by name, for these examples. UserError where its class does not take the options."""
    module, _ = find("sampler", name, f"{SHUFFLED} or MODULE:SAMPLER", EXAMPLE)
    try:
        return sampler_class(name)(n_examples, groups, seed, **options)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"sampler: {name!r} raised {told(error, module)}") from error
