import pytest
from typer.testing import CliRunner

from scionlab.cli import app

BASE = ["--tokens", "1e9", "--base-tokens", "1e8", "--base-batch", "32", "--base-seq", "1024", "--base-lr", "1e-3"]


@pytest.mark.parametrize(("momentum", "asked"), [("0.9", True), ("0.85", True), ("0.1", False), ("1", False)])
def test_a_base_momentum_that_looks_like_pytorchs_is_questioned(momentum, asked):
    done = CliRunner().invoke(app, ["plan", *BASE, "--base-momentum", momentum])
    assert done.exit_code == 0, done.exception
    assert (f"momentum {momentum} is taken as the weight of the new gradient" in done.stderr) == asked
