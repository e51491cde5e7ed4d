"""`scionlab doctor`: what is wrong is found, and said with what to do."""

import json
import shutil
from collections import namedtuple

import pytest
from synthetic import fill

from scionlab.doctor import machine, software, storage

Usage = namedtuple("Usage", "total used free")


def checked(call, *arguments):
    done = call("doctor", "--json", *arguments)
    found = json.loads(done.out)
    levels = [check["level"] for check in found["checks"]]
    assert (found["problems"], found["warnings"]) == (levels.count("problem"), levels.count("warning"))
    assert done.code == (1 if found["problems"] else 0)
    assert all(check["advice"] for check in found["checks"] if check["level"] != "ok")
    return {check["name"]: check for check in found["checks"]}


def test_an_installation_that_passes_its_tests_has_no_problem(call, tmp_path):
    found = checked(call)
    names = [
        "python",
        "torch",
        "compiler",
        "gpu",
        "ray",
        "figures",
        "tensorboard",
        "wandb",
        "mnist",
        "tokenize",
        "memory",
        "text",
        "results",
        "store",
    ]
    assert set(names) <= set(found)
    assert [check for check in found.values() if check["level"] == "problem"] == []
    assert not (tmp_path / "results").exists()  # it looks, and makes nothing


def test_every_check_is_a_line(call):
    done = call("doctor")
    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[0].startswith("ok      python: 3.")
    assert lines[-1].startswith("0 problems, ")


def test_a_store_with_torn_and_left_over_files_is_told_of(call, tmp_path):
    store = fill(tmp_path / "results" / "runs", optimizers=("scion",), widths=(32,), seeds=1)
    for table, name in (("runs", "torn.parquet"), ("curves", "foreign.parquet")):
        (store.root / table / name).write_bytes(b"PAR1 and then nothing")
    (store.root / "runs" / ".abc.123.tmp").write_bytes(b"")
    finished, failed = sorted(store.finished())[0], "0" * 16
    for trial in (finished, failed):
        store.checkpoints.save(trial, b"of a trial under way")
    (store.root / "checkpoints" / ".abc.123.tmp").write_bytes(b"")
    found = checked(call)
    assert found["store"]["level"] == "problem"
    assert "2 files cannot be read" in found["store"]["found"]
    assert "runs/torn.parquet" in found["store"]["found"]
    assert "curves/foreign.parquet" in found["store"]["found"]
    assert "call its sweep again" in found["store"]["advice"]
    left = ["checkpoints/.abc.123.tmp", f"checkpoints/{finished}.pt", "runs/.abc.123.tmp"]
    assert found["temporaries"]["found"] == ", ".join(left)
    assert "remove them when no sweep is running" in found["temporaries"]["advice"]
    for name in ("runs/torn.parquet", "curves/foreign.parquet", *left):
        (store.root / name).unlink()
    found = checked(call)
    assert found["store"]["found"] == "7 finished trials, all files can be read"
    assert "temporaries" not in found


def test_a_store_of_many_small_files_is_a_warning(call, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "MANY_FILES", 5)
    fill(tmp_path / "results" / "runs", optimizers=("scion",), widths=(32,), seeds=1)
    assert checked(call)["small files"]["advice"] == "scionlab compact --results results"


@pytest.mark.parametrize(("free", "level"), [(5e9, "ok"), (5e8, "warning"), (1e7, "problem")])
def test_a_full_disk_is_told_of(free, level, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1e12, 1e12 - free, free))
    (finding,) = storage.results_folder(tmp_path / "results")
    assert finding.level == level


def test_a_folder_that_cannot_be_written_to_is_a_problem(call, tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage.tempfile, "TemporaryFile", refuse)
    (finding,) = storage.results_folder(tmp_path / "not" / "there")
    assert finding.level == "problem"
    assert finding.found == f"cannot write to {tmp_path}: Permission denied"


def test_without_a_compiler_trials_are_only_slower(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    finding = software.compiler()
    assert finding.level == "warning"
    assert "set CXX" in finding.advice


def test_a_gpu_that_torch_does_not_see_is_a_warning(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert software.gpu().found == "none: trials run on the CPU"
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert software.gpu().level == "warning"


@pytest.mark.parametrize(("half", "level"), [(True, "ok"), (False, "warning")])
def test_a_gpu_without_bfloat16_is_a_warning(half, level, monkeypatch):
    import torch

    for name, value in {
        "is_available": True,
        "get_device_capability": (8, 0) if half else (7, 5),
        "is_bf16_supported": half,
        "device_count": 2,
        "get_device_name": "Card",
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    finding = software.gpu()
    assert finding.level == level
    assert finding.found.startswith(f"2 × Card ({'8.0' if half else '7.5'}), bfloat16 {'yes' if half else 'no'}")


def test_another_text_is_a_problem(monkeypatch):
    monkeypatch.setattr(software, "SOTU_SHA256", "0" * 64)
    finding = software.text()
    assert finding.level == "problem"
    assert "instead of 000000000000…" in finding.found


def test_ray_that_cannot_be_imported_leaves_the_other_executor(monkeypatch):
    def broken(name):
        raise ImportError("libfoo.so: cannot open shared object file")

    monkeypatch.setattr(software.importlib, "import_module", broken)
    finding = software.ray_imports()
    assert (finding.level, finding.found) == ("warning", "ImportError: libfoo.so: cannot open shared object file")
    assert "--executor inline" in finding.advice


def test_memory_is_the_containers_if_that_is_less(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable:    8000000 kB\n")
    assert machine.free_memory(tmp_path) == 8e6 * 1024
    (tmp_path / "sys/fs/cgroup/memory.current").write_text("1000000000\n")
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert machine.free_memory(tmp_path) == 8e6 * 1024
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("3000000000\n")
    assert machine.free_memory(tmp_path) == 2e9


def test_too_little_memory_says_how_many_workers_fit(monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 1.5e9)
    monkeypatch.setattr(machine.provenance, "cpu_count", lambda: 8)
    finding = machine.memory()
    assert finding.level == "warning"
    assert finding.advice.startswith("run sweeps with --workers 2,")


def test_small_shared_memory_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(64e6, 0, 64e6))
    assert "--shm-size" in machine.shared_memory(tmp_path).advice
    assert machine.shared_memory(tmp_path / "absent").level == "ok"
