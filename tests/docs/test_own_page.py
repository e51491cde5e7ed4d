"""docs/own-model.md, followed to the letter, but with the smoke preset."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-model.md").read_text()
MAIN = "from scionlab.cli import main; main()"
SMOKE = {"run": ["--preset", "smoke", "--executor", "inline"], "report": ["--preset", "smoke"]}


def blocks(language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [block for of, block in found if of == language]


def commands():
    lines = [line for block in blocks("") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("scionlab")]


def call(arguments, folder):
    command = [sys.executable, "-c", MAIN, *arguments, *SMOKE.get(arguments[0], [])]
    return subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=300)


def test_the_page_gives_a_report_on_a_model_that_nobody_here_wrote(tmp_path):
    pytest.importorskip("transformers")
    for source in blocks("python"):
        (tmp_path / re.match(r"# (\w+\.py)\n", source)[1]).write_text(source)
    unruled, ruled, run, report = (call(arguments, tmp_path) for arguments in commands())
    assert unruled.returncode == 2
    example = re.search(r"--rule '(.*norm.*=gain)'", unruled.stderr)[1]
    assert re.fullmatch(example.removesuffix("=gain"), "model.layers.0.input_layernorm.weight")
    assert (ruled.returncode, run.returncode, report.returncode) == (0, 0, 0), run.stderr + report.stderr
    assert "model.layers.1.input_layernorm.weight" in ruled.stdout
    assert "trained 22 of 22 trials (22 ok)" in run.stdout
    page = (tmp_path / "results" / "report" / "llama.html").read_text()
    assert "Does the best learning rate of the narrow model suit the wide one?" in page
    assert "my_model:build" in page
