"""Games: the field of a bilinear game, on which descent spirals out and extragradient in, by their closed forms."""

import math
from typing import ClassVar

import pytest
import torch
from torch import nn

from scionlab.errors import UserError
from scionlab.optim.method import Batch, Method
from scionlab.optim.recipes.classical import SgdRecipe
from scionlab.problems.data.game import Game
from scionlab.spec import Trial
from scionlab.training import Run, train
from scionlab.training.check import check_own
from scionlab.training.prepare import data_of, resolve

HERE = __name__
LR = 0.25


class Players(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.x, self.y = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, samples):
        return (self.x * self.y).sum()


def build(width, depth):
    return Players(width)


class Bilinear(Game):
    """min over x, max over y of ⟨x, y⟩."""

    players: ClassVar = {"x": ("x",), "y": ("y",)}

    def losses(self, outputs, targets):
        return {"x": outputs, "y": -outputs}


class ExtraGradient(Method):
    def step(self, oracle, batch):
        here = oracle.at(batch)
        ahead = {name: oracle.weights[name] - LR * g for name, g in here.gradients.items()}
        self.update(oracle, oracle.at(batch, ahead).gradients)
        return here.loss


class Extra(SgdRecipe):
    gradients_per_step = 2

    def method(self, claims, lr, momentum, width):
        return ExtraGradient(self.optimizers(claims, lr, momentum, width))


game = Bilinear()


def trial(optimizer, **fields):
    names = {
        "model": f"{HERE}:build",
        "data": f"{HERE}:game",
        "rules": ("x=bias", "y=bias"),
        "initialization": "model",
    }
    sizes = {
        "width": 2,
        "batch_size": 1,
        "seq_len": 1,
        "val_seq_len": 1,
        "val_tokens": 1,
        "tokens": 40,
        "device": "cpu",
    }
    how = {"lr": LR, "momentum": 1.0, "schedule": "constant", "warmup": 0.0, "divergence_factor": 1e6}
    return resolve(Trial(optimizer=optimizer, **{**names, **sizes, **how, **fields}))


def run_of(optimizer, **fields):
    asked = trial(optimizer, **fields)
    return Run(asked, data_of(asked))


def test_every_parameter_has_the_gradient_of_its_own_players_loss():
    run = run_of("sgd")
    with torch.no_grad():
        run.model.x.mul_(3)
    reading = run.oracle.at(Batch(torch.zeros(1, 3, dtype=torch.int64)))
    assert torch.equal(reading.gradients["x"], run.model.y.detach())
    assert torch.equal(reading.gradients["y"], -run.model.x.detach())
    assert reading.loss == 6
    elsewhere = run.oracle.at(Batch(torch.zeros(1, 3, dtype=torch.int64)), {"y": torch.full((2,), 5.0)})
    assert torch.equal(elsewhere.gradients["x"], torch.full((2,), 5.0))


@pytest.mark.parametrize(
    ("optimizer", "factor", "steps"),
    # z ← (1 − γF)z turns by 90° a part γ of ‖z‖: √(1 + γ²); z ← z − γF(z − γF(z)): √((1 − γ²)² + γ²)
    [("sgd", math.hypot(1, LR), 40), (f"{HERE}:Extra", math.hypot(1 - LR**2, LR), 20)],
)
def test_distances_from_the_solution_grow_or_shrink_as_their_closed_forms_say(optimizer, factor, steps):
    run = run_of(optimizer)
    run.run_stage()
    distance = math.hypot(run.model.x.norm().item(), run.model.y.norm().item())
    assert run.step == steps
    assert math.isclose(distance, 2 * factor**steps, rel_tol=1e-5)  # float32 rounding of 40 steps


def test_scores_have_every_players_loss():
    outcome = train(trial("sgd", tokens=4), data_of(trial("sgd")))
    values = {row["group"]: row["value"] for row in outcome.scores if row["metric"] == "loss"}
    assert values["x"] == -values["y"] == outcome.summary["val_loss"]
    assert outcome.summary["status"] == "ok"


def test_games_are_checked_as_own_models_and_built_in_ones_cannot_play():
    check_own([trial(f"{HERE}:Extra")])
    with pytest.raises(
        UserError, match=r"model: 'mlp' reads images, but data .* is a game; use its own MODULE:FUNCTION"
    ):
        train(trial("sgd", model="mlp", rules=(), initialization="method"), game)
    with pytest.raises(UserError, match="train_limit: 5 is not allowed: a game has no data to limit; set 0"):
        run_of("sgd", train_limit=5)
