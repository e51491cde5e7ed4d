import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Rooms, and the modules each may import from the project. The command line is the only place that knows them all.
GEOMETRY = {"scionlab.geometry", "scionlab.errors"}
# What code of the caller's needs: to be found and told about, hashed, and given random states of its own.
OWN_CODE = {"scionlab.loading_code", "scionlab.code_identity", "scionlab.randomness"}
ROOMS = {
    "experiments": {"scionlab.spec", "scionlab.tuning_spec", "scionlab.grid", "experiments"},
    "scionlab.tuning_spec": {"scionlab.spec", "scionlab.errors"},
    "scionlab.geometry": GEOMETRY,
    "scionlab.optim": {"scionlab.optim", "scionlab.spec", *GEOMETRY},
    "scionlab.models": {"scionlab.models", "scionlab.data.base", "scionlab.spec", "scionlab.errors"},
    "scionlab.data": {"scionlab.data", "scionlab.errors", *OWN_CODE},
    "scionlab.loading_code": {"scionlab.errors"},
    "scionlab.code_identity": set(),
    "scionlab.randomness": set(),
    "scionlab.own": {
        "scionlab.data", "scionlab.models", "scionlab.optim", "scionlab.spec", "scionlab.errors", *OWN_CODE,
    },
    "scionlab.probe": GEOMETRY,
    "scionlab.watch": GEOMETRY,
    "scionlab.prepare": {
        "scionlab.data", "scionlab.models", "scionlab.optim", "scionlab.watch", "scionlab.spec", "scionlab.errors",
        "scionlab.own", "scionlab.code_identity", "scionlab",
    },
    "scionlab.training": {
        "scionlab.training", "scionlab.data", "scionlab.optim", "scionlab.prepare", "scionlab.probe", "scionlab.spec",
        "scionlab.errors", "scionlab.watch", "scionlab.own", "scionlab.loading_code", "scionlab.randomness",
    },
    "scionlab.store": {"scionlab.store", "scionlab.schema", "scionlab.errors"},
    "scionlab.sweep": {
        "scionlab.sweep", "scionlab.prepare", "scionlab.training", "scionlab.probe", "scionlab.data", "scionlab.store",
        "scionlab.spec", "scionlab.errors", "scionlab.provenance", "scionlab.trackers", "scionlab.times",
        "scionlab.schema", "scionlab.own", "scionlab",
    },
    "scionlab.trackers": {"scionlab.trackers", "scionlab.errors"},
    "scionlab.status": {"scionlab.store", "scionlab.errors"},
    "scionlab.export": {"scionlab.store", "scionlab.errors"},
    "scionlab.doctor": {
        "scionlab.doctor", "scionlab.data", "scionlab.training", "scionlab.sweep", "scionlab.spec", "scionlab.store",
        "scionlab.schema", "scionlab.provenance", "scionlab.errors", "scionlab",
    },
    "scionlab.tune": {
        "scionlab.tune", "scionlab.tuning_spec", "scionlab.sweep", "scionlab.training", "scionlab.prepare",
        "scionlab.store", "scionlab.spec", "scionlab.times", "scionlab.errors", "scionlab.provenance", "scionlab",
    },
    "analysis": {"analysis", "scionlab.store", "scionlab.where", "scionlab.errors"},
}  # fmt: skip
# Who may import these at all.
LIBRARIES = {
    "torch": (
        "scionlab.geometry",
        "scionlab.optim",
        "scionlab.models",
        "scionlab.data",
        "scionlab.probe",
        "scionlab.watch",
        "scionlab.prepare",
        "scionlab.own",
        "scionlab.randomness",
        "scionlab.training",
        "scionlab.sweep",
        "scionlab.tune",
        "scionlab.cli.explain",
        "scionlab.trackers.tensorboard",
        "scionlab.doctor",
    ),
    "ray": ("scionlab.sweep.ray_tune", "scionlab.sweep.cluster", "scionlab.tune.ray_search"),
    "optuna": ("scionlab.tune",),
    "pyarrow": ("scionlab.store", "scionlab.schema", "analysis.foreign_table"),
    "matplotlib": ("analysis.figures",),
    "altair": ("analysis.report.charts",),
    "vl_convert": ("analysis.report.assets",),
    "itables": ("analysis.report.assets",),
}


def modules():
    for package in ("scionlab", "experiments", "analysis"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, path


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def inside(name, room):
    return name == room or name.startswith(room + ".")


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_one_way(room):
    found = [(name, path) for name, path in modules() if inside(name, room)]
    assert found
    for name, path in found:
        for imported in imports(path):
            if imported.split(".")[0] in ("scionlab", "experiments", "analysis"):
                allowed = any(imported == a if a == "scionlab" else inside(imported, a) for a in ROOMS[room])
                assert allowed, f"{name} imports {imported}"


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_stay_in_their_rooms(library):
    for name, path in modules():
        if any(inside(imported, library) for imported in imports(path)):
            assert any(inside(name, room) for room in LIBRARIES[library]), f"{name} imports {library}"


@pytest.mark.parametrize(
    "package", ["analysis.pipeline", "analysis.report.build", "experiments.width", "scionlab.store"]
)
def test_analysis_and_specs_load_neither_torch_nor_ray(package):
    code = f"import sys, {package}; print([m for m in ('torch', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_can_be_read_in_one_sitting():
    too_long = {str(p): n for _, p in modules() if (n := len(p.read_text().splitlines())) > 350}
    assert not too_long


def test_every_package_is_installed():
    listed = (ROOT / "pyproject.toml").read_text()
    for package in ("scionlab", "experiments", "analysis"):
        for path in (ROOT / package).rglob("__init__.py"):
            name = ".".join(path.parent.relative_to(ROOT).parts)
            assert f'"{name}"' in listed, f"{name} is missing from [tool.setuptools] packages"
