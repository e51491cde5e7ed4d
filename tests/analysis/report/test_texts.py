"""Numbers and texts of pages: powers are raised, and every source has a row of what was run."""

import pandas as pd
import pytest
from markupsafe import Markup

from analysis.drawing import style
from analysis.report.texts import by_source, raised, sizes, spans


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("= 11.5 N^-0.765 T^0.277. Then", "= 11.5 N<sup>−0.765</sup> T<sup>0.277</sup>. Then"),
        ("C^0.509 [0.475, 0.557]", "C<sup>0.509</sup> [0.475, 0.557]"),
        ("N^+0.1 & <b>", "N<sup>+0.1</sup> &amp; &lt;b&gt;"),
        (Markup("2<sup>3</sup>^4"), "2<sup>3</sup>^4"),
        ("a ^ b, C^a", "a ^ b, C^a"),
    ],
)
def test_powers_are_raised_and_the_rest_is_escaped(text, html):
    assert raised(text) == html


def test_every_source_has_a_row_with_its_columns_and_how_its_runs_ended():
    runs = pd.DataFrame({"optimizer": list("bba"), "tokens": [1e9, 2e9, 3e9], "status": ["ok", "diverged", "ok"]})
    columns = {"sizes": sizes, "tokens": spans("tokens")}
    a, b = by_source(runs, columns)
    assert b == {"source": "b", "sizes": "–", "tokens": "1e+09 to 2e+09", "ok": "1", "diverged": "1", "failed": "0"}
    assert by_source(runs.assign(n_params=[1, 2, 2]), columns)[1]["sizes"] == "2"
    assert (a["source"], a["ok"]) == ("a", "1")


def test_powers_in_figures_are_mathematics():
    assert style.raised("11.5 N^-0.765 T^0.277, N^") == "11.5 N$^{-0.765}$ T$^{0.277}$, N^"
