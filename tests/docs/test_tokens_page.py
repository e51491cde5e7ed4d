"""docs/tokens.md, followed to the letter with the smoke preset, and killed on its way."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from followed import Page, asked
from forked import Forked
from stores import numbers

from scionlab.runs.store import RunStore

PAGE = Page("tokens.md")


def start(arguments, folder):
    return Forked(asked(arguments), os.environ, folder, folder / "output.txt")


def call(arguments, folder):
    code = start(arguments, folder).wait(timeout=300)
    assert code == 0, (arguments, (folder / "output.txt").read_text())


@pytest.mark.slow
def test_the_page_leads_from_a_text_to_a_run_that_is_killed_and_goes_on(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("tokenizers")
    PAGE.write_files(tmp_path)
    make_text, tokenize, run, report, export, _ = PAGE.commands("scionlab|python")
    assert run[-4:-1] == ["--micro-batch", "4", "--checkpoint-minutes"]
    subprocess.run([sys.executable, *make_text], cwd=tmp_path, check=True)
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
    assert (row["batch_size"], row["micro_batch"]) == (8, 4)
    assert (tmp_path / "results" / "report" / "tokens.html").exists()

    call([*run, "--results", "never-stopped"], tmp_path)
    stores = [RunStore(str(tmp_path / name / "runs")) for name in ("results", "never-stopped")]
    pd.testing.assert_frame_equal(*(numbers(store) for store in stores))
    pd.testing.assert_frame_equal(*(store.curves() for store in stores))
