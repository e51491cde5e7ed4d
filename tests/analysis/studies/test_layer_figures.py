import numpy as np
import pytest
from drawn import check_drawn
from synthetic_layers import (
    GROWS,
    STAYS,
    convergence_arms,
    convergence_rows,
    convergence_tables,
    coordinate_rows,
    noise_rows,
    noise_tables,
    norm_rows,
    tables_of,
    transfer_rows,
)

import analysis.studies.norm_transfer.fit
from analysis.drawing import style
from analysis.studies.convergence.figures import convergence
from analysis.studies.convergence.figures import descent as convergence_descent
from analysis.studies.convergence.fit import fit_convergence
from analysis.studies.coordinate_check.figures import coordinate, coordinate_steps
from analysis.studies.coordinate_check.fit import fit_coordinate
from analysis.studies.gradient_noise.figures import gradient_noise
from analysis.studies.gradient_noise.fit import fit_gradient_noise
from analysis.studies.norm_control.figures import norm_control
from analysis.studies.norm_control.fit import fit_norm_control
from analysis.studies.norm_transfer.figures import norm_transfer, norm_transfer_scale
from analysis.studies.norm_transfer.fit import fit_norm_transfer

FITS = {
    fit_coordinate: (coordinate, coordinate_steps),
    fit_norm_control: (norm_control,),
    fit_norm_transfer: (norm_transfer, norm_transfer_scale),
    fit_gradient_noise: (gradient_noise,),
    fit_convergence: (convergence, convergence_descent),
}


def joined(*parts):
    return tables_of(*([row for part in parts for row in part[i]] for i in (0, 1)))


def cases():
    """Fits and tables by name: usual ones, and such with one method, seed, place or step of everything."""
    lost, layers = coordinate_rows({"adam": GROWS, "mine": STAYS}, (32, 64), seeds=2, steps=2)
    for run in lost[:4]:
        run |= {"status": "diverged", "val_loss": None}
    return {
        "coordinate": (fit_coordinate, joined(coordinate_rows({"adam": GROWS, "scion": STAYS}))),
        "coordinate, one seed": (fit_coordinate, joined(coordinate_rows({"scion": STAYS}, (16, 32), seeds=1, steps=1))),
        "coordinate, all diverged": (fit_coordinate, tables_of(lost, layers)),
        "norms": (fit_norm_control, joined(norm_rows("adam", "free"), norm_rows("scion", "constrained"))),
        "norms, no bound": (fit_norm_control, joined(norm_rows("adam", "free", seeds=1, steps=1))),
        "noise": (fit_gradient_noise, noise_tables(noise_rows("adam", 1.5), noise_rows("mine", 4.0))),
        "noise, one step": (fit_gradient_noise, noise_tables(noise_rows("scion", seeds=1, steps=(5,)))),
        "transfer": (fit_norm_transfer, joined(transfer_rows(seeds=2), transfer_rows("adam", in_tokens=0.7, seeds=2))),
        "transfer, one seed": (fit_norm_transfer, joined(transfer_rows(seeds=1, widths=(32,), offset=4))),
        "convergence": (fit_convergence, convergence_tables(*convergence_arms())),
        "convergence, one arm": (fit_convergence, convergence_tables(convergence_rows("mine", seeds=1))),
    }


CASES = tuple(cases())


@pytest.fixture(scope="module")
def fitted():
    style.apply()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis.studies.norm_transfer.fit, "RESAMPLES", 100)
        return {name: (fit, tables, fit(tables)) for name, (fit, tables) in cases().items()}


@pytest.mark.parametrize("name", CASES)
def test_figures_are_drawn_from_their_csv(name, fitted):
    fit, tables, found = fitted[name]
    for figure in FITS[fit]:
        data = figure.table(tables, found)
        if data.empty:
            assert (figure, name) == (convergence_descent, "convergence, one arm")
            continue
        words = check_drawn(figure, data, widest=9.2)
        assert all(optimizer in words for optimizer in data["optimizer"].unique())
        assert figure.TITLE
        assert figure.CAPTION.endswith(".")


