"""The benchmarks: what they write, and how they time."""

import json
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are not installed

from benchmarks import shards  # noqa: E402
from benchmarks.__main__ import BENCHMARKS, main  # noqa: E402
from benchmarks.timing import compared, interleaved  # noqa: E402


def test_a_benchmark_writes_its_rows_with_where_they_come_from(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "optimizer-step", "--quick", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "bench").iterdir()] == ["optimizer-step.json"]
    found = json.loads((tmp_path / "bench" / "optimizer-step.json").read_text())
    assert found["name"] == "optimizer-step"
    assert found["command"] == "python -m benchmarks optimizer-step --quick"
    assert {"machine", "cores", "device", "torch", "git_commit", "started_at"} < set(found)
    values = {row["variant"]: row["value"] for row in found["rows"]}
    assert {"scion, plain", "scion", "muon + adamw", "adamw"} <= set(values)
    for row in found["rows"]:
        assert {"case", "variant", "value", "unit", "ratio", "against"} <= set(row)
        assert row["value"] > 0
        if row["against"] is None:
            assert row["ratio"] is None
        else:
            assert row["ratio"] == pytest.approx(values[row["against"]] / row["value"], rel=1e-12)  # roundings
        assert row["variant"] in done.stdout


def test_the_benchmark_of_shards_finds_memory_flat_and_goes_on_with_the_same_batch():
    rows = {row["variant"]: row for row in shards.measure(quick=True)}
    for variant in ("without a manifest", "with a manifest"):
        assert rows[f"{variant}: memory after 200 batches"]["value"] < 8  # MB, of 26 that were read
        assert rows[f"{variant}: first batch, cold"]["unit"] == "s"


def test_a_name_that_is_none_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["optimiser-step", "--results", str(tmp_path)])
    assert refused.value.code == 2
    assert "no benchmark is called 'optimiser-step'; choose from optimizer-step" in capsys.readouterr().err
    assert not (tmp_path / "bench").exists()


def test_variants_take_turns_after_they_have_warmed_up(monkeypatch):
    monkeypatch.setattr("benchmarks.timing.SHORTEST_SECONDS", 0.0)  # one call a timing
    called: list[str] = []
    seconds = interleaved({name: lambda name=name: called.append(name) for name in ("a", "b")}, rounds=4)
    assert [(name, len(list(calls))) for name, calls in groupby(called[:6])] == [("a", 3), ("b", 3)]
    assert called[6:] == ["a", "b"] * 4
    assert set(seconds) == {"a", "b"}


def test_short_calls_are_timed_several_at_a_time(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: next(clock) / 1000)  # every timing takes 1 ms
    called: list[str] = []
    assert interleaved({"a": lambda: called.append("a")}, rounds=2) == {"a": pytest.approx(1e-3 / 5)}
    assert len(called) == 3 + 2 * 5  # 5 ms at least, of calls that took 1


def test_a_ratio_says_how_much_faster_a_variant_is():
    rows = compared("case", {"slow": 0.3, "fast": 0.1}, {"slow": None, "fast": "slow"}, note="why")
    assert [(row["value"], row["ratio"], row["against"]) for row in rows] == [
        (300, None, None),
        (100, pytest.approx(3), "slow"),
    ]
    assert {row["note"] for row in rows} == {"why"}


def test_every_benchmark_has_its_module():
    for module in BENCHMARKS.values():
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


def test_a_floor_stops_the_rows_of_rare_tokens():
    from benchmarks.rare_tokens import train

    *_, free = train(floor=0.0, constrained=False, steps=40, seed=0)
    *_, floored = train(floor=1e-2, constrained=False, steps=40, seed=0)
    assert 1 < floored < free


def test_numbers_that_are_others_are_named(tmp_path, capsys):
    from benchmarks import golden

    file, what = tmp_path / "golden.json", ["--how", "eager", "--only", "coordinates"]
    assert golden.main(["write", str(file), *what]) == 0
    kept = json.loads(file.read_text())
    assert golden.main(["compare", str(file)]) == 0
    changed, other = sorted(kept["numbers"]["eager"])[:2]
    kept["numbers"]["eager"][changed] |= {"curve.train_loss": "0", "val_loss": "1.5"}
    del kept["numbers"]["eager"][other]["train_loss"]
    kept["numbers"]["eager"][other]["gone"] = "0"
    file.write_text(json.dumps(kept))
    assert golden.main(["compare", str(file)]) == 1
    count = sum(map(len, kept["numbers"].values()))
    printed = capsys.readouterr().out
    assert f"eager {changed}: val_loss, curve.train_loss; validation loss 1.5 before, " in printed
    assert f"eager {other}" not in printed
    assert "on one side only, and not compared: gone" in printed
    assert f"{count - 1} of {count} are equal bit for bit" in printed
