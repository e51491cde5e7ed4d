import numpy as np
import pandas as pd
import pytest
from planted import Law, planted_runs

from analysis.fits.cells import budgets_of, table_of_cells
from scionlab.errors import UserError


def runs_of(**changes):
    """One budget, two batch sizes, three rates, two seeds."""
    return planted_runs(Law(), budgets=(16,), batches=2, half=1).assign(**changes)


def budgets(runs):
    return budgets_of(table_of_cells(runs))


# Budgets and cells


def test_what_was_asked_for_counts_rather_than_what_whole_steps_made_of_it():
    runs = runs_of(tokens_budget=2**16)
    runs["tokens"] *= np.where(runs["batch_size"] == 4, 0.9, 1.0)
    assert [budget.tokens for budget in budgets(runs)] == [2**16]
    assert len(budgets(runs.drop(columns="tokens_budget"))) == 2


def test_cells_ascend_in_tokens_a_step_whatever_the_order_of_the_rows():
    shuffled = planted_runs(Law(), budgets=(17, 16)).sample(frac=1, random_state=0)
    found = budgets(shuffled)
    assert [budget.tokens for budget in found] == [2**16, 2**17]
    for budget in found:
        assert (np.diff(budget.x) == 1).all()
        assert all((np.diff(cell.curve.x) == 1).all() for cell in budget.cells)


def test_of_settings_with_equal_tokens_a_step_the_better_one_counts():
    runs = runs_of()
    longer = runs.assign(batch_size=runs["batch_size"] / 2, seq_len=64)
    for step, seq_len in ((-0.1, 64), (0.1, 32)):
        both = pd.concat([runs, longer.assign(val_loss=runs["val_loss"] + step)])
        assert {cell.seq_len for cell in budgets(both)[0].cells} == {seq_len}
        assert [cell.batch_tokens for cell in budgets(both)[0].cells] == [64, 128]


def test_a_batch_that_never_trained_is_left_out_and_a_rate_that_diverged_is_infinite():
    runs = planted_runs(Law(), budgets=(16,))
    dead = runs["batch_size"] == runs["batch_size"].max()
    wall = runs["lr"] == runs.loc[~dead, "lr"].max()
    runs.loc[dead | wall, ["status", "val_loss"]] = ["diverged", np.nan]
    cells = budgets(runs)[0].cells
    assert len(cells) == 5
    assert np.isinf(cells[-1].curve.mean[-1])
    assert np.isfinite(cells[-1].curve.mean[:-1]).all()


def test_a_seed_that_is_missing_somewhere_bends_no_curve_and_moves_none():
    runs = runs_of()
    runs.loc[runs["seed"] == 1, "val_loss"] = runs.loc[runs["seed"] == 0, "val_loss"].to_numpy() + 0.3
    partial = runs[(runs["seed"] == 0) | (runs["lr"] > runs["lr"].median())]
    for one, more in zip(budgets(runs[runs["seed"] == 0])[0].cells, budgets(partial)[0].cells, strict=True):
        assert more.curve.n_seeds == 2
        assert more.curve.mean == pytest.approx(one.curve.mean, abs=1e-9)  # rounding of a pseudo-inverse


def test_tables_that_cannot_be_fitted_are_refused():
    runs = runs_of()
    with pytest.raises(UserError, match="columns lr, seed are missing"):
        table_of_cells(runs.drop(columns=["lr", "seed"]))
    with pytest.raises(UserError, match="none of 12 trained to its end"):
        table_of_cells(runs.assign(status="diverged"))
    with pytest.raises(UserError, match="momentum is given for some of them only"):
        table_of_cells(runs.assign(momentum=np.where(runs["seed"] == 0, 0.1, np.nan)))
    with pytest.raises(UserError, match="trained in stages"):
        table_of_cells(runs.assign(stages=np.where(runs["seed"] == 0, "[]", None)))


def test_failed_runs_do_not_count():
    runs = runs_of()
    failed = runs.iloc[:1].assign(status="error", val_loss=np.nan, seed=9)
    assert len(table_of_cells(pd.concat([runs, failed]))) == len(runs)
