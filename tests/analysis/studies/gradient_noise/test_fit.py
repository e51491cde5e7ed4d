"""The study of gradient noise: what it sums up, what it says, and what it refuses."""

import pytest
from synthetic_layers import noise_rows, noise_tables

from analysis.fits.outcomes import Outcome
from analysis.studies.gradient_noise.fit import fit_gradient_noise
from analysis.studies.gradient_noise.page import context
from scionlab.errors import UserError


def only(*parts):
    (method,) = fit_gradient_noise(noise_tables(*parts)).methods
    return method


def kind_of(method, kind):
    return next(row for row in method.last if row.kind == kind)


@pytest.mark.parametrize(
    ("tail", "verdict"), [(1.5, Outcome.HEAVY), (1.9, Outcome.NEAR_TWO), (2.1, Outcome.NEAR_TWO), (3.0, Outcome.FINITE)]
)
def test_a_method_is_judged_by_the_whole_interval_of_its_network(tail, verdict):
    assert only(noise_rows("scion", tail)).verdict == verdict


def test_the_last_step_decides():
    runs, scores = noise_rows("scion", 1.5, steps=(10,))
    _, later = noise_rows("scion", 4.0, steps=(20,))
    method = only((runs, scores + later))
    assert (method.verdict, method.network.step) == (Outcome.FINITE, 20)


def test_layers_of_a_kind_and_runs_are_averaged_with_their_ends():
    method = only(noise_rows("scion", 3.0, seeds=3))
    row = kind_of(method, "mlp.up")
    assert (row.n_layers, row.n_runs) == (2, 3)
    assert row.tail_index.value == pytest.approx(4.25)  # 4 in the first block, 4.5 in the second
    assert (row.tail_index.low, row.tail_index.high) == (pytest.approx(0.75 * 4.25), pytest.approx(1.25 * 4.25))
    assert row.tail_index_block.low is None
    assert method.network.nuclear_ratio is None


def test_more_runs_make_no_interval_narrower():
    one, many = (only(noise_rows("scion", 3.0, seeds=seeds)).network.tail_index for seeds in (1, 8))
    assert (one.low, one.high) == (pytest.approx(many.low), pytest.approx(many.high))


@pytest.mark.parametrize(("tail", "schatten"), [(1.5, 3.0), (1.2, 6.0), (2.0, 2.0), (3.0, 2.0), (0.9, None)])
def test_the_largest_schatten_norm_without_a_penalty(tail, schatten):
    found = only(noise_rows("scion", tail)).network.schatten
    assert found == (None if schatten is None else pytest.approx(schatten))


def test_noise_whose_largest_are_alike_has_a_variance():
    runs, scores = noise_rows("scion")
    bounded = [row for row in scores if not row["metric"].startswith("tail_index")]
    assert only((runs, bounded)).verdict == Outcome.FINITE


def test_the_finding_names_the_layers_at_either_end():
    tables = noise_tables(noise_rows("adam", 1.5))
    (finding,) = context(tables, fit_gradient_noise(tables))["verdicts"]
    assert finding["text"] == (
        "At step 20 the tail index of the whole gradient is 1.5 [1.1, 1.9]. Schatten norms up to p/(p − 1) = 3.0 pay "
        "no penalty in dimensions. Layer by layer it goes from 2.5 [1.9, 3.1] (embed) to 2.8 [2.1, 3.4] (attention.q)."
    )


def test_methods_are_summed_up_apart_and_diverged_runs_left_out():
    adam, scion = noise_rows("adam", 1.5), noise_rows("scion", 4.0)
    scion[0][0] |= {"status": "diverged", "val_loss": None}
    first, second = fit_gradient_noise(noise_tables(adam, scion)).methods
    assert (first.verdict, second.verdict) == (Outcome.HEAVY, Outcome.FINITE)
    assert (first.network.n_runs, second.network.n_runs) == (2, 1)


def test_the_table_has_a_row_for_every_kind_and_step():
    (frame,) = fit_gradient_noise(noise_tables(noise_rows("adam"))).frames().values()
    assert len(frame) == 7 * 2  # network, embed, four kinds in the blocks, head; two steps
    assert set(frame["kind"]) == {"network", "embed", "attention.q", "attention.out", "mlp.up", "mlp.down", "head"}


def test_runs_without_measured_noise_are_refused():
    runs, scores = noise_rows("scion")
    validations = [row | {"split": "validation"} for row in scores]
    for given in ([], validations):
        with pytest.raises(UserError, match="measured the noise of its gradients; set noise_probe"):
            fit_gradient_noise(noise_tables((runs, given)))
