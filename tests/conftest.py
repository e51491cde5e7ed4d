"""Small worlds for the tests: a text, an experiment on it, a store."""

import gc
import os
import shutil
import signal
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scionlab.spec import Experiment, Preset, Trial

# Ray's workers are nice by default: beside the other processes of a test run they would get next to no time.
os.environ.setdefault("RAY_worker_niceness", "0")
# Where Debian, Ubuntu, Fedora and macOS put a Chromium that a package manager installed.
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
WORDS = ["the", "state", "of", "the", "union", "is", "strong", "and", "its", "people", "are", "free", "to", "speak"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, which wait for other processes: else one worker is left alone with them."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Modules and tests stay: Python need not look again and again for what of them could be freed."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 kB of repetitive words, enough for training and validation windows."""
    path = tmp_path_factory.mktemp("text") / "words.txt"
    lines = [" ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 12)) for i in range(1, 1200)]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="session")
def tiny(text_file: Path) -> Callable[..., Trial]:
    """A trial that takes a fraction of a second; fields can be overridden."""

    def make(**changes: object) -> Trial:
        fields: dict[str, object] = {
            "optimizer": "scion",
            "lr": 2**-5,
            "width": 16,
            "head_dim": 8,
            "depth": 1,
            "batch_size": 4,
            "seq_len": 16,
            "tokens": 16 * 64,
            "val_tokens": 256,
            "val_seq_len": 16,
            "data": f"path:{text_file}",
            "device": "cpu",
        }
        return Trial(**{**fields, **changes})

    return make


@pytest.fixture
def experiment(tiny: Callable[..., Trial]) -> Callable[..., Experiment]:
    """An experiment called "tiny" with one preset "smoke" of the given trials."""

    def make(*trials: Trial) -> Experiment:
        presets = {"smoke": Preset(trials=trials or (tiny(),))}
        return Experiment(name="tiny", title="A tiny sweep", question="Does it run?", presets=presets)

    return make


@pytest.fixture
def spec_file(tmp_path: Path, text_file: Path) -> Callable[..., Path]:
    """A user's own experiment file: two widths × `rates` × `seeds`, each trial of `steps` steps."""

    def write(rates: list[float], seeds: int = 2, steps: int = 16, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(
            textwrap.dedent(
                f"""
                from scionlab.spec.grid import trials
                from scionlab.spec import Experiment, Preset

                FIXED = dict(
                    optimizer="scion", head_dim=8, depth=1, batch_size=4, seq_len=16, tokens={steps} * 64,
                    val_tokens=256, val_seq_len=16, data="path:{text_file}", device="cpu",
                )
                SPEC = Experiment(
                    name="mine", title="Mine", question="Does it run?",
                    presets={{"smoke": Preset(trials=trials(FIXED, width=[16, 32], lr={rates}, seed=range({seeds})))}},
                )
                """
            )
        )
        return path

    return write


@pytest.fixture
def clean_environment() -> dict[str, str]:
    """The environment of a user's shell, for subprocesses: no test runner's variables."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "RAY", "TUNE"))}


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[Any]:
    """A Ray that tests share, which starts when it is first asked for."""
    from shared_ray import sharing

    with sharing() as shared:
        yield shared


@pytest.fixture
def ray_here(shared_ray: Any) -> str:
    """Its address."""
    address: str = shared_ray.address()
    return address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium under Playwright; a test without one is skipped."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine: install it with the system's package manager, as .ci does")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Runs `scionlab ARGUMENTS` in this process, in an empty folder."""
    from scionlab.cli import main

    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["scionlab", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(ended.value.code or 0), *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, handler)
