import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from PIL import Image
from planted import Law, planted_runs
from synthetic import fill, fill_batch, fill_comparison, fill_restarts, sweep_row
from synthetic_layers import (
    fill_convergence,
    fill_coordinate,
    fill_gradient_noise,
    fill_norm_control,
    fill_norm_transfer,
)
from typer.testing import CliRunner

from analysis.drawing import style
from analysis.fits.outcomes import Outcome
from analysis.pipeline import draw_results, fit_results, report_results
from analysis.report.build import POLICY
from analysis.report.index import first_sentence, index
from analysis.studies.table import STUDIES
from analysis.tables.sweep import load_sweep
from scionlab.cli import app
from scionlab.errors import UserError

STUDY_OF = {
    "width": "lr-transfer",
    "batch": "batch-scaling",
    "restarts": "restarts",
    "arms": "comparison",
    "coordinates": "coordinate-check",
    "norm-control": "norm-control",
    "norm-transfer": "norm-transfer",
    "gradient-noise": "gradient-noise",
    "convergence": "convergence",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    fill(folder / "runs", optimizers=("adam", "scion", "mine"))
    fill_batch(folder / "runs")
    fill_restarts(folder / "runs")
    fill_comparison(folder / "runs", rates=range(-7, -2))
    for fill_layers in (fill_coordinate, fill_norm_control, fill_norm_transfer, fill_gradient_noise, fill_convergence):
        fill_layers(folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("analysis.studies.batch_scaling.surface.RESAMPLES", 20)
        patch.setattr("analysis.studies.batch_scaling.surface.STARTS", 8)
        for study in ("batch_scaling", "comparison", "norm_transfer"):
            patch.setattr(f"analysis.studies.{study}.fit.RESAMPLES", 200)
        for experiment in STUDY_OF:
            report_results(folder, experiment, "laptop")
        yield folder


def html_of(results, experiment):
    return (results / "report" / f"{experiment}.html").read_text()


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.html, self.tags, self.words = html, [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def page(results):
    return Page(html_of(results, "width"))


@pytest.fixture(scope="module", params=STUDY_OF)
def any_page(request, results):
    return request.param, Page(html_of(results, request.param))


def test_the_planted_law_reaches_the_report(results):
    fit = fit_results(results, "width", "laptop").fit
    drifts = {t.optimizer: t for t in fit.transfers}
    assert drifts["adam"].drift_low <= -1 <= drifts["adam"].drift_high
    assert drifts["scion"].drift_low <= 0 <= drifts["scion"].drift_high
    html = html_of(results, "width")
    for transfer in fit.transfers:
        assert f"{transfer.drift:+.2f} [{transfer.drift_low:+.2f}, {transfer.drift_high:+.2f}]" in html
        assert transfer.verdict in html


def test_the_index_lists_every_page(results):
    links = [attributes["href"] for tag, attributes in Page(html_of(results, "index")).tags if tag == "a"]
    assert sorted(links) == sorted(["#main", *(f"{experiment}.html" for experiment in STUDY_OF)])


def test_the_index_says_when_how_large_and_of_how_many_trials(results):
    html = html_of(results, "index")
    assert html.count('<span class="tag">2026-01-01 00:00 UTC</span>') == len(STUDY_OF)
    assert html.count('<span class="tag">laptop</span>') == len(STUDY_OF)
    assert '<span class="tag">127 trials</span>' in html


def test_the_index_repeats_questions_and_findings_in_a_sentence_each(results):
    html = html_of(results, "index")
    assert html.count("Does &lt;it&gt; transfer?") == len(STUDY_OF)
    listed = Page(html).tags.count(("li", {}))
    heads = [fields.get("name") for e in STUDY_OF for _, fields in Page(html_of(results, e)).tags]
    assert listed == heads.count("finding") > 10
    assert "drifts down</span> The best learning rate goes from 2<sup>" in html
    assert "costs" not in html  # what later sentences of these findings say


def test_a_first_sentence_ends_before_a_capital():
    assert first_sentence("It costs 0.3 nats. The rest.") == "It costs 0.3 nats."
    assert first_sentence("From 2<sup>−4.7</sup> to “2. no”. “So”") == "From 2<sup>−4.7</sup> to “2. no”."


def test_a_page_without_findings_is_listed_by_its_title_or_name(tmp_path):
    (tmp_path / "old.html").write_text("<head><title>Old &amp; grey · scionlab</title></head><title>no</title>")
    (tmp_path / "bare.html").write_text("<p>nothing</p>")
    assert re.findall(r"<h2 id=\"card-.\"><a href=\"(.*?)\">(.*?)</a>", index(tmp_path)) == [
        ("bare.html", "bare"), ("old.html", "Old &amp; grey"),
    ]  # fmt: skip


def test_experiments_of_one_study_keep_their_files_apart(results, tmp_path):
    store = fill(tmp_path / "runs")
    report_results(tmp_path, "width", "laptop")
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*/width/*")}
    ids = [trial for trial in store.runs()["trial_id"] if trial.startswith("scion")]
    store.write_sweep(sweep_row(ids) | {"experiment": "other", "sweep_id": "other"})
    _, path = report_results(tmp_path, "other", "laptop")
    assert kept == {path: path.read_bytes() for path in tmp_path.rglob("*/width/*")}
    assert (tmp_path / "fits" / "other" / "lr_transfer.csv").exists()
    assert "figures/other/transfer.csv" in path.read_text()


def test_the_exponents_reach_the_page(results):
    fit = fit_results(results, "batch", "laptop").fit
    html = html_of(results, "batch")
    for exponent in fit.optimizers[0].exponents:
        assert exponent.name in html
        if "corner" not in exponent.name:  # whose interval comes from the surface's few resamples
            assert exponent.estimate.text("+.3f") in html
    assert fit.optimizers[0].forward.why in html


def test_every_figure_of_a_page_is_drawn(any_page):
    experiment, page = any_page
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == len(STUDIES[STUDY_OF[experiment]].figures())


def test_a_page_is_self_contained(any_page):
    _, page = any_page
    policies = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policies == [POLICY]
    assert POLICY.startswith("default-src 'none'")  # no connection, font, frame or anything else it does not name
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object")
        for name in ("src", "href"):
            target = attributes.get(name, "data:")
            assert target.startswith(("data:", "#")) or (tag, target) == ("a", "index.html"), (tag, attributes)
    style = "".join(re.findall(r"<style>(.*?)</style>", page.html, flags=re.DOTALL))
    assert len(re.findall(r"url\((?!data:)", style)) == 0
    assert len(page.html) < 4e6


def test_the_parts_of_a_page_have_one_order(any_page):
    _, page = any_page
    parts = re.findall(r'<h2 id="([a-z_-]*?)(?:-\d+)?">', page.html)
    named = [part for part in parts if part in ("findings", "trials", "grid", "provenance", "curves", "rates")]
    assert [part for part in named if part not in ("curves", "rates")] == ["findings", "trials", "grid", "provenance"]
    assert set(named[1 : named.index("trials")]) <= {"curves", "rates"}
    figures = [i for i, part in enumerate(parts) if part.startswith("figure-")]
    assert figures
    assert parts.index("findings") < min(figures)
    assert max(figures) < parts.index("trials")


def test_headings_go_down_one_level_at_a_time_and_the_contents_list_them(any_page):
    _, page = any_page
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = [attributes["href"][1:] for tag, attributes in page.tags if attributes.get("href", "")[:1] == "#"]
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "h2"]
    assert targets == ["main", *(section for section in sections if section != "contents")]
    labels = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert set(labels) <= set(ids)


def test_every_table_has_a_caption_and_scrolls_by_itself(any_page):
    _, page = any_page
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption") > 1
    for (tag, attributes), (inside, _) in pairwise(page.tags):
        if inside in ("table", "img"):
            assert tag == "div"
            assert attributes["class"].split()[0] == "scroll"
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]


def test_every_figure_has_alternative_text_and_a_caption(any_page):
    _, page = any_page
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert all(len(image["alt"]) > 40 for image in images)
    assert sum(tag == "figcaption" for tag, _ in page.tags) == len(images)


def test_what_was_left_out_is_said(page):
    text = " ".join(page.words)
    assert "Diverged trials: 4." in text
    assert "Failed trials, left out: 1." in text
    assert "not trained yet: 1 of 128." in text


def test_the_options_of_every_optimizer_are_shown(page):
    text = " ".join(page.words)
    assert "options of adam" in text
    assert "beta2 0.95" in text


def test_a_file_that_cannot_be_written_is_the_users_mistake(tmp_path):
    fill(tmp_path / "runs", optimizers=("scion",))
    (tmp_path / "fits" / "width" / "lr_transfer.json").mkdir(parents=True)
    with pytest.raises(UserError, match=r"cannot write to .*lr_transfer\.json"):
        fit_results(tmp_path, "width", "laptop")


def test_lost_curves_are_said_and_do_not_stop_the_report(tmp_path):
    store = fill(tmp_path / "runs")
    for path in (store.root / "curves").glob("*.parquet"):
        path.unlink()
    _, path = report_results(tmp_path, "width", "laptop")
    assert "missing from the loss curves: 84." in path.read_text()


def test_text_from_outside_is_escaped(results):
    html = html_of(results, "width")
    assert "Does &lt;it&gt; transfer?" in html
    assert "Does <it>" not in html


def test_every_figure_has_its_data(results):
    for experiment, name in [(e, name) for e, study in STUDY_OF.items() for name in STUDIES[study].figures()]:
        path = results / "figures" / experiment / name
        assert not pd.read_csv(path.with_suffix(".csv")).empty
        assert path.with_suffix(".svg").read_text().startswith("<?xml")
        picture = np.asarray(Image.open(path.with_suffix(".png")).convert("L"))
        assert min(picture.shape) > 300
        assert 0.005 < (picture < 128).mean() < 0.5  # neither blank nor black


def test_diverged_runs_are_in_the_figures_data(results):
    data = pd.read_csv(results / "figures" / "width" / "transfer.csv")
    points = data[data["kind"] == "point"]
    assert points["n_diverged"].sum() == 4
    gone = points[points["n_diverged"] > 0]
    assert set(gone["optimizer"]) == {"adam"}
    assert gone["val_loss"].isna().all()


@pytest.mark.parametrize("experiment", STUDY_OF)
def test_outcomes_and_advice_are_the_same_in_json_on_the_page_and_in_the_terminal(experiment, results):
    (fits,) = (path for path in (results / "fits" / experiment).glob("*.json"))
    outcomes = json.loads(fits.read_text())["outcomes"]
    assert outcomes
    page, html = Page(html_of(results, experiment)), html_of(results, experiment)
    open_ones = [each for each in outcomes if Outcome(each["outcome"]).open]
    assert ("What would settle it" in page.words) == bool(open_ones)
    for each in outcomes:
        assert bool(each["missing"]) == bool(each["advice"]) == (each in open_ones)
    codes = [html.partition(f'<code id="settle-{i}">')[2].partition("</code>")[0] for i in (1, 2)]
    # Every command of an outcome is part of one on the page, which adds up what all of them lack.
    assert {each["command"].split()[4] for each in open_ones if each["command"]} == {c.split()[4] for c in codes if c}
    assert all(str(results) in code for code in codes if code)


def test_the_terminal_and_the_page_say_what_would_settle_a_noisy_sweep(tmp_path):
    fill(tmp_path / "runs", exponents=range(-6, -2), optimizers=("adam",))
    fitted, path = report_results(tmp_path, "width", "laptop")
    (outcome,) = json.loads((tmp_path / "fits" / "width" / "lr_transfer.json").read_text())["outcomes"]
    command = f"scionlab run width --preset laptop --more-rates 1 --results {tmp_path}"
    again = f"scionlab report width --preset laptop --results {tmp_path}"
    assert (outcome["of"], outcome["outcome"], outcome["command"]) == ("adam", "not resolved", command)
    done = CliRunner().invoke(app, ["fit", "width", "--results", str(tmp_path)])
    printed, html = done.stdout.splitlines(), path.read_text()
    for text in (f"{outcome['advice']} For: adam.", command, f"then: {again}"):
        assert f"  {text}" in printed, text
    assert f"<li>{escape(outcome['advice'])} For: adam.</li>" in html
    assert f">{command}</code>" in html
    assert f"Then report again: <code>{again}</code>" in html
    assert fitted.document["outcomes"][0] == outcome
    as_json = CliRunner().invoke(app, ["fit", "width", "--results", str(tmp_path), "--json"])
    assert json.loads(as_json.stdout)["fit"]["outcomes"] == [outcome]


def test_the_same_store_draws_the_same_files(results, tmp_path):
    shutil.copytree(results / "runs", tmp_path / "runs")
    for figure in draw_results(tmp_path, "width", "laptop").figures:
        theirs = results / "figures" / "width" / figure.name
        for suffix in (".svg", ".csv"):
            assert figure.path.with_suffix(suffix).read_bytes() == theirs.with_suffix(suffix).read_bytes()


@pytest.mark.parametrize("optimizers", [("adam",), ("adam", "scion")])
def test_other_numbers_of_optimizers_widths_and_seeds_are_drawn(optimizers, tmp_path):
    fill(tmp_path / "runs", optimizers=optimizers, widths=(32,), seeds=1)
    fitted, path = report_results(tmp_path, "width", "laptop")
    fit = fitted.fit
    assert all(t.drift is None for t in fit.transfers)
    assert "no interval is given" in path.read_text()


def test_the_newest_sweep_is_taken_and_its_grid_selects(tmp_path):
    store = fill(tmp_path / "runs")
    some = [i for i in store.runs()["trial_id"] if i.startswith("scion")]
    store.write_sweep(sweep_row(some) | {"sweep_id": "later"})
    assert set(load_sweep(tmp_path, "width", "laptop").runs["optimizer"]) == {"scion"}


def test_settings_are_read_and_kept_from_other_studies(tmp_path):
    store = fill(tmp_path / "runs")
    assert load_sweep(tmp_path, "width", "laptop").settings == {}
    told = {"study": "restarts", "settings": json.dumps({"axis": "no such field"}), "sweep_id": "later"}
    store.write_sweep(sweep_row(list(store.runs()["trial_id"])) | told)
    assert load_sweep(tmp_path, "width", "laptop").settings == {"axis": "no such field"}
    fitted = fit_results(tmp_path, "width", "laptop", "lr-transfer")
    assert (fitted.study.name, fitted.tables.settings) == ("lr-transfer", {})


def test_a_sweep_without_a_finished_trial_is_refused(tmp_path):
    fill(tmp_path / "runs").write_sweep(sweep_row(["failed"]) | {"sweep_id": "later"})
    with pytest.raises(UserError, match="has no finished trial"):
        load_sweep(tmp_path, "width", "laptop")


def test_an_optimizer_has_one_colour_even_if_nobody_knows_it():
    assert style.colour("mine") == style.colour("mine")
    assert style.colour("adam") != style.colour("scion")
    assert len(set(style.COLOURS.values())) == len(style.COLOURS)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)], ids=["desktop", "phone"])
@pytest.mark.parametrize("experiment", STUDY_OF)
def test_the_report_in_a_browser(browser, results, experiment, width, height):
    page = browser.new_page(viewport={"width": width, "height": height})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((results / "report" / f"{experiment}.html").as_uri())
    assert complaints == []
    assert all(re.match("file:|data:|blob:", url) for url in requests), requests

    images = page.locator("img")
    assert images.count() == len(STUDIES[STUDY_OF[experiment]].figures())
    for i in range(images.count()):
        image = images.nth(i)
        image.scroll_into_view_if_needed()
        assert image.is_visible()
        assert image.evaluate("node => node.complete && node.naturalWidth > 200")
    # Wide figures and tables scroll inside their box; the page itself never scrolls sideways.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.slow
def test_a_foreign_table_goes_through_the_same_fit_figures_and_page(tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.studies.batch_scaling.surface.RESAMPLES", 20)
    monkeypatch.setattr("analysis.studies.batch_scaling.surface.STARTS", 8)
    runs = planted_runs(Law(), seeds=2)
    foreign = {"D": runs["tokens"], "tokens a step": 32 * runs["batch_size"], "log2 lr": np.log2(runs["lr"])}
    pd.DataFrame(foreign | {"loss": runs["val_loss"], "seed": runs["seed"]}).to_csv(
        tmp_path / "theirs.csv", index=False
    )
    mapping = "tokens=D,batch_size=`tokens a step`/32,lr=2**`log2 lr`,val_loss=loss"
    arguments = ["import", str(tmp_path / "theirs.csv"), "--map", mapping, "--set", "seq_len=32"]
    done = CliRunner().invoke(app, [*arguments, "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    fitted, path = report_results(tmp_path, "theirs", "imported")
    fit = fitted.fit
    corner = fit.optimizers[0].exponent("batch size, corner of the surface")
    assert corner.estimate.low <= 2 / 3 <= corner.estimate.high
    assert f"{len(runs):,} runs of theirs.csv" in path.read_text()
    assert (tmp_path / "figures" / "theirs" / "batch_profiles.png").exists()
