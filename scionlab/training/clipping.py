"""Gradient clipping: a step's gradients are scaled down together where their norm is above a limit.

    g ← g · min(1, c/‖g‖)        ‖·‖ Euclidean over all entries, or the dual of the network's norm

(Pascanu et al., arXiv 1211.5063). The direction is kept, so a method whose first average is the gradient itself takes
the same first step.
"""

from typing import Any

import torch
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from scionlab.optim import geometry
from scionlab.optim.recipes.conditional import network_norm
from scionlab.roles.roles import Claim
from scionlab.spec import Trial


class Clipping:
    """Of one run: `clipped` counts the steps whose gradients were scaled down."""

    def __init__(self, trial: Trial, claims: list[Claim]) -> None:
        self.limit, self.clipped = trial.clip_norm, 0
        self.parameters = [claim.parameter for claim in claims]
        self.norm = network_norm(claims, geometry(trial)) if trial.clip_by == "dual" else None
        self.pending: list[torch.Tensor] = []  # norms stay on the device until a log point

    @torch.no_grad()
    def step(self) -> None:
        """Scale down the gradients that the parameters hold. One without a gradient counts as 0."""
        if self.norm is None:
            norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        else:
            norm = self.norm.dual([torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters])
        clip_grads_with_norm_(self.parameters, self.limit, norm)
        self.pending.append(norm)

    def state_dict(self) -> dict[str, Any]:
        """What is counted so far, for a checkpoint."""
        return {"clipped": self.clipped, "pending": self.pending}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.clipped = state["clipped"]
        self.pending = [norm.to(self.parameters[0].device) for norm in state["pending"]]

    def logged(self) -> float:
        """The mean norm before clipping since the last call."""
        norms = torch.stack(self.pending)
        self.pending = []
        self.clipped += int((norms > self.limit).sum())
        return float(norms.mean())
