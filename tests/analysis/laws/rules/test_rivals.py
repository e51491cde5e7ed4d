"""The rival rules: their published or derived numbers, and what every anchored rule must do."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from analysis.laws.kappa import KappaBst
from analysis.laws.rules import RIVALS, RULES, Certainty, DeepSeek, Need, Point, bst, schatten_batch
from scionlab.errors import UserError

BASE = Point(1e9, 256, 1024, 3e-4, momentum=0.1, weight_decay=0.1, beta2=0.95)
ABSOLUTE = ("steplaw-absolute", "delphi")  # whose batch does not use the base
ANCHORED = [rule for name, rule in RIVALS.items() if name not in ABSOLUTE]
FIELDS = ("batch_tokens", "lr", "momentum", "weight_decay", "beta2")

points = st.builds(
    Point,
    st.floats(1e6, 1e12),
    st.floats(1, 1e5),
    st.sampled_from([1, 64, 1024]),
    st.floats(1e-6, 1),
    st.floats(0.01, 1),
    st.floats(1e-4, 1),
    st.floats(0.5, 0.999),
)
anchored = pytest.mark.parametrize("rule", ANCHORED, ids=lambda rule: rule.name)


# What every anchored rule does


@anchored
@settings(deadline=None, max_examples=30)
@given(base=points)
def test_the_same_budget_gives_everything_of_the_base_back(rule, base):
    setting = rule.predict(base, base.tokens)
    assert [getattr(setting, name) for name in FIELDS] == pytest.approx([getattr(base, name) for name in FIELDS])


@anchored
@settings(deadline=None, max_examples=30)
@given(base=points, first=st.floats(1e-2, 1e2), second=st.floats(1e-2, 1e2))
def test_two_steps_are_one_in_everything(rule, base, first, second):
    middle, end = base.tokens * first, base.tokens * first * second
    half = rule.predict(base, middle)
    batch = half.batch_tokens / base.seq_len
    there = Point(middle, batch, base.seq_len, half.lr, half.momentum, half.weight_decay, half.beta2)
    direct, composed = rule.predict(base, end), rule.predict(there, end)
    for name in FIELDS:
        assert getattr(composed, name) == pytest.approx(getattr(direct, name), rel=1e-6, abs=1e-300), name


@pytest.mark.parametrize("rule", RIVALS.values(), ids=lambda rule: rule.name)
def test_a_rule_keeps_what_it_does_not_move_and_leaves_unknown_what_is_not_known(rule):
    rule = rule.for_size(1e9)
    setting = rule.predict(BASE, 8e9)
    kept = {Need.MOMENTUM: "momentum", Need.WEIGHT_DECAY: "weight_decay", Need.BETA2: "beta2"}
    for need, name in kept.items():
        assert (getattr(setting, name) != getattr(BASE, name)) == (need in rule.moves), name
    unknown = replace(BASE, momentum=None, weight_decay=None, beta2=None)
    bare = rule.predict(unknown, 8e9)
    assert (bare.momentum, bare.weight_decay, bare.beta2) == (None, None, None)
    assert rule.lacking(unknown, 1e9) == rule.moves
    assert rule.lacking(BASE, 1e9) == ()
    assert rule.certainty in Certainty


@pytest.mark.parametrize("rule", RIVALS.values(), ids=lambda rule: rule.name)
def test_resampled_base_points_give_resampled_settings(rule):
    rule = rule.for_size(1e9)
    batch, lr = np.array([128.0, 512.0]), np.array([1e-4, 4e-4])
    many = rule.predict(replace(BASE, batch_size=batch, lr=lr), 4e9)
    for i in range(2):
        alone = rule.predict(replace(BASE, batch_size=batch[i], lr=lr[i]), 4e9)
        for name in FIELDS:
            found = np.broadcast_to(getattr(many, name), 2)[i]
            assert found == pytest.approx(getattr(alone, name)), name


# Formulas, at eight times the tokens


@pytest.mark.parametrize(
    ("name", "batch", "lr", "momentum", "decay"),
    [
        ("fw-gap-fixed", 1, 8**-0.5, 1, 1),
        ("fw-gap", 8**0.5, 8**-0.25, 1, 1),
        ("fw-gap-alpha", 1, 8**-0.75, 8**-0.5, 1),
        ("fw-gap-all", 8 ** (1 / 6), 8 ** (-7 / 12), 8 ** (-1 / 3), 1),
        ("schatten-2", 8**0.75, 8**-0.25, 1, 1),
        ("schatten-4", 8 ** (5 / 7), 8 ** (-2 / 7), 1, 1),
        ("sde", 1, 8**-0.5, 1, 8**-0.5),
        ("power-lines", 8**0.383, 1, 1, 8 ** (0.383 - 0.473)),
        ("timescale", 1, 1, 1, 1 / 8),
        ("adamw-horizon", 1, 8**-0.32, 1, 1),
        ("time-transfer", 8, 1, 1, 1),
        ("deepseek", 8**0.3271, 8**-0.1250, 1, 1),
        ("nanochat", 8**0.383, 8 ** (0.383 / 2), 1, 8 ** (0.383 / 2 - 1)),
        ("hyperp", 1, 8**-0.32, 1, 1),
    ],
)
def test_exponents(name, batch, lr, momentum, decay):
    setting = RIVALS[name].predict(BASE, 8 * BASE.tokens)
    assert setting.batch_tokens / BASE.batch_tokens == pytest.approx(batch)
    assert setting.lr / BASE.lr == pytest.approx(lr)
    assert setting.momentum / BASE.momentum == pytest.approx(momentum)
    assert setting.weight_decay / BASE.weight_decay == pytest.approx(decay)


def test_the_kl_rules_have_logarithms_and_are_one_where_their_batches_are():
    base, t = replace(BASE, tokens=2.0**20), 2.0**30
    h = 2**10 * 20 / 30
    free, fixed = RIVALS["lmo-kl"], RIVALS["lmo-kl-alpha"]
    setting = free.predict(base, t)
    assert setting.batch_tokens == pytest.approx(base.batch_tokens * h ** (2 / 3))
    assert setting.lr == pytest.approx(base.lr * h ** (-1 / 3))
    kept = fixed.predict(base, t)
    assert (kept.batch_tokens, kept.lr) == (base.batch_tokens, pytest.approx(base.lr / h))
    assert kept.momentum == pytest.approx(base.momentum * h ** (-2 / 3))
    same = fixed.at(base, t, setting.batch_tokens)
    assert (same.lr, same.momentum) == (pytest.approx(setting.lr), pytest.approx(base.momentum))
    with pytest.raises(UserError, match="must be above 3"):
        free.predict(base, 2.0)


def slopes(fixed):
    """Exponents in T of the minimizers γ, α, B of the bound of `analysis.laws.rules.lmo`, Δ = σ = L = S = 1."""

    def best(tokens):
        def bound(x):
            of = dict(zip([name for name in ("lr", "alpha", "batch") if name not in fixed], np.exp(x), strict=True))
            lr, alpha, batch = (of.get(name, fixed.get(name)) for name in ("lr", "alpha", "batch"))
            steps = tokens / batch
            return np.log(
                1 / (lr * steps) + 1 / (alpha * steps * batch**0.5) + (alpha / batch) ** 0.5 + lr / alpha + lr
            )

        start = np.log([value for name, value in GUESS.items() if name not in fixed])
        options = {"xatol": 1e-10, "fatol": 1e-15, "maxiter": 20000, "maxfev": 20000}
        for _ in range(3):  # restarted, as one simplex may collapse
            start = minimize(bound, start, method="Nelder-Mead", options=options).x
        return start

    near, far = 1e12, 1e15
    return (best(far) - best(near)) / np.log(far / near)


GUESS = {"lr": 1e-6, "alpha": 1e-4, "batch": 1e2}


@pytest.mark.parametrize(
    ("name", "fixed"),
    [
        ("fw-gap-fixed", {"alpha": 0.1, "batch": 64.0}),
        ("fw-gap", {"alpha": 0.1}),
        ("fw-gap-alpha", {"batch": 64.0}),
        ("fw-gap-all", {}),
    ],
)
def test_the_stationarity_rules_minimize_the_bound(name, fixed):
    """Asymptotically: at 10^12 tokens and more the terms that are left out are small."""
    rule = RIVALS[name]
    setting = rule.predict(BASE, 1e3 * BASE.tokens)
    moved = {
        "lr": setting.lr / BASE.lr,
        "alpha": setting.momentum / BASE.momentum,
        "batch": setting.batch_tokens / BASE.batch_tokens,
    }
    expected = [math.log(value, 1e3) for key, value in moved.items() if key not in fixed]
    assert slopes(fixed) == pytest.approx(expected, abs=0.01)


@settings(deadline=None)
@given(base=points, ratio=st.floats(1e-3, 1e3), growth=st.floats(0.1, 10))
def test_timescale_rules_keep_their_timescale_at_any_batch(base, ratio, growth):
    tokens, batch = base.tokens * ratio, base.batch_tokens * growth
    there = RIVALS["timescale"].at(base, tokens, batch)
    assert there.lr * there.weight_decay * tokens / batch == pytest.approx(base.lr * base.weight_decay * base.steps)
    # Power Lines: B/(lr·λ·T), as a share of the run, falls as (T/N)^-0.527.
    lines = RIVALS["power-lines"].at(base, tokens, batch)
    share = (batch / (lines.lr * lines.weight_decay * tokens)) / (1 / (base.lr * base.weight_decay * base.steps))
    assert share == pytest.approx(ratio**-0.527)
    # The SDE: over a run β₂ forgets as much.
    sde = RIVALS["sde"].at(base, tokens, batch)
    assert sde.beta2 == pytest.approx(base.beta2 ** (base.steps * batch / tokens))


def test_sizes_enter_where_both_are_known():
    small = replace(BASE, n_params=1e8)
    deepseek, lines = DeepSeek().for_size(1e9), RIVALS["power-lines"].for_size(1e9)
    assert deepseek.predict(small, 2e9).batch_tokens == pytest.approx(BASE.batch_tokens * 20**0.3271)
    assert deepseek.predict(BASE, 2e9).batch_tokens == pytest.approx(BASE.batch_tokens * 2**0.3271)
    # At tokens per parameter that stay, only the number of steps counts.
    at = lines.at(small, 1e10, BASE.batch_tokens)
    assert at.weight_decay == pytest.approx(BASE.weight_decay / 10)
    assert RULES["bst"].for_size(1e9) is RULES["bst"]
    assert {name for name, rule in RIVALS.items() if rule.knows_size} == {
        "deepseek",
        "power-lines",
        "steplaw-absolute",
    }
    absolute = RIVALS["steplaw-absolute"]
    assert absolute.lacking(BASE) == (Need.PARAMS,)
    with pytest.raises(UserError, match="needs the parameters"):
        absolute.predict(BASE, 1e9)


def test_delphi_has_a_number_of_steps_and_a_range_of_beta2():
    rule = RIVALS["delphi"]
    base = Point(2.5e9, 64, 4096, 0.0063, beta2=0.99)
    setting = rule.predict(base, 2**16 * 4096 * 256)
    assert setting.batch_tokens / 4096 == 256
    assert setting.beta2 == pytest.approx(0.99**4)
    assert setting.lr == pytest.approx(0.0063 * 2 * (2**36 / 2.5e9) ** -0.3)
    far = rule.predict(base, 2.5e13)
    assert far.beta2 == 0.9
    assert rule.predict(base, 2.5e6).beta2 == 0.9999


@pytest.mark.parametrize(("p", "model"), [(2, "variance"), (3, "variance"), (8, "variance"), (2, "type"), (4, "type")])
def test_schatten_batches_balance_the_rate_and_the_noise(p, model):
    def batch(samples):
        # n^-(1 + 2/p) = n^(-1/p)·B^(-1/2 or -1/p) at n = samples/B steps.
        gain = 1 / 2 if model == "variance" else 1 / p
        grid = np.linspace(0, np.log(samples), 200_001)
        n = np.log(samples) - grid
        return np.exp(grid[np.argmin(np.abs(-(1 + 2 / p) * n + n / p + gain * grid))])

    exponent = np.log(batch(1e12) / batch(1e9)) / np.log(1e3)
    assert schatten_batch(p, model).batch_exponent == pytest.approx(exponent, abs=1e-3)


def test_schatten_infinity_is_bst_and_a_wrong_p_is_refused():
    endless = schatten_batch(math.inf)
    assert endless.predict(BASE, 8e9) == bst().predict(BASE, 8e9)
    assert schatten_batch(1e9).batch_exponent == pytest.approx(2 / 3)
    assert (schatten_batch(2).name, schatten_batch(4, "type").name) == ("schatten-2", "schatten-4-type")
    for p, model, said in ((1.5, "variance", "p: 1.5 is not allowed"), (2, "both", "model: 'both' is not allowed")):
        with pytest.raises(UserError, match=said):
            schatten_batch(p, model)


# The published table of BST: 124M parameters, S = 1024, base 1.3e9 tokens, 256 sequences, 3.6e-4

PUBLISHED = [(2.7e9, 416, 3.0e-4), (5.3e9, 672, 2.4e-4), (8.0e9, 896, 2.1e-4)]


@pytest.mark.parametrize(("tokens", "batch", "lr"), PUBLISHED)
def test_bst_meets_the_published_settings(tokens, batch, lr):
    base = Point(1.3e9, 256, 1024, 3.6e-4)
    plain, kappa = bst().predict(base, tokens), KappaBst(exponent=0.1, shift=-9.4).predict(base, tokens)
    assert plain.batch_tokens / 1024 == pytest.approx(batch, rel=0.05)
    assert kappa.batch_tokens / 1024 == pytest.approx(batch, rel=0.05)
    assert kappa.lr == pytest.approx(lr, rel=0.05)


def test_bst_before_rounding_is_what_the_sheet_says():
    base = Point(1.3e9, 256, 1024, 3.6e-4)
    found = [bst().predict(base, tokens).batch_tokens / 1024 for tokens, _, _ in PUBLISHED]
    assert found == pytest.approx([417, 653, 860], abs=1)
    rates = [KappaBst(exponent=0.1, shift=-9.4).predict(base, tokens).lr for tokens, _, _ in PUBLISHED]
    assert rates == pytest.approx([2.92e-4, 2.41e-4, 2.14e-4], rel=0.01)
