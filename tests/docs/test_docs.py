"""The documentation: its examples run, its commands exist, its links lead somewhere, and it renders."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from urllib.parse import unquote, urldefrag

import forked
import pytest
import typer
from markdown_it import MarkdownIt

from scionlab.cli import app
from scionlab.spec.loading import experiment_names, load_experiment

ROOT = Path(__file__).parents[2]


def tool(name):
    """A script of docs/tools as a module."""
    spec = spec_from_file_location(name, ROOT / "docs" / "tools" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate, render = tool("generate"), tool("render")
PAGES = {path.relative_to(ROOT).as_posix(): path for path in generate.pages()}
# Pages whose examples another test runs, because it asserts more about them.
RUN_BY = {
    "README.md": "test_readme.py",
    "docs/library.md": "test_library.py",
    "docs/own-model.md": "test_own_page.py",
    "docs/tokens.md": "test_tokens_page.py",
}
WITH_EXAMPLES = [name for name, path in PAGES.items() if "```python" in path.read_text() and name not in RUN_BY]
COMMANDS = typer.main.get_command(app).commands


def prose(text):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def shell_lines(text):
    """Command lines in blocks that are not Python, SQL or the like; continued lines as one."""
    for block in re.findall(r"^```(?:sh|bash|console|text)?\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.removeprefix("$ ").strip()


def invocations(text):
    """The arguments of every `scionlab …` of a page's blocks, up to a pipe or another command."""
    for line in shell_lines(text):
        called = re.match(r"(?:\w+=\S+ )*(?:\S*/)?scionlab (?!:)(.*)", line)
        if called:
            words = shlex.split(called.group(1), comments=True)
            ends = [i for i, word in enumerate(words) if re.fullmatch(r"[|;&<>]+.*|\d>.*", word)]
            yield words[: min(ends, default=len(words))]


