"""The report as its readers have it: in a real browser, from a file, without a network."""

import re

import pytest
from synthetic import fill

from analysis.pipeline import report_results
from analysis.report.index import index

pytestmark = pytest.mark.browser
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
ROWS = "#all-trials tbody tr"
TRIAL = "scion-64--3-1"  # drawn last, so above all others


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    fill(folder / "runs", widths=(32, 64), exponents=range(-12, -2))
    report_results(folder, "width", "laptop")
    (folder / "report" / "other.html").write_text("<head><title>Another · scionlab</title></head>")
    (folder / "report" / "index.html").write_text(index(folder / "report"))
    return folder


@pytest.fixture
def opened(browser, results):
    """Opens a page of the report; in the end nothing was asked of a network, and nothing was complained of."""
    contexts, asked, complaints = [], [], []

    def open_page(name="width", init="", viewport=DESKTOP, **settings):
        context = browser.new_context(viewport=viewport, **settings)
        contexts.append(context)
        context.route(re.compile("^(?!file:|data:|blob:)"), lambda route: route.abort())
        if init:
            context.add_init_script(init)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((results / "report" / f"{name}.html").as_uri())
        if name == "width" and settings.get("java_script_enabled", True):
            page.wait_for_selector(".dt-info")
            page.wait_for_selector("[data-chart=rates-spec] svg")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == asked_files(asked)


def asked_files(asked):
    """Pages that were opened: each is one file."""
    return len([url for url in asked if url.endswith(".html")])


def column(page, name):
    """Texts of a column of the page's rows that are shown."""
    names = page.locator("#all-trials thead tr").first.locator(".dt-column-title").all_inner_texts()
    return page.locator(f"{ROWS} > :nth-child({names.index(name) + 1})").all_inner_texts()


def point_at(page, trial):
    """Moves the pointer onto a trial's curve, near its end."""
    chart = page.locator("[data-chart=curves-spec]")
    chart.scroll_into_view_if_needed()
    x, y = chart.locator('path[stroke-width="9"]').evaluate_all(
        """(lines, trial) => {
            const line = lines.find((path) => path.__data__.datum.trial === trial);
            const at = line.getPointAtLength(line.getTotalLength() - 20), to = line.getScreenCTM();
            return [at.x * to.a + to.e, at.y * to.d + to.f];
        }""",
        trial,
    )
    for shift in (2, 0):
        page.mouse.move(x + shift, y)


def test_a_click_on_a_heading_sorts_by_numbers_and_says_so(opened):
    page = opened()
    head = page.locator("#all-trials thead th", has_text="learning rate").first
    for order, first in (("ascending", "2^-12"), ("descending", "2^-3")):
        head.click()
        page.wait_for_selector(f"#all-trials th[aria-sort={order}]")
        assert column(page, "learning rate")[0] == first


def test_the_search_field_filters_and_the_count_is_announced(opened):
    page = opened()
    page.get_by_label("Search").fill("scion 2^-5")
    assert set(column(page, "optimizer")) == {"scion"}
    assert set(column(page, "learning rate")) == {"2^-5"}
    info = page.locator(".dt-info")
    assert info.get_attribute("aria-live") == "polite"
    assert info.inner_text() == "1 to 4 of 4 trials (of 81 in all)"


def test_a_column_is_filtered_by_the_values_it_has(opened):
    page = opened()
    page.get_by_role("button", name="Filter by width").click()
    page.get_by_role("dialog", name="Filter by width").get_by_role("button", name="64", exact=True).click()
    page.keyboard.press("Escape")
    assert set(column(page, "width")) == {"64"}
    assert "of 40 trials" in page.locator(".dt-info").inner_text()


def test_a_curve_under_the_pointer_tells_its_trials_values(opened):
    page = opened()
    page.get_by_label("Search").fill(TRIAL)
    cells = page.locator(ROWS).first.locator("td").all_inner_texts()
    point_at(page, TRIAL)
    told = page.locator("#vg-tooltip-element")
    told.wait_for(state="visible", timeout=5000)
    assert told.locator("td.value").all_inner_texts()[0] == TRIAL
    assert [text for text in cells if text] == told.locator("td.value").all_inner_texts()[1:]


def test_a_curve_under_the_pointer_stands_out(opened):
    page = opened()
    thin = page.locator("[data-chart=curves-spec] .mark-line:not(:has([stroke-width='9'])) path")
    assert {thin.nth(i).get_attribute("opacity") for i in range(3)} == {"0.85"}
    point_at(page, TRIAL)
    page.locator("#vg-tooltip-element").wait_for(state="visible", timeout=5000)
    faded = thin.evaluate_all("paths => paths.map((path) => path.getAttribute('opacity'))")
    assert faded.count("0.85") == 1
    assert faded.count("0.12") == len(faded) - 1


