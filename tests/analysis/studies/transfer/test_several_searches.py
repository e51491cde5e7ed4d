"""The transfer study where every search was made with several seeds, on made-up runs."""

import numpy as np
import pytest
from planted_transfer import LUCK, PROXY_FLOPS, REGRETS, SEARCH_SEEDS, SEEDS, cell_of, runs_of, tables_of

from analysis.studies.transfer import page
from analysis.studies.transfer.figures import proxy as figure
from analysis.studies.transfer.fit import fit_proxy
from analysis.studies.transfer.result import finding


@pytest.fixture
def several():
    """Tables and fit of three searches each."""
    tables = tables_of([cell_of(*which, seeds=SEARCH_SEEDS) for which in REGRETS])
    return tables, fit_proxy(tables)


def test_the_regret_of_several_searches_is_the_mean_of_their_paired_differences(several):
    found = several[1]
    for cell in found.cells:
        truth = REGRETS[cell.method, cell.target]
        assert [one.difference for one in cell.searches] == pytest.approx([truth + LUCK[k] for k in LUCK], abs=0.005)
        assert cell.regret.value == pytest.approx(np.mean([one.difference for one in cell.searches]))
        assert cell.zero_shot - cell.direct == pytest.approx(cell.regret.value)
        # The luck has a standard deviation of 0.026 nats, ten times the noise: the interval is of its size.
        assert cell.noise.searches == pytest.approx(np.std(list(LUCK.values()), ddof=1), rel=0.1)
        assert cell.noise.error == pytest.approx(cell.noise.searches / np.sqrt(3), rel=0.05)
        assert cell.regret.low < truth - 0.02
        assert cell.regret.high > truth + 0.02
        assert (len(cell.searches), cell.n_seeds, cell.holds_luck) == (3, len(SEEDS), True)
    assert found.cells[0].verdict == "loses"
    assert {cell.verdict for cell in found.of("scion")} == {"cannot tell"}
    assert "(means of 3 searches)" in finding("adam", found.of("adam"))["text"]


def test_pairs_are_of_one_search_and_one_seed():
    """Offsets of a seed cancel in every pair, though they are a hundred times the noise."""
    cells = [cell_of("adam", "deeper", seeds=(0, 7))]
    found = fit_proxy(tables_of(cells, runs_of(cells, 0.001, luck={0: -0.2, 7: 0.2})))
    assert [one.difference for one in found.cells[0].searches] == pytest.approx([-0.2, 0.2], abs=0.003)
    assert found.cells[0].noise.seeds < 0.003


def test_costs_of_several_searches_are_those_of_one(several):
    tables, _ = several
    tunings = tables.tunings([])
    tunings.loc[tunings["study"] == "adam.proxy-7", ["flops", "wall_time_s"]] *= 4  # a mean of 2 over three searches
    found = fit_proxy(tables_of([cell_of(*which, seeds=SEARCH_SEEDS) for which in REGRETS], tunings=tunings))
    assert found.cells[0].proxy_flops == pytest.approx(2 * 3.25 * PROXY_FLOPS)
    assert found.cells[0].flops_ratio == found.cells[0].seconds_ratio == pytest.approx(2.0)
    assert found.cells[2].flops_ratio == pytest.approx(4.0)
    assert found.summaries()[0][1]["searches"].tolist() == ["3"] * 4
    rows = found.frames()["transfer_searches"]
    assert len(rows) == 4 * 3
    assert rows.loc[rows["proxy_study"] == "adam.proxy-7", "proxy_flops"].tolist() == pytest.approx([13e9] * 2)


def test_searches_and_seeds_without_a_pair_are_left_out():
    cells = [cell_of("adam", "wider", seeds=SEARCH_SEEDS), cell_of("scion", "wider", seeds=(0, 7))]
    lost = [f"adam-wider-direct-7-{fresh}" for fresh in SEEDS] + ["adam-wider-zero_shot-8-3"]
    lost += [f"scion-wider-direct-{fresh}" for fresh in SEEDS[:2]] + [f"scion-wider-direct-7-{s}" for s in SEEDS[2:]]
    runs = runs_of(cells)
    found = fit_proxy(tables_of(cells, runs[~runs["trial_id"].isin(lost)]))
    (cell,) = found.cells
    assert ([one.seed for one in cell.searches], cell.n_seeds) == ([0, 8], 3)
    assert found.skipped == (
        "adam at wider: no seed has been trained both ways with what search seed 7 found, which is left out.",
        "scion at wider: no seed has been trained both ways for every search.",
    )


def test_the_page_and_json_say_whether_the_luck_of_the_searches_is_held(several):
    tables, found = several
    assert {cell["interval_holds"] for cell in found.as_dict()["cells"]} == {"noise of seeds and luck of searches"}
    context = page.context(tables, found)
    assert (context["several"], context["one_search"]) == (True, [])
    assert [row["search seed"] for row in context["values"]] == ["0", "7", "8"] * 6  # two proxies, four targets
    mixed = [cell_of("adam", "wider", seeds=SEARCH_SEEDS), cell_of("scion", "wider")]
    found = fit_proxy(tables_of(mixed))
    assert [cell["interval_holds"] for cell in found.as_dict()["cells"]][1] == "noise of seeds"
    assert page.context(tables_of(mixed), found)["one_search"] == ["scion at wider"]


def test_the_figure_has_every_search_lightly_and_the_means(several):
    tables, found = several
    data = figure.table(tables, found)
    counts = data.groupby("way").size()
    assert (counts["zero-shot"], counts["direct"]) == (4, 4)
    assert (counts["zero-shot, one search"], counts["direct, one search"], counts["direct search"]) == (12, 12, 48)
    losses, regrets = (figure.draw(data).axes[i : i + 2] for i in (0, 2))
    for axis in losses:
        steps = [line for line in axis.lines if line.get_linestyle() == "-"]
        assert [line.get_alpha() for line in steps] == [figure.LIGHT] * 6
        marks = {line.get_markersize(): line.get_alpha() for line in axis.lines if line.get_marker() == "*"}
        assert marks == {12 * 1.0: None, 12 * 0.6: figure.LIGHT}
        low, high = axis.get_ylim()
        marked = [line for line in axis.lines if line.get_marker() in "*o"]
        assert all(low < y < high for line in marked for y in line.get_ydata())
    dots = [line.get_xdata() for line in regrets[0].lines if line.get_marker() == "."]
    assert np.allclose(dots, [[one.difference for one in c.searches] for c in found.cells if c.target == "wider"])
