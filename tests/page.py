"""Run the Python examples of a Markdown page one after the other, in the current directory: python page.py PAGE.md

They share their names. One that begins with `# name.py` is also saved under that name, and can be imported by the later
ones. A traceback has the line of the page.
"""

import re
import sys
from pathlib import Path


def run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "__page__"}
    sys.path.insert(0, "")
    for example in re.finditer(r"```python\n(.*?)```", text, flags=re.DOTALL):
        code = example.group(1)
        if saved := re.match(r"# (\w+\.py)\n", code):
            Path(saved.group(1)).write_text(code, encoding="utf-8")
        before = "\n" * text.count("\n", 0, example.start(1))
        exec(compile(before + code, str(page), "exec"), names)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