def test_points_against_width_are_the_means_of_the_fit(fitted):
    _, tables, found = fitted["coordinate"]
    data = coordinate.table(tables, found)
    for (optimizer, kind, width), rows in found.sizes.groupby(["optimizer", "kind", "width"]):
        for quantity in ("output_rms", "output_change_rms"):
            mine = data[(data["optimizer"] == optimizer) & (data["kind"] == kind) & (data["width"] == width)]
            (point,) = mine[mine["quantity"] == quantity].to_dict("records")
            assert point["size"] == pytest.approx(np.exp(np.log(rows[quantity]).mean()))
            assert (point["low"], point["high"]) == (rows[quantity].min(), rows[quantity].max())
    slopes = {(s.optimizer, s.kind, s.quantity): s.slope.value for m in found.methods for s in m.slopes}
    assert {(r["optimizer"], r["kind"], r["quantity"]): r["slope"] for r in data.to_dict("records")} == slopes


def test_the_inner_layer_whose_change_goes_steepest_is_followed_step_by_step(fitted):
    _, tables, found = fitted["coordinate"]
    inner = [s for m in found.methods for s in m.slopes if s.quantity == "output_change_rms" and "." in s.kind]
    steepest = max(inner, key=lambda s: abs(s.slope.value)).kind
    data = coordinate_steps.table(tables, found)
    assert list(dict.fromkeys(data["kind"])) == ["embed", steepest, "logits"]
    assert set(data["step"]) == {1, 2, 3, 4}  # at step 0 nothing has moved


def test_norms_are_those_of_the_best_setting():
    good, bad = norm_rows("scion", "constrained"), norm_rows("scion", "constrained", lr=0.5, loss=5.0, rate=0.5)
    tables = joined(good, bad)
    data = norm_control.table(tables, fit_norm_control(tables))
    assert set(data["lr"]) == {2**-6}
    head = data[data["role"] == "output"]
    assert list(head["norm"]) == pytest.approx([64 * (1 - 0.9**k) for k in range(21)])
    assert list(head["bound"]) == pytest.approx(list(head["norm"]))
    assert set(data.loc[data["role"] == "hidden", "n_layers"]) == {8}


def test_a_roles_line_is_its_mean_between_its_extremes(fitted):
    _, tables, found = fitted["norms"]
    data = norm_control.table(tables, found)
    mine = data[(data["optimizer"] == "adam") & (data["role"] == "hidden") & (data["step"] == 20)].iloc[0]
    per_seed = [3 * (1.05 * (1 + 0.01 * seed)) ** 20 for seed in range(2)]
    assert (mine["low"], mine["norm"], mine["high"]) == pytest.approx((per_seed[0], np.mean(per_seed), per_seed[1]))


def test_stars_stand_at_the_fits_optima(fitted):
    _, tables, found = fitted["transfer"]
    data, scale = norm_transfer.table(tables, found), norm_transfer_scale.table(tables, found)
    best = data[data["kind"] == "best"]
    optima = [optimum for method in found.methods for optimum in method.optima]
    for shown in (best, scale):
        assert list(shown["norm"]) == [o.norm.value for o in optima]
        assert list(shown["low"]) == [o.norm.low for o in optima]
        assert list(shown["resolved"]) == [o.resolved for o in optima]
    assert len(data) - len(best) == len(found.points)
    exponents = scale.drop_duplicates("optimizer").set_index("optimizer")["in_tokens"]
    assert exponents.to_dict() == {m.optimizer: m.in_tokens.value for m in found.methods}


def test_horizons_are_geometric_means_over_seeds(fitted):
    _, tables, found = fitted["convergence"]
    data = convergence.table(tables, found)
    expected = found.points.groupby(["arm", "steps"])["grad_dual"].agg(lambda values: np.exp(np.log(values).mean()))
    assert data.set_index(["arm", "steps"])["grad_dual"].to_dict() == pytest.approx(expected.to_dict())
    assert data.drop_duplicates("arm").set_index("arm")["verdict"].to_dict() == {
        a.arm.name: a.verdict for a in found.arms
    }


def test_the_loss_is_shown_at_the_longest_horizon_that_logs_every_step(fitted):
    _, tables, found = fitted["convergence"]
    data = convergence_descent.table(tables, found)
    assert set(data["horizon"]) == {128}
    assert list(data.groupby("arm").size()) == [128] * 3
    clipped = data[data["optimizer"] == "clipped-scion"]
    assert list(clipped["loss"]) == pytest.approx([0.125 / k for k in range(1, 129)])


def test_without_clipped_arms_or_curves_there_is_no_descent_to_show():
    for arms in ([convergence_rows("scion")], [(*convergence_rows("clipped-scion")[:2], {})]):
        tables = convergence_tables(*arms)
        assert convergence_descent.table(tables, fit_convergence(tables)).empty
