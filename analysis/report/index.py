"""The page that lists the pages of a folder: each one's title, question and findings, read from its own head."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from markupsafe import Markup

from analysis.report.build import environment

SUFFIX = " · scionlab"


def index(folder: Path) -> str:
    """The index of a folder of pages, in the order of their names."""
    paths = [path for path in sorted(folder.glob("*.html")) if path.name != "index.html"]
    pages = [{"file": path.name, **_Head(path).as_dict()} for path in paths]
    return environment().get_template("index.html.j2").render(pages=pages)


class _Head(HTMLParser):
    """What a page's head says of it: its title, `<meta name=question>`, `<meta name=about>` with when it was run, its
    preset and its number of trials, and a `<meta name=finding>` for each finding.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.title, self.question = "", ""
        self.about: list[str] = []
        self.findings: list[dict[str, Markup]] = []
        self._in_title = False
        self.feed(path.read_text(encoding="utf-8").partition("</head>")[0])
        self.title = self.title.removesuffix(SUFFIX) or path.stem

    def as_dict(self) -> dict[str, Any]:
        """For the template."""
        return {"title": self.title, "question": self.question, "about": self.about, "verdicts": self.findings}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a `<meta>` carries, and where the title begins."""
        fields = dict(attrs)
        content = fields.get("content") or ""
        self._in_title = tag == "title"
        if fields.get("name") == "question":
            self.question = content
        elif fields.get("name") == "about":
            self.about = json.loads(content)
        elif fields.get("name") == "finding":
            finding = json.loads(content)
            texts = {**finding, "text": first_sentence(finding["text"])}
            self.findings.append({name: Markup(text) for name, text in texts.items()})

    def handle_data(self, data: str) -> None:
        """Take in the title."""
        if self._in_title:
            self.title += data

    def handle_endtag(self, tag: str) -> None:
        """The title ends with its tag."""
        self._in_title = False


def first_sentence(text: str) -> str:
    """Up to the first full stop before a capital; the text is HTML, as pages carry it."""
    return re.split(r"(?<=[.])\s+(?=[A-Z“])", text, maxsplit=1)[0]
