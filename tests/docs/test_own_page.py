"""docs/own-model.md, followed to the letter, but with the smoke preset."""

import os
import re

import forked
import pytest
from followed import Page, asked

PAGE = Page("own-model.md")


def call(arguments, folder):
    return forked.run(asked(arguments), os.environ, folder)


def test_the_page_gives_a_report_on_a_model_that_nobody_here_wrote(tmp_path):
    pytest.importorskip("transformers")
    PAGE.write_files(tmp_path)
    unruled, ruled, run, report = (call(arguments, tmp_path) for arguments in PAGE.commands())
    assert unruled.returncode == 2
    example = re.search(r"--rule '(.*norm.*=gain)'", unruled.stderr)[1]
    assert re.fullmatch(example.removesuffix("=gain"), "model.layers.0.input_layernorm.weight")
    assert (ruled.returncode, run.returncode, report.returncode) == (0, 0, 0), run.stderr + report.stderr
    assert "model.layers.1.input_layernorm.weight" in ruled.stdout
    assert "trained 22 of 22 trials (22 ok)" in run.stdout
    page = (tmp_path / "results" / "report" / "llama.html").read_text()
    assert "Does the best learning rate of the narrow model suit the wide one?" in page
    assert "my_model:build" in page
