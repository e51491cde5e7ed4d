"""The page on the library: its examples run, and what it says of presets and files is so."""

import math
import re
from pathlib import Path

import pytest
import torch
from small_models import gpt2

from scionlab import Scion, explain
from scionlab.roles.presets import PRESETS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text()


@pytest.fixture(scope="module")
def names():
    """What the page's examples define, run one after the other; the loss after each."""
    found: dict[str, object] = {}
    found["losses"] = []
    for example in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(example, found)
        found["losses"].append(found["loss"].item())
    return found


def test_the_examples_run_and_train(names):
    assert max(names["losses"]) < math.log(256) / 4  # all 256 tokens were equally likely at first
    Scion(names["groups"])  # norms, radii and options of the page are allowed


def test_the_rules_of_the_page_are_those_that_gpt2_needs(names):
    rows = {row.names[0]: row for row in explain(gpt2(), "text-tied", names["rules"])}
    assert rows["transformer.h.0.attn.c_attn.weight"].blocks == 3
    assert rows["transformer.h.0.mlp.c_fc.weight"].layout == "in_out"
    commands = re.findall(r"--rule '([^']*)'", PAGE)
    assert [row.names for row in explain(gpt2(), "text-tied", commands)] == [row.names for row in rows.values()]


@pytest.mark.parametrize("name", PRESETS)
def test_the_table_of_presets_is_theirs(name):
    (row,) = re.findall(rf"^\| `{name}` \|(.*)\|$", PAGE, flags=re.MULTILINE)
    *norms, radii, _ = (cell.strip() for cell in row.split("|"))
    roles = ("input", "hidden", "output")
    assert norms == [PRESETS[name].norms[role].removesuffix("-onehot") for role in roles]
    assert radii == ", ".join(f"{PRESETS[name].radii[role]:g}" for role in roles)


def test_files_it_names_exist():
    for path in re.findall(r"`((?:tests|scionlab)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path


def test_the_state_of_scion_light_is_empty_and_its_average_is_in_the_gradients(names):
    optimizer = names["optimizer"]
    assert optimizer.state_dict()["state"] == {}
    buffers = [buffer for buffer in names["checkpoint"]["averages"] if buffer is not None]
    assert len(buffers) == len(list(names["model"].parameters()))
    kept = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
    assert all(torch.equal(a, b) for a, b in zip(buffers, kept, strict=True))
