"""Render the documentation: README, docs/ and the changelog as pages, and every docstring by pdoc. `make docs` runs it.

    python docs/tools/render.py [--output site] [--modules scionlab analysis experiments]

A Markdown file becomes a page at the same place (README.md becomes index.html), and docstrings are below api/. Links
between files are rewritten, those to modules lead to their page there. What pdoc warns of is an error, and so is a link
to nowhere. Nothing on the pages asks a network for anything.
"""

import argparse
import pkgutil
import posixpath
import re
import shutil
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from unittest.mock import patch
from urllib.parse import unquote, urldefrag, urlsplit

import markdown2
import pdoc
import pdoc.render
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pdoc.render_helpers import markdown_extensions
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = ("scionlab", "analysis", "experiments")
# Modules that need a package which may not be installed: left out where it is not.
OPTIONAL = {"scionlab.trackers.wandb": "wandb", "scionlab.trackers.tensorboard": "tensorboard"}
# Annotations that exist for type checkers alone: pandas has no generics when it runs.
ONLY_FOR_CHECKERS = r"Error parsing type annotation .*: type '(Series|Index)' is not subscriptable"
# What pdoc writes as the default of a field that has none.
REQUIRED = re.compile(r'\s*=\s*<span class="default_value">PydanticUndefined</span>')
MENU = {
    "The first hour": "README.md",
    "Pages": "docs/README.md",
    "Method": "docs/method.md",
    "Experiments": "docs/experiments/README.md",
    "Extending": "docs/extending.md",
    "Changes": "CHANGELOG.md",
}


def slug(text: str) -> str:
    """The anchor of a heading, as GitHub makes it: letters, digits, hyphens and underscores, in lower case."""
    plain = re.sub(r"<[^>]*>|[`*]|\[|\]\([^)]*\)", "", text).strip().lower()
    kept = (c for c in plain if c in " -_" or unicodedata.category(c)[0] in "LN")
    return "".join(kept).replace(" ", "-")


def sources() -> list[Path]:
    """The Markdown files that become pages, relative to the project's folder."""
    pages = [path.relative_to(ROOT) for path in sorted((ROOT / "docs").rglob("*.md"))]
    return [Path("README.md"), Path("CHANGELOG.md"), *pages]


def page_of(source: Path) -> Path:
    """Where a Markdown file's page lies in the site."""
    return source.with_name("index.html" if source.stem == "README" else f"{source.stem}.html")


class _Markdown(markdown2.Markdown):
    """pdoc's Markdown, with GitHub's anchors."""

    def header_id_from_text(self, text: str, prefix: str, n: int | None = None) -> str:
        return slug(text)


def to_html(text: str) -> str:
    """A page's body."""
    extras = {name: option for name, option in markdown_extensions.items() if name not in ("toc", "link-patterns")}
    return str(_Markdown(extras=extras).convert(text))


def target_of(link: str, source: Path, modules: Iterable[str] = MODULES) -> str:
    """A link of a Markdown file as it must be in its page; links to elsewhere stay."""
    address, fragment = urldefrag(link)
    if not address or urlsplit(address).scheme:
        return link
    place = Path(posixpath.normpath((source.parent / unquote(address)).as_posix()))
    if place.parts[0] in MODULES:
        name = place.with_suffix("")
        goal = Path("api") / (name.parent if name.name == "__init__" else name).with_suffix(".html")
        if place.parts[0] not in modules:
            goal = page_of(Path("README.md"))
    else:
        goal = page_of(place) if place.suffix == ".md" else place
    relative = posixpath.relpath(goal.as_posix(), page_of(source).parent.as_posix())
    return f"{relative}#{fragment}" if fragment else relative


