"""Recipes by name."""

import numpy as np
import pytest
import torch
from small_models import Small, gpt_claims, trial
from torch import nn

from scionlab import training
from scionlab.errors import UserError
from scionlab.geometry import NORMS, Layer
from scionlab.optim import OPTIMIZERS, Scion, recipe
from scionlab.problems.data import Corpus, DataShape
from scionlab.problems.models.gpt import GPT, GPTConfig
from scionlab.roles.roles import assign_roles
from scionlab.spec import Trial
from scionlab.training.prepare import architecture


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("tied", [False, True])
def test_optimizers_share_out_every_parameter_once(name, tied):
    claims = gpt_claims(tied=tied)
    optimizers = recipe(trial(name)).optimizers(claims, lr=0.01, momentum=0.1, width=32)
    updated = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(updated) == sorted(id(claim.parameter) for claim in claims)


def test_muon_takes_hidden_matrices_and_adamw_the_rest():
    claims = assign_roles(Small())
    made = recipe(trial("muon", adam_lr_ratio=0.5)).optimizers(claims, lr=0.5, momentum=0.1, width=32)
    muon, adam = made
    assert (type(muon), type(adam)) == (torch.optim.Muon, torch.optim.AdamW)
    hidden = [id(claim.parameter) for claim in claims if claim.role == "hidden"]
    assert [id(p) for group in muon.param_groups for p in group["params"]] == hidden
    assert {group["momentum"] for group in muon.param_groups} == {0.9}
    assert {group["lr"] for group in muon.param_groups} == {0.5}
    assert {group["lr"] for group in adam.param_groups} == {0.25}


def test_adam_decays_matrices_only_and_averages_with_one_minus_alpha():
    made = recipe(trial("adam")).optimizers(assign_roles(Small()), lr=0.5, momentum=0.3, width=32)
    (adam,) = made
    for group in adam.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim == 2 else 0.0)
        assert group["betas"] == (0.7, 0.95)


@pytest.mark.parametrize("name", ["adam", "adam-mup", "muon"])
@pytest.mark.parametrize("lr", [0.5, 0.01])
def test_an_independent_decay_shrinks_by_itself_whatever_the_rate(name, lr):
    method = recipe(trial(name, independent_decay=True, weight_decay=1e-3))
    for optimizer in method.optimizers(gpt_claims(width=64), lr=lr, momentum=0.1, width=64):
        for group in optimizer.param_groups:
            assert group["lr"] * group["weight_decay"] == pytest.approx(1e-3, rel=1e-12)


def test_adamw_beside_muon_may_have_values_of_its_own():
    method = recipe(trial("muon", adam_lr=0.01, adam_beta1=0.8, adam_weight_decay=0.0, beta2=0.9))
    muon, adam = method.optimizers(assign_roles(Small()), lr=0.5, momentum=0.1, width=32)
    assert {(g["lr"], g["momentum"], g["weight_decay"]) for g in muon.param_groups} == {(0.5, 0.9, 0.1)}
    for group in adam.param_groups:
        assert (group["lr"], group["weight_decay"]) == (0.01, 0.0)
        assert group["betas"] == pytest.approx((0.8, 0.9))