def test_the_lists_below_a_chart_choose_trials(opened):
    page = opened()
    for chart, marks in (("curves", 'path[stroke-width="9"]'), ("rates", ".mark-symbol.role-mark path")):
        place = page.locator(f"[data-chart={chart}-spec]")
        drawn = place.locator(marks)
        assert drawn.count() == 80
        place.get_by_role("combobox", name="optimizer").select_option("scion")
        place.get_by_role("combobox", name="width").select_option("64")
        page.wait_for_function(
            "([chart, marks]) => document.querySelectorAll(`[data-chart=${chart}-spec] ${marks}`).length === 20",
            arg=[chart, marks],
        )


def test_a_plain_wheel_over_a_chart_scrolls_the_page(opened):
    page = opened()
    point_at(page, TRIAL)
    before = page.evaluate("scrollY")
    page.mouse.wheel(0, 150)
    page.wait_for_function("before => scrollY > before", arg=before)


def test_a_command_is_copied_by_keyboard(opened):
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    command = page.locator("#draw-transfer").inner_text()
    button = page.get_by_role("button", name=f"Copy the command {command}")
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == command
    assert command.endswith("--figure transfer")


def test_a_command_that_cannot_be_copied_is_selected(opened):
    page = opened(
        init="""Object.defineProperty(navigator, "clipboard", { value: { writeText: () => Promise.reject() } });
        document.execCommand = () => false;"""
    )
    page.locator("[data-copies=draw-transfer]").click()
    page.get_by_text("Selected: press").wait_for()
    assert page.evaluate("String(getSelection())") == page.locator("#draw-transfer").inner_text()


def becomes(page, colour):
    """Waits until the page has a colour behind its text."""
    page.wait_for_function("colour => getComputedStyle(document.body).backgroundColor === colour", arg=colour)


DARK, LIGHT = "rgb(20, 24, 29)", "rgb(255, 255, 255)"


@pytest.mark.parametrize("name", ["width", "index"])
def test_the_theme_is_the_systems_until_it_is_chosen_and_then_stays(opened, name):
    page = opened(name, color_scheme="dark")
    toggle = page.get_by_role("button", name="Dark")
    becomes(page, DARK)
    assert toggle.get_attribute("aria-pressed") == "true"
    page.emulate_media(color_scheme="light")
    becomes(page, LIGHT)
    page.emulate_media(color_scheme="dark")
    becomes(page, DARK)
    toggle.click()
    becomes(page, LIGHT)
    page.reload()
    becomes(page, LIGHT)
    assert toggle.get_attribute("aria-pressed") == "false"


def test_where_nothing_can_be_stored_the_toggle_still_works(opened):
    page = opened("index", init='Object.defineProperty(window, "localStorage", { get() { throw new Error("no"); } });')
    page.get_by_role("button", name="Dark").click()
    becomes(page, DARK)


