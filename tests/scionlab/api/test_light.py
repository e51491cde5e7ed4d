"""What importing costs, and whose `analysis` is found."""

import subprocess
import sys

import scionlab

USE = """
import sys
import pandas as pd
from scionlab import RunStore, fit, fit_scaling_law, import_table, plan

frame = pd.DataFrame({"n_params": [1e7, 1e8, 1e9] * 3, "tokens": [1e9] * 3 + [1e10] * 3 + [1e11] * 3})
frame["val_loss"] = 2 + 400 * frame.n_params**-0.35 + 900 * frame.tokens**-0.33
table = import_table(frame, results="results")
fit_scaling_law(table, resamples=0).compute_optimal(1e21)
fit("scaling-law", RunStore("results").imports("table"))
plan(2e9, {"tokens": 1e9, "batch_size": 256, "seq_len": 1024, "lr": 3.6e-4}).frame()
heavy = ("torch", "ray", "matplotlib", "altair", "optuna", "typer", "sklearn")
print([name for name in heavy if name in sys.modules])
"""
OWN = """
import analysis
from scionlab import plan
import analysis.mine
import analysis as again

assert analysis is again and analysis.WHO == analysis.mine.WHO == "the caller's"
"""


def run(code, folder):
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_and_using_it_loads_neither_torch_nor_ray_nor_matplotlib(tmp_path):
    assert run(USE, tmp_path) == "[]"
    assert run("import sys, scionlab; print('pandas' in sys.modules)", tmp_path) == "False"


def test_a_caller_may_have_an_analysis_of_their_own(tmp_path):
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "__init__.py").write_text('WHO = "the caller\'s"\n')
    (tmp_path / "analysis" / "mine.py").write_text('WHO = "the caller\'s"\n')
    run(OWN, tmp_path)
    assert run(USE, tmp_path) == "[]"


def test_every_name_is_there_documented_and_listed():
    assert set(scionlab.__all__) <= set(dir(scionlab))
    for name in scionlab.__all__:
        assert getattr(scionlab, name).__doc__, name
