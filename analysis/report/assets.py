"""JavaScript and CSS that a page carries in itself: ours, and libraries from Python packages, so that no page needs a
network. DataTables comes with itables, Vega, Vega-Lite and Vega-Embed with vl-convert.
"""

import re
from functools import cache
from pathlib import Path

from markupsafe import Markup

HERE = Path(__file__).parent


@cache
def own(name: str) -> Markup:
    """A file of this folder."""
    return Markup((HERE / name).read_text(encoding="utf-8"))


@cache
def datatables() -> dict[str, Markup]:
    """DataTables with its extensions: `css`, and `js`, an ES module whose default export is its class."""
    import itables.options

    bundle = Path(itables.options.dt_bundle)
    css = bundle.with_suffix(".css").read_text(encoding="utf-8")
    return {"css": Markup(css), "js": inline(bundle.read_text(encoding="utf-8"))}


@cache
def vega() -> Markup:
    """Vega, Vega-Lite and Vega-Embed as a script that defines `vegaEmbed`."""
    import vl_convert

    return inline(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def inline(script: str) -> Markup:
    """JavaScript as an HTML element `<script>` can hold it: what would end or comment out the element is escaped."""
    return Markup(re.sub(r"<(?=!--|/?script)", r"\\x3c", script, flags=re.IGNORECASE))
