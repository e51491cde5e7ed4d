"""docs/tokens.md, followed to the letter with the smoke preset, and killed on its way."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from stores import numbers

from scionlab.runs.store import RunStore

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tokens.md").read_text()
MAIN = "from scionlab.cli import main; main()"
SMOKE = {"run": ["--preset", "smoke", "--executor", "inline"], "report": ["--preset", "smoke"]}


def blocks(language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [block for of, block in found if of == language]


def commands():
    lines = [line for block in blocks("") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if re.match("scionlab|python", line)]


def start(arguments, folder):
    how = arguments if arguments[0].endswith(".py") else ["-c", MAIN, *arguments, *SMOKE.get(arguments[0], [])]
    with (folder / "output.txt").open("w") as output:
        return subprocess.Popen([sys.executable, *how], cwd=folder, stdout=output, stderr=subprocess.STDOUT)


def call(arguments, folder):
    code = start(arguments, folder).wait(timeout=300)
    assert code == 0, (arguments, (folder / "output.txt").read_text())


@pytest.mark.slow
def test_the_page_leads_from_a_text_to_a_run_that_is_killed_and_goes_on(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    for source in blocks("python"):
        (tmp_path / re.match(r"# (\w+\.py)\n", source)[1]).write_text(source)
    make_text, tokenize, run, report, export, _ = commands()
    assert run[-2] == "--checkpoint-minutes"
    call(make_text, tmp_path)
    call(tokenize, tmp_path)
    manifest = json.loads((tmp_path / "shards" / "manifest.json").read_text())
    assert (manifest["vocabulary"], manifest["padded"]) == (1000, 1024)

    kept = tmp_path / "results" / "runs" / "checkpoints"
    often = [*run[:-1], "0.005"]  # so that there is a checkpoint on a fast machine, too
    process, deadline = start(often, tmp_path), time.monotonic() + 120
    while not list(kept.glob("*.pt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, (tmp_path / "output.txt").read_text()
    assert not len(RunStore(str(tmp_path / "results" / "runs")).runs())
    for arguments in (run, report, export):
        call(arguments, tmp_path)

    row = pd.read_csv(tmp_path / "tokens.csv").iloc[0]
    assert (row["status"], row["vocab_size"], row["warmup"], row["clip_norm"]) == ("ok", 1024, 0.1, 0.5)
    assert 0 < row["val_loss_per_byte"] < row["val_loss"] < 6.9  # below nats of 1000 equally likely tokens
    assert row["clipped_share"] > 0
    assert (tmp_path / "results" / "report" / "tokens.html").exists()

    call([*run, "--results", "never-stopped"], tmp_path)
    stores = [RunStore(str(tmp_path / name / "runs")) for name in ("results", "never-stopped")]
    pd.testing.assert_frame_equal(*(numbers(store) for store in stores))
    pd.testing.assert_frame_equal(*(store.curves() for store in stores))
