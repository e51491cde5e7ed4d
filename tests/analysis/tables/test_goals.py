import numpy as np
import pandas as pd
import pytest

from analysis.tables.goals import of_goals
from analysis.tables.varied import study_of


def rows(losses=(3.4, 3.2), batches=(64, 128, 256), **fixed):
    found = [
        {"optimizer": "one", "n_params": n, "batch_size": b, "seq_len": 512, "tokens": 1e9 + b, "val_loss": loss}
        for n, loss in zip((1e7, 1e8), losses, strict=True)
        for b in batches
    ]
    return pd.DataFrame(found).assign(**({"status": "ok", "lr": np.nan, "momentum": np.nan, "width": np.nan} | fixed))


def test_a_loss_that_three_batch_sizes_of_a_size_come_to_is_a_goal():
    assert of_goals(rows())
    assert study_of(rows()).study == "critical-batch"
    assert not of_goals(rows(batches=(64, 128)))
    assert not of_goals(rows(losses=(3.4, 3.2)).drop(columns="batch_size"))


def test_one_that_did_not_come_to_it_does_not_count():
    late = rows()
    late.loc[0, "status"] = "diverged"
    assert not of_goals(late)  # two are left of that size
    more = pd.concat([rows(), rows(batches=(512,)).assign(status="diverged", val_loss=np.nan)])
    assert of_goals(more)


@pytest.mark.parametrize("losses", [[3.41, 3.4, 3.4, 3.31, 3.3, 3.3], [3.4, 3.4, 3.4, 3.3, 3.3, 3.31]])
def test_final_losses_that_agree_here_and_there_are_no_goals(losses):
    assert not of_goals(rows().assign(val_loss=losses))


def test_losses_that_a_sweep_shares_over_batch_sizes_at_one_budget_are_no_goals():
    sweep = pd.concat([rows(), rows(losses=(3.5, 3.3)).assign(seed=1)])
    assert not of_goals(sweep)
    assert of_goals(pd.concat([rows(), rows(losses=(3.1, 3.0)).assign(tokens=lambda r: 2 * r["tokens"])]))
