import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Rooms, and the modules each may import from the project. The command line is the only place that knows them all.
GEOMETRY = {"scionlab.geometry", "scionlab.errors"}
# Of the analysis: each of these may know those before it.
TABLES = {"analysis.tables", "scionlab.runs.store", "scionlab.runs.where", "scionlab.spec", "scionlab.errors"}
FITS = {"analysis.fits", *TABLES}
LAWS = {"analysis.laws", *FITS}
ROOMS = {
    "experiments": {"scionlab.spec", "scionlab.grid", "scionlab.tuning_spec", "experiments"},
    "scionlab.own": {"scionlab.own", "scionlab.errors"},
    "scionlab.geometry": GEOMETRY,
    "scionlab.spec.trial": {"scionlab.errors"},
    "scionlab.spec.identity": {"scionlab.spec.trial"},
    "scionlab.spec.experiment": {"scionlab.spec.trial", "scionlab.names", "scionlab.errors"},
    "scionlab.spec.grid": {"scionlab.spec", "scionlab.errors"},
    "scionlab.spec.tuning": {"scionlab.spec", "scionlab.names", "scionlab.errors"},
    "scionlab.roles": {"scionlab.roles", *GEOMETRY},
    "scionlab.optim.steps": {"scionlab.optim.steps", "scionlab.roles", *GEOMETRY},
    "scionlab.optim": {"scionlab.optim", "scionlab.roles", "scionlab.spec", "scionlab.own", *GEOMETRY},
    "scionlab.problems.data": {"scionlab.problems.data", "scionlab.own", "scionlab.errors"},
    "scionlab.problems.models": {
        "scionlab.problems.models", "scionlab.problems.data.base", "scionlab.spec", "scionlab.errors",
    },
    "scionlab.problems": {
        "scionlab.problems", "scionlab.optim", "scionlab.roles", "scionlab.own", "scionlab.spec", "scionlab.errors",
    },
    "scionlab.training.measure": {"scionlab.training.measure", *GEOMETRY},
    "scionlab.training": {
        "scionlab.training", "scionlab.problems", "scionlab.optim", "scionlab.roles", "scionlab.own", "scionlab.spec",
        *GEOMETRY,
    },
    "scionlab.homes": {"scionlab.errors"},
    "scionlab.runs": {"scionlab.runs", "scionlab.names", "scionlab.errors", "scionlab.homes"},
    "scionlab.sweep": {
        "scionlab.sweep", "scionlab.training", "scionlab.problems", "scionlab.optim", "scionlab.runs", "scionlab.spec",
        "scionlab.trackers", "scionlab.provenance", "scionlab.times", "scionlab.host", "scionlab.errors", "scionlab",
    },
    "scionlab.trackers": {"scionlab.trackers", "scionlab.errors"},
    "scionlab.doctor": {
        "scionlab.doctor", "scionlab.sweep", "scionlab.training", "scionlab.problems", "scionlab.runs", "scionlab.spec",
        "scionlab.provenance", "scionlab.host", "scionlab.errors", "scionlab",
    },
    "scionlab.tune": {
        "scionlab.tune", "scionlab.sweep", "scionlab.training", "scionlab.runs", "scionlab.spec", "scionlab.times",
        "scionlab.provenance", "scionlab.errors", "scionlab",
    },
    "analysis.tables": TABLES,
    "analysis.fits": FITS,
    "analysis.laws": LAWS,
    "analysis.drawing": {"analysis.drawing", *TABLES},
    "analysis.report": {"analysis.report", "analysis.drawing", *FITS},
    "analysis.studies": {"analysis.studies", "analysis.drawing", "analysis.report.texts", *LAWS},
    "analysis.origin": {
        "analysis.origin", "scionlab.spec.loading", "scionlab.spec", "scionlab.spec.tuning", *FITS,
    },
    "analysis.pipeline": {"analysis", *TABLES},
    # What Python callers and commands share: on top of the analysis.
    "scionlab.api": {
        "scionlab.api", "analysis", "scionlab.own.packages", "scionlab.homes", "scionlab.runs", "scionlab.errors",
    },
    "scionlab.reproduce": {"scionlab.reproduce", "scionlab.api", "analysis", "scionlab.errors"},
}  # fmt: skip
# Studies do not import each other, but for these.
STUDIES = sorted(path.parent.name for path in (ROOT / "analysis" / "studies").glob("*/fit.py"))
BORROWED: set[tuple[str, str]] = set()
# Who may import these at all.
LIBRARIES = {
    "torch": (
        "scionlab.geometry",
        "scionlab.roles",
        "scionlab.optim",
        "scionlab.problems",
        "scionlab.own.randomness",
        "scionlab.training",
        "scionlab.sweep",
        "scionlab.tune",
        "scionlab.cli.explain",
        "scionlab.trackers.tensorboard",
        "scionlab.doctor",
    ),
    "ray": ("scionlab.sweep.ray_tune", "scionlab.sweep.cluster", "scionlab.tune.ray_search"),
    "optuna": ("scionlab.tune",),
    "pyarrow": ("scionlab.runs.store", "scionlab.runs.schema", "analysis.tables.foreign.table"),
    "matplotlib": ("analysis.drawing", *(f"analysis.studies.{name}.figures" for name in STUDIES)),
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


@pytest.mark.parametrize("study", STUDIES)
def test_studies_do_not_import_each_other(study):
    own = f"analysis.studies.{study}"
    for name, path in modules():
        for imported in imports(path) if inside(name, own) else ():
            alone = not inside(imported, "analysis.studies") or inside(imported, own)
            assert alone or (study, imported) in BORROWED, f"{name} imports {imported}"


def test_a_study_is_a_folder_and_a_line():
    from analysis.studies.table import STUDIES as TABLE

    assert [name.replace("-", "_") for name in sorted(TABLE)] == STUDIES
    for study in TABLE.values():
        assert study.figures()
        assert Path(study.page().__file__).with_name("page.html.j2").exists()


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_stay_in_their_rooms(library):
    for name, path in modules():
        if any(inside(imported, library) for imported in imports(path)):
            assert any(inside(name, room) for room in LIBRARIES[library]), f"{name} imports {library}"


@pytest.mark.parametrize(
    "package", ["analysis.pipeline", "analysis.report.build", "experiments.width", "scionlab.runs.store"]
)
def test_analysis_and_specs_load_neither_torch_nor_ray(package):
    code = f"import sys, {package}; print([m for m in ('torch', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_names_of_studies_are_there_without_scipy():
    code = "import sys, analysis.studies.table; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_files_can_be_read_in_one_sitting():
    too_long = {str(p): n for _, p in modules() if (n := len(p.read_text().splitlines())) > 350}
    assert not too_long


def test_every_package_and_every_file_of_it_is_installed():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package in ("scionlab", "experiments", "analysis"):
        assert f"{package}*" in setuptools["packages"]["find"]["include"]
        for path in (path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix != ".pyc"):
            assert (path.parent / "__init__.py").exists(), f"{path.parent} is no package"
            kept = any(path.match(pattern) for pattern in ("*.py", *setuptools["package-data"]["*"]))
            assert kept, f"{path} is missing from [tool.setuptools.package-data]"
