import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = [
    "setup", "test", "check", "smoke", "sweep-width", "sweep-batch", "sweep-seq", "sweep-restarts", "fit-lr-transfer",
    "sweep-width-mlp", "sweep-width-cnn", "sweep-depth", "sweep-batch-tolerance", "sweep-momentum", "sweep-norm-choice",
    "sweep-coordinates", "sweep-norm-control", "sweep-epochs", "sweep-clipping", "sweep-schatten",
    "sweep-schatten-regime", "sweep-schatten-warmup",
    "sweep-norm-transfer", "sweep-schedules", "sweep-warmup", "sweep-soda", "sweep-gradient-noise",
    "sweep-heavy-tails", "sweep-nesterov", "sweep-convergence",
    "sweep-nanogpt", "sweep-shallow-nanogpt", "sweep-airbench", "sweep-deit",
    "tune-proxy", "transfer", "fit-batch-scaling", "figures", "report", "reproduce", "clean", "bench", "coverage",
    "docs",
]  # fmt: skip


def make(*arguments):
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_bare_make_explains_every_target():
    listed = make().stdout
    for target in TARGETS:
        assert any(line.split()[:1] == [target] and len(line.split()) > 3 for line in listed.splitlines()), target


def test_clean_removes_what_runs_made_and_nothing_else(tmp_path):
    results = tmp_path / "my results"
    for name in ("runs", "fits", "figures", "report", "notes"):
        (results / name).mkdir(parents=True)
    (tmp_path / "my" / "runs").mkdir(parents=True)
    assert make("clean", f"RESULTS={results}").returncode == 0
    assert [path.name for path in results.iterdir()] == ["notes"]
    assert (tmp_path / "my" / "runs").exists()


def test_clean_without_a_folder_is_refused():
    done = make("clean", "RESULTS=")
    assert done.returncode == 2
    assert "RESULTS is empty" in done.stderr


@pytest.mark.parametrize(
    "target",
    [
        "fit-lr-transfer",
        "fit-batch-scaling",
        "figures",
        "report",
        "reproduce",
        "sweep-width",
        "sweep-batch",
        "bench",
        "tune-proxy",
        "transfer",
    ],
)
def test_a_folder_with_a_space_is_one_argument(target):
    printed = make("-n", target, "RESULTS=/some/where else").stdout
    assert '--results "/some/where else"' in printed