def options_of(command):
    context = command.context_class(command)
    return {opt for parameter in command.get_params(context) for opt in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_page_run(name, tmp_path):
    done = forked.run([PAGES[name]], os.environ, tmp_path, program=forked.examples)
    assert done.returncode == 0, done.stderr


def test_examples_that_do_not_run_here_run_in_the_test_that_is_named():
    for page, test in RUN_BY.items():
        assert Path(page).name in (ROOT / "tests" / "docs" / test).read_text(), page


@pytest.mark.parametrize("name", PAGES)
def test_commands_of_a_page_are_known_with_their_options(name):
    for words in invocations(PAGES[name].read_text()):
        if words[0].startswith("-"):
            assert words[0] in ("--help", "-h", "--version", "--install-completion", "--show-completion"), words
            continue
        assert words[0] in COMMANDS, words
        COMMANDS[words[0]].make_context(words[0], words[1:])  # parses: raises for what it does not know, or misses


@pytest.mark.parametrize("name", PAGES)
def test_commands_in_a_sentence_are_known_with_their_options(name):
    for text in re.findall(r"`scionlab ([a-z][^`]*)`", prose(PAGES[name].read_text()).replace("\n", " ")):
        first, *words = re.findall(r"[^\s\[\]]+", text)
        for command in first.split("|"):
            assert command in COMMANDS, text
            for word in words:
                if word.startswith("-") and len(word) > 1:
                    assert word.partition("=")[0] in options_of(COMMANDS[command]), text


def test_an_option_that_does_not_exist_would_be_found():
    with pytest.raises(Exception, match="No such option"):
        COMMANDS["run"].make_context("run", ["width", "--no-such-option"])
    assert "--preset" in options_of(COMMANDS["run"])


@pytest.mark.parametrize("name", PAGES)
def test_make_targets_of_a_page_exist(name):
    makefile, text = (ROOT / "Makefile").read_text(), PAGES[name].read_text()
    lines = [line for line in shell_lines(text) if line.startswith("make ")]
    for line in lines + re.findall(r"`(make [a-z][^`]*)`", prose(text)):
        for word in shlex.split(line, comments=True)[1:]:
            if word in ("&&", ";", "|"):
                break
            if not re.match(r"-|[A-Z_]+=|…", word):
                assert re.search(rf"^{word}:", makefile, flags=re.MULTILINE), line


@pytest.mark.parametrize("name", PAGES)
def test_links_of_a_page_lead_somewhere(name):
    page = PAGES[name]
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        address, fragment = urldefrag(link)
        if address.startswith(("http:", "https:", "mailto:")):
            continue
        goal = (page.parent / unquote(address)) if address else page
        assert goal.exists(), link
        if fragment:
            headings = re.findall(r"^#+ (.+)$", prose(goal.read_text()), flags=re.MULTILINE)
            assert unquote(fragment) in map(render.slug, headings), link


@pytest.mark.parametrize("name", PAGES)
def test_what_follows_from_the_code_is_up_to_date(name):
    text = PAGES[name].read_text()
    assert generate.generated(text) == text, "run python docs/tools/generate.py"


@pytest.mark.parametrize("name", PAGES)
def test_formulas_are_not_taken_for_emphasis(name):
    rendered = MarkdownIt("commonmark").enable("table").render(PAGES[name].read_text())
    for emphasized in re.findall(r"<em>(.*?)</em>", rendered, flags=re.DOTALL):
        assert not re.search(r"[‖∇√Σℓ]", emphasized), emphasized


def test_every_page_is_listed_in_the_index():
    index = PAGES["docs/README.md"].read_text()
    for name in PAGES:
        inside = Path(name).relative_to("docs") if name.startswith("docs/") else None
        if inside and len(inside.parts) == 1 and inside.name != "README.md":
            assert f"]({inside})" in index, name


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_has_a_page_with_its_finding_and_its_grid(name):
    text = PAGES[f"docs/experiments/{name}.md"].read_text()
    assert "## Finding" in text
    assert re.search(r"^\| `laptop` \|", text, flags=re.MULTILINE)
    assert f"({name}.md)" in PAGES["docs/experiments/README.md"].read_text()
    if name != "transfer":
        assert load_experiment(name).study in text
        assert f"make sweep-{name}" in text


def test_the_site_renders_without_a_broken_link(tmp_path):
    script = ROOT / "docs" / "tools" / "render.py"
    some = ("scionlab.spec", "scionlab.geometry", "experiments")
    run = [sys.executable, str(script), "--output", str(tmp_path), "--modules", *some]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    spectral = (tmp_path / "api" / "scionlab" / "geometry" / "spectral.html").read_text()
    assert "<h1" in spectral
    assert "σ_max" in spectral
    spec = (tmp_path / "api" / "scionlab" / "spec.html").read_text()
    assert "PydanticUndefined" not in spec
    assert "token budget; rounded to whole steps" in spec
    method = (tmp_path / "docs" / "method.html").read_text()
    assert '<h2 id="weights-that-cannot-leave-their-ball">' in method
    assert "<table>" in method


def test_what_pdoc_warns_of_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "undocumented.py").write_text('def area(side: "Metres") -> float:\n    """Of a square."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserWarning, match="Metres"):
        render.render_api(tmp_path / "site", ["undocumented"])


def test_dead_links_missing_headings_and_loads_from_a_network_are_found(tmp_path):
    (tmp_path / "other.html").write_text('<h2 id="here">Here</h2>')
    page = tmp_path / "page.html"
    page.write_text(
        '<a href="other.html#here">a</a><a href="https://example.org">b</a><img src="data:image/png;base64,AA">'
        '<a href="gone.html">c</a><a href="other.html#gone">d</a><script src="https://example.org/x.js"></script>'
    )
    found = [message.removeprefix(f"{page}: ") for message in render.broken([page])]
    assert found == ["loads https://example.org/x.js", "gone.html", "other.html#gone: no such heading"]


def test_anchors_are_those_of_github():
    assert render.slug("μP in one `paragraph`") == "μp-in-one-paragraph"
    assert (
        render.slug("Batch size against token budget: the BST rule") == "batch-size-against-token-budget-the-bst-rule"
    )
    assert render.slug('["A link"](x.md), and more_') == "a-link-and-more_"
