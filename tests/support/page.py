"""Run the Python examples of a Markdown page one after the other, in the current directory: python page.py PAGE.md

They share their names. One that begins with `# name.py` is also saved under that name, and can be imported by the later
ones; a template that begins with `{# name #}` is saved alone. A traceback has the line of the page.
"""

import re
import sys
from pathlib import Path


def run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "__page__"}
    sys.path.insert(0, "")
    for example in re.finditer(r"```(python|jinja)\n(.*?)```", text, flags=re.DOTALL):
        language, code = example.groups()
        if saved := re.match(r"(?:# ([\w/]+\.py)|{# ([\w/.]+) #})\n", code):
            path = Path(saved.group(1) or saved.group(2))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(code, encoding="utf-8")
        if language != "python":
            continue
        before = "\n" * text.count("\n", 0, example.start(2))
        exec(compile(before + code, str(page), "exec"), names)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