def render_pages(output: Path, modules: Iterable[str] = MODULES) -> list[Path]:
    """Write the pages, and copy what they show."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.get_template("page.html.j2")
    colours = {
        theme: Markup(HtmlFormatter(style=style).get_style_defs(".pdoc-code"))
        for theme, style in (("light", "default"), ("dark", "github-dark"))
    }
    written = []
    for source in sources():
        text = (ROOT / source).read_text(encoding="utf-8")
        title = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
        body = re.sub(
            r'(?<= href=")[^"]*(?=")|(?<= src=")[^"]*(?=")',
            lambda link, source=source: target_of(link.group(), source, modules),
            to_html(text),
        )
        up = posixpath.relpath(".", page_of(source).parent.as_posix())
        page = output / page_of(source)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(
            template.render(
                title=title.group(1) if title else source.stem,
                body=Markup(body),
                menu={name: f"{up}/{page_of(Path(place)).as_posix()}" for name, place in MENU.items()},
                api=f"{up}/api/index.html",
                colours=colours,
            ),
            encoding="utf-8",
        )
        written.append(page)
    for page in written:
        _copy_what_it_names(page, output)
    return written


def _copy_what_it_names(page: Path, output: Path) -> None:
    """Pictures, and files of the project that are no pages."""
    found = parsed(page)
    for link in [*found.links, *found.loads]:
        goal = Path(posixpath.normpath((page.parent / unquote(urldefrag(link).url)).as_posix()))
        if goal.is_relative_to(output) and not goal.exists() and (ROOT / goal.relative_to(output)).is_file():
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / goal.relative_to(output), goal)


def render_api(output: Path, modules: Iterable[str] = MODULES) -> None:
    """Write pdoc's pages of these modules and all below them; whatever it warns of is an error."""
    left_out = [f"!{name}" for name, needs in OPTIONAL.items() if find_spec(needs) is None]
    pdoc.render.configure(docformat="markdown", footer_text="scionlab", show_source=True, search=True)
    with ExitStack() as stack:
        for module in map(import_module, modules):
            _show_all(module, stack)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=ONLY_FOR_CHECKERS)
        pdoc.pdoc(*modules, *left_out, output_directory=output / "api")
    for page in (output / "api").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(REQUIRED.sub("", text), encoding="utf-8")


def _show_all(module: ModuleType, stack: ExitStack) -> None:
    """Let pdoc see what it would not: modules that `__all__` leaves out, and names that are imported when asked for."""
    found = (f"{module.__name__}.{part.name}" for part in pkgutil.iter_modules(getattr(module, "__path__", [])))
    below = [name for name in found if not name.endswith("__main__") and find_spec(OPTIONAL.get(name, "os"))]
    named = getattr(module, "__all__", None)
    if named is not None:
        stack.enter_context(patch.dict(vars(module), {name: getattr(module, name) for name in named}))
        modules = [name.rpartition(".")[2] for name in below]
        stack.enter_context(patch.object(module, "__all__", list(dict.fromkeys([*named, *modules]))))
    for name in below:
        _show_all(import_module(name), stack)


class _Links(HTMLParser):
    """What a page links to, loads, and can be linked at."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name == "href" and value:
                (self.links if tag == "a" else self.loads).append(value)
            elif name == "src" and value:
                self.loads.append(value)


def parsed(page: Path) -> _Links:
    """A page's links, what it loads, and its anchors."""
    parser = _Links()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def broken(pages: Iterable[Path]) -> Iterator[str]:
    """What is wrong with the links of rendered pages: places that do not exist, and loads from a network."""
    for page in pages:
        found = parsed(page)
        for load in found.loads:
            if urlsplit(load).scheme in ("http", "https") or load.startswith("//"):
                yield f"{page}: loads {load}"
        for link in [*found.links, *(load for load in found.loads if not load.startswith("data:"))]:
            address, fragment = urldefrag(link)
            if urlsplit(address).scheme:
                continue
            goal = (page.parent / unquote(address)) if address else page
            if not goal.exists():
                yield f"{page}: {link}"
            elif fragment and goal.suffix == ".html" and unquote(fragment) not in parsed(goal).anchors:
                yield f"{page}: {link}: no such heading"


def main() -> None:
    """The whole site, and exit status 1 with the list if a link of a page leads nowhere."""
    parser = argparse.ArgumentParser(description="Render README, docs/ and docstrings.")
    parser.add_argument("--output", type=Path, default=ROOT / "site")
    parser.add_argument("--modules", nargs="+", default=list(MODULES))
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    render_api(asked.output, asked.modules)
    pages = render_pages(asked.output, asked.modules)
    wrong = list(broken(pages))
    print(*wrong or [asked.output / "index.html"], sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
