"""docs/cli.md: its examples run, its documents have the keys that commands print, and no command is missing."""

import json
import re
import shlex
from pathlib import Path

import pytest
from synthetic import fill

from scionlab.cli import app

# What the page calls my_transfer.py.
SEARCHES = """
from scionlab.spec.tuning import Method, TransferExperiment, TransferPreset

SIZES = dict(head_dim=8, depth=1, seq_len=16, val_tokens=256, val_seq_len=16, data="path:{text}", device="cpu")
SMOKE = TransferPreset(
    fixed=SIZES, methods={{"scion": Method(optimizer="scion", space={{"lr": (2**-7, 2**-3)}})}},
    proxy=dict(width=16, tokens=1024, batch_size=4), targets={{"wider": dict(width=32)}},
    trials=2, search_seeds=(0, 7), seeds=(1, 2),
)
SPEC = TransferExperiment(name="mine", title="Mine", question="Does it transfer?", presets={{"smoke": SMOKE}})
"""
PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.DOTALL | re.MULTILINE))


def examples(section):
    blocks = re.findall(r"^```\n(.*?)^```", SECTIONS[section], flags=re.DOTALL | re.MULTILINE)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("scionlab ")]


def shapes(section):
    return [
        json.loads(text) for text in re.findall(r"^```json\n(.*?)^```", SECTIONS[section], re.DOTALL | re.MULTILINE)
    ]


@pytest.fixture
def world(tmp_path, spec_file, text_file):
    """What the page's reader has: an experiment, searches, runs of them and of another one, a table from elsewhere."""
    spec_file([2**-5], name="my_experiment.py")
    (tmp_path / "my_transfer.py").write_text(SEARCHES.format(text=text_file))
    fill(tmp_path / "results" / "runs")
    (tmp_path / "my_text.txt").write_text(text_file.read_text())
    (tmp_path / "runs.csv").write_text("D,bs,log2_lr,loss\n1e6,8,-7,3.0\n1e6,8,-6,3.1\n")


def keys(value):
    """Of a document and of the first of each list of documents in it."""
    if isinstance(value, list):
        return [keys(item) for item in value[:1] if isinstance(item, dict)]
    return {name: keys(item) if isinstance(item, list) else None for name, item in value.items()}


def test_the_examples_run_and_print_documents_of_the_shapes_that_are_shown(call, world):
    for section in SECTIONS:
        shown = iter(shapes(section))
        for arguments in examples(section):
            done = call(*arguments)
            assert done.code == 0, (arguments, done.err)
            if "--json" in arguments:
                found = json.loads(done.out)
                expected = next(shown, None)
                assert expected is None or keys(found) == keys(expected), arguments
    assert sum(len(examples(section)) for section in SECTIONS) >= 16


@pytest.mark.parametrize("arguments", [["fit"], ["figures"], ["report"], ["run", "my_experiment.py", "--dry-run"]])
def test_documents_that_are_listed_have_the_keys_they_have(arguments, call, world):
    name = arguments[0]
    text = SECTIONS["run" if name == "run" else "fit, figures, report"]
    before = "With `--dry-run` it is" if name == "run" else f"- `{name}`:"
    (listed,) = re.findall(re.escape(before) + r"\s+`\{(.*?)\}`", text, flags=re.DOTALL)
    preset = ["--preset", "smoke"] if name == "run" else ["width"]
    assert list(json.loads(call(*arguments, *preset, "--json").out)) == re.findall(r'"(\w+)"', listed)


def test_every_command_has_a_section_and_a_row():
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    titles = {name for title in SECTIONS for name in title.split(", ")}
    assert names <= titles
    assert names == set(re.findall(r"`([a-z]+)`", " ".join(re.findall(r"^\| (\[.*?\)) \|", PAGE, flags=re.MULTILINE))))


def test_states_are_those_that_there_are():
    states = re.findall(r"^\| `(\w+)` \| ", SECTIONS["status"], flags=re.MULTILINE)
    source = "".join(path.read_text() for path in Path(__file__).parents[2].glob("scionlab/**/status.py"))
    assert set(states) == {"running", "done", "interrupted", "killed", "changed", "planned"}
    assert all(f'"{state}"' in source or f"`{state}`" in source for state in states)