CONTRASTS = """() => {
    const shade = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number).map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (node) => {
        const colour = getComputedStyle(node).backgroundColor;
        return /, 0\\)$/.test(colour) ? behind(node.parentElement) : colour;
    };
    const written = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const usable = (node) => node.checkVisibility() && !node.disabled && !node.closest(".disabled");
    const nodes = [...document.querySelectorAll("main *, .bar *, .chart text")];
    return nodes.filter((node) => written(node) && usable(node)).map((node) => {
        const style = getComputedStyle(node), svg = node.closest("svg");
        const [a, b] = [shade(svg ? style.fill : style.color), shade(behind(node))];
        return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.outerHTML.slice(0, 80)];
    }).sort((one, other) => one[0] - other[0]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["width", "index"])
def test_all_text_has_the_contrast_that_wcag_asks_for(opened, name, scheme):
    contrasts = opened(name, color_scheme=scheme).evaluate(CONTRASTS)
    assert len(contrasts) > 8
    assert contrasts[0][0] >= 4.5, contrasts[:3]


def test_the_keyboard_reaches_everything_and_leaves_again(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.evaluate("document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)")
    page.locator(".skip").focus()
    seen = []
    for _ in range(150):
        page.keyboard.press("Tab")
        here = page.evaluate(
            """() => { const a = document.activeElement;
            return a === document.body ? null : [a.id, a.className, a.getAttribute("aria-label"), a.tagName,
                a.getAttribute("href"), getComputedStyle(a).outlineStyle].map(String).join("|"); }"""
        )
        if here is None:
            break
        seen.append(here)
    else:
        pytest.fail(f"the keyboard does not leave the page: {seen[-3:]}")
    assert all("|none" not in each for each in seen), [each for each in seen if "|none" in each]
    order = ["index.html", "theme|", "#provenance", "Copy the command", "SELECT", "INPUT", "Activate to sort",
             "Filter by width"]  # fmt: skip
    found = [next((i for i, each in enumerate(seen) if part in each), part) for part in order]
    assert all(isinstance(i, int) for i in found), (found, seen)
    assert found[:4] == sorted(found[:4])


def test_a_heading_is_sorted_by_keyboard(opened):
    page = opened()
    page.get_by_role("button", name=re.compile("^width: ")).focus()
    for order in ("ascending", "descending"):
        page.keyboard.press("Enter")
        page.wait_for_selector(f'#all-trials th[aria-sort="{order}"]')  # the table is drawn after the key
    assert column(page, "width")[0] == "64"


def test_paper_has_all_rows_no_controls_and_nothing_cut(opened):
    sheet = {"width": 703, "height": 1032}  # A4 between the margins, in CSS pixels
    page = opened(viewport=sheet, color_scheme="dark")
    data = page.pdf(format="A4", outline=True, tagged=True)
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", data)) >= 5
    for heading in (b"Findings", b"All trials", b"Provenance"):
        assert b"(" + heading + b")" in data  # the outline's entries
    assert page.locator(ROWS).count() == 25  # as before
    becomes(page, DARK)

    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(ROWS).count() == 81
    becomes(page, LIGHT)
    for hidden in (".bar", ".contents", "#curves", ".dt-search", ".dt-paging", ".dtcc-button", "[data-copies]"):
        assert not page.locator(hidden).first.is_visible(), hidden
    assert page.locator("#draw-transfer").is_visible()
    right = "nodes => nodes.map((node) => node.getBoundingClientRect().right)"
    assert max(page.locator("main *").evaluate_all(right)) <= sheet["width"] + 1
    for kept in ("figure", "tr"):
        assert page.locator(kept).first.evaluate("node => getComputedStyle(node).breakInside") == "avoid"
    assert page.locator("thead").first.evaluate("node => getComputedStyle(node).display") == "table-header-group"


@pytest.mark.parametrize("name", ["width", "index"])
def test_a_narrow_phone_never_scrolls_sideways(opened, name):
    page = opened(name, viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    if name == "width":
        table = page.locator("div:has(> #all-trials)")
        assert table.evaluate("node => node.scrollWidth > node.clientWidth")
        svg = page.locator("[data-chart=rates-spec] svg").bounding_box()
        assert svg["x"] >= 0
        assert svg["x"] + svg["width"] <= PHONE["width"]


def test_without_javascript_all_but_the_widgets_is_there(opened):
    page = opened(java_script_enabled=False)
    assert page.locator(ROWS).count() == 81
    assert page.locator("img").count() == 3
    assert page.locator("[data-copies]").first.is_hidden()
    assert page.locator("#theme").is_hidden()
    assert page.locator("noscript p").first.bounding_box()["height"] > 10


def test_the_index_filters_its_experiments_and_says_how_many_are_left(opened):
    page = opened("index")
    assert page.locator(".card:visible").count() == 2
    page.get_by_label("Filter by name").fill("TRANSFER scion")
    assert page.locator(".card:visible h2").all_inner_texts() == ["Learning-rate transfer across width"]
    assert page.get_by_role("status").inner_text() == "1 of 2 experiments"
    page.get_by_label("Filter by name").fill("")
    assert page.locator(".card:visible").count() == 2
    page.get_by_role("link", name="Learning-rate transfer").click()
    page.get_by_role("link", name="All experiments").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Experiments"


def test_parts_and_pictures_have_names_for_those_who_do_not_see_them(opened):
    page = opened()
    for role in ("main", "navigation"):
        assert page.get_by_role(role).count() >= 1
    charts = page.locator("[role=graphics-document]:has(svg)").all()
    assert len(charts) == 2
    for place in charts:
        assert "The table of all trials" in place.get_attribute("aria-label")
    unnamed = """nodes => nodes.filter((node) => !(node.innerText || node.getAttribute("aria-label")
        || (node.labels && node.labels.length))).map((node) => node.outerHTML)"""
    assert page.locator("button, input, select, a, [role=button], img:not([alt])").evaluate_all(unnamed) == []
