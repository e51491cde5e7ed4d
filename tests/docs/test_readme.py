"""The examples of the README, run."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import typer
from synthetic import fill

from scionlab.cli import app
from scionlab.spec.loading import load_experiment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def example(containing):
    return next(code for code in EXAMPLES if containing in code)


def test_the_experiment_example_is_an_experiment(tmp_path):
    path = tmp_path / "my_experiment.py"
    path.write_text(example("SPEC = Experiment"))
    assert len(load_experiment(str(path)).preset("laptop").trials) == 3 * 7 * 2


def test_the_scion_example_trains():
    import torch

    names: dict[str, object] = {}
    exec(example("from scionlab import Scion"), names)
    model, optimizer = names["model"], names["optimizer"]
    inputs, targets = torch.randn(64, 784), torch.arange(64) % 10
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("reader", ["RunStore(", "read_parquet("])
def test_the_store_examples_read_the_store(reader, tmp_path, monkeypatch):
    store = fill(tmp_path / "results" / "runs")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example(reader), names)
    assert isinstance(names["runs"], pd.DataFrame)
    assert len(names["runs"]) == len(store.runs())


def test_every_target_and_file_it_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^)make ([a-z][a-z-]+)", README, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def rooms():
    """Paths in the first column of the map; what follows a comma lies beside the first."""
    for row in re.findall(
        r"^\| (`(?:experiments|scionlab|analysis|benchmarks|docs)/[^|]*) \|", README, flags=re.MULTILINE
    ):
        first, *others = re.findall(r"`([^`]+)`", row)
        yield from (
            first,
            *(other if "/" in other.rstrip("/") else f"{Path(first).parent}/{other}" for other in others),
        )


def test_rooms_of_the_map_exist_and_every_package_is_in_one():
    shown = [(ROOT / room).resolve() for room in rooms()]
    assert all(path.exists() for path in shown), shown
    packages = [
        path.parent for room in ("scionlab", "analysis", "experiments") for path in (ROOT / room).glob("*/__init__.py")
    ]
    assert len(packages) > 10
    for package in packages:
        assert package.resolve() in shown, package


def test_the_commands_of_the_first_hour_parse():
    section = README.split("## The first hour")[1].split("\n## ")[0]
    commands = re.findall(r"^\| \d+ \| `scionlab ([^`]+)`", section, flags=re.MULTILINE)
    assert len(commands) >= 4
    known = typer.main.get_command(app).commands
    for name, *arguments in map(shlex.split, commands):
        known[name].make_context(name, arguments)