@pytest.mark.parametrize("name", ["adam", "adam-mup", "rmsprop", "muon"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_group_of_many_parameters_takes_the_steps_of_a_group_each_bit_for_bit(name, decay):
    weights = []
    for apart in (False, True):
        torch.manual_seed(0)
        claims = assign_roles(Small()) + gpt_claims(width=64)
        made = recipe(trial(name, weight_decay=decay)).optimizers(claims, lr=0.5, momentum=0.3, width=64)
        assert sum(len(optimizer.param_groups) for optimizer in made) <= 4
        if apart:
            made = [
                type(optimizer)(
                    [
                        {**group, "params": [parameter]}
                        for group in optimizer.param_groups
                        for parameter in group["params"]
                    ]
                )
                for optimizer in made
            ]
        for step in range(3):
            for number, claim in enumerate(claims):
                generator = torch.Generator().manual_seed(100 * step + number)
                claim.parameter.grad = torch.randn(claim.parameter.shape, generator=generator)
            for optimizer in made:
                optimizer.step()
        weights.append([claim.parameter.detach().clone() for claim in claims])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


@pytest.mark.parametrize("name", ["adam", "adam-mup", "muon"])
def test_networks_that_differ_in_their_numbers_have_the_same_groups(name):
    claims = gpt_claims(width=64)
    shapes = []
    for decay in (0.0, 0.1):
        made = recipe(trial(name, weight_decay=decay)).optimizers(claims, lr=0.5, momentum=0.3, width=64)
        shapes.append([[id(p) for p in group["params"]] for optimizer in made for group in optimizer.param_groups])
    assert shapes[0] == shapes[1]


def test_adam_mup_halves_hidden_rates_and_the_readout_at_twice_the_base_width():
    mup, claims = recipe(trial("adam-mup")), gpt_claims(width=64)
    (optimizer,) = mup.optimizers(claims, lr=0.5, momentum=0.1, width=64)
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert {(claim.role, rates[id(claim.parameter)]) for claim in claims} == {
        ("input", 0.5),
        ("hidden", 0.25),
        ("output", 0.5),
    }
    decayed = {group["lr"] * group["weight_decay"] for group in optimizer.param_groups}
    assert decayed == {0.5 * 0.1}  # the decay a step makes does not change with width
    assert mup.output_scale(64) == 0.5
    built = architecture(trial("adam-mup", width=64), DataShape("text", 256)).build()
    assert built.config.output_scale == 0.5


@pytest.mark.parametrize(("name", "variance"), [("adam", 1 / 256), ("adam-mup", 1 / 32)])
def test_the_variance_of_the_initial_head(name, variance):
    head = start(name, GPT(GPTConfig(width=256, depth=1)))["head.weight"].parameter
    # 65,536 normal draws: their variance is known to 0.55%, and 3% is over five of those
    assert float(head.detach().var()) == pytest.approx(variance, rel=0.03)


def test_adam_mup_at_its_base_width_trains_exactly_as_adam():
    letters = np.random.default_rng(0).choice(list(b"abcd \n"), 6_000).astype(np.uint8).tobytes()
    corpus = Corpus("letters", "0" * 64, letters[:5_000], letters[5_000:])
    sizes = {"width": 32, "depth": 1, "tokens": 10 * 64, "batch_size": 4, "seq_len": 16, "val_tokens": 256}
    runs = [
        training.train(training.resolve(Trial(optimizer=name, lr=0.01, val_seq_len=16, device="cpu", **sizes)), corpus)
        for name in ("adam", "adam-mup")
    ]
    assert runs[0].curve == runs[1].curve
    assert runs[0].summary["val_loss"] == runs[1].summary["val_loss"]


def start(name: str, model: nn.Module, seed: int = 0, **options):
    claims = assign_roles(model)
    recipe(trial(name, **options)).initialize(claims, torch.Generator().manual_seed(seed))
    return {claim.names[0]: claim for claim in claims}


@pytest.mark.parametrize("output_init", [0.0, 1.0])
def test_scion_starts_every_matrix_on_the_sphere_of_its_radius(output_init):
    model = Small()
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 1.5)  # so that overwriting the gains would show
    gains = model.norm.weight.detach().clone()
    claims = start("scion", model, output_init=output_init)
    expected = {"embed.weight": ("column", 1.0), "hidden.weight": ("spectral", 3.0), "head.weight": ("sign", 64.0)}
    for name, (norm, radius) in expected.items():
        size = float(Layer(NORMS[norm], layout=claims[name].layout).measure(claims[name].parameter.detach()))
        # float32 rounding of an orthogonalization
        assert size == pytest.approx(radius * (output_init if name == "head.weight" else 1), rel=1e-5)
    assert all(not claim.parameter.any() for claim in claims.values() if claim.role == "bias")
    assert torch.equal(model.norm.weight, gains)


def test_scion_groups_carry_the_geometry_that_they_were_initialized_in():
    claims = assign_roles(Small())
    made = recipe(trial("scion", output_init=1.0))
    made.initialize(claims, torch.Generator().manual_seed(0))
    (optimizer,) = made.optimizers(claims, lr=0.5, momentum=0.1, width=32)
    assert isinstance(optimizer, Scion)
    for _, norm, radius in optimizer.norms():
        assert norm in (0, pytest.approx(radius, rel=1e-5))  # biases are at 0; float32 rounding


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_initialization_follows_its_generator(name):
    first, again, other = (start(name, Small(), seed) for seed in (1, 1, 2))
    for key in first:
        assert torch.equal(first[key].parameter, again[key].parameter)
    assert not torch.equal(first["hidden.weight"].parameter, other["hidden.weight"].parameter)


def test_adam_starts_with_variance_one_over_fan_in_and_embeddings_of_their_own():
    claims = {c.names[0]: c for c in gpt_claims(width=64)}
    recipe(trial("adam", embedding_std=0.5)).initialize(list(claims.values()), torch.Generator().manual_seed(0))
    expected = {"blocks.0.mlp.down.weight": 1 / 16, "head.weight": 1 / 8, "embed.weight": 0.5}
    for key, std in expected.items():
        # of 16384 samples: the relative error of their standard deviation is 1/√(2·16384) = 0.55 %; five of them
        assert claims[key].parameter.detach().std().item() == pytest.approx(std, rel=0.028)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("scoin", {}, "optimizer: 'scoin' is not known .*'scion'.* adam, adam-mup"),
        ("adam", {"beta3": 1.0}, r"options\.beta3: no such field"),
        ("adam", {"beta2": 1.5}, r"options\.beta2: 1\.5 is not allowed"),
        ("muon", {"adjust_lr": "rms"}, r"options\.adjust_lr: 'rms' is not allowed"),
        ("uscion", {"anchor_fade_start": 0.5, "anchor_fade_end": 0.2}, r"anchor_fade_end: 0\.2 is not allowed"),
        ("scion", {"radius_hidden": 0.0}, r"options\.radius_hidden: 0\.0 is not allowed"),
        ("scion", {"norm_hidden": "spectrel"}, "norm_hidden: 'spectrel' is not known .*'spectral'"),
        ("scion", {"norm_hidden": "schatten-0"}, "norm_hidden: 'schatten-0' is not allowed: P of schatten-P is"),
        ("scion", {"norm_hidden": "flat:spectrel"}, "norm_hidden: 'flat:spectrel' is not .* 'spectrel' is not known"),
        ("scion", {"norm_output": "bias"}, "norm_output: 'bias' is not allowed: it must measure matrices"),
        ("scion", {"norm_output": "conv"}, "norm_output: 'conv' is not allowed: it must measure matrices"),
    ],
)
def test_unknown_optimizers_and_options_are_refused_by_name(name, options, message):
    with pytest.raises(UserError, match=message):
        recipe(trial(name, **options))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adam", {"anchored": True}, r"options\.anchored: True is not allowed with weight_decay 0\.1"),
        ("scion", {"anchored": True}, r"options\.anchored: True is not allowed with constrained True"),
        ("scion", {"step_rule": "power"}, "step_rule: 'power' is not allowed: a constrained step is"),
    ],
)
def test_options_that_do_not_go_together_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        recipe(trial(name, **options)).check(lr=0.1)
