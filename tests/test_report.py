"""The report of an evaluation: what stands in it, what cannot get into it, and how it looks in a browser."""

from __future__ import annotations

import copy
import hashlib
import html
import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from builders import CANARY, PATTERN, PYTHON, environment, error_of, labelled_threads, model_of_words

from grooming_flag import Message, MissingExtraError, Thread
from grooming_flag.evaluation import protocol
from grooming_flag.evaluation.figures import Figure
from grooming_flag.evaluation.protocol import Scored, evaluate
from grooming_flag.evaluation.report import render_html, render_summary
from grooming_flag.evaluation.report.findings import verdict
from grooming_flag.evaluation.report.reading import counts, decimals, in_full, interval, number
from grooming_flag.evaluation.robustness import template_figures
from grooming_flag.io.scores import ScoreRow

Metrics = dict[str, Any]
SECTIONS = [
    "Summary",
    "Detection",
    "Alerts and workload",
    "Calibration",
    "Early detection",
    "Suspects",
    "Evidence",
    "Sources, lengths and kinds",
    "Perturbations",
    "Templates",
    "Shortcut audits",
    "Comparison",
    "Data and method",
]
HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'{{7*7}}$x^2$\\frac\ud800\x1b[31m\u202e\n"


def threads_of(n: int, prefix: str) -> list[Thread]:
    return [
        replace(thread, messages=[*thread.messages, Message("right", CANARY)])
        for thread in labelled_threads(n, prefix=prefix)
    ]


@pytest.fixture(scope="module")
def both() -> dict[str, Metrics]:
    """Return the metrics of a model that is compared with a score file, and those of the score file."""
    sources = {"first": threads_of(40, "a"), "second": threads_of(20, "b")}
    threads = [thread for of_source in sources.values() for thread in of_source]
    scored = Scored("rival", [ScoreRow(t.thread_id, score=i * 7 % 11 / 3.0) for i, t in enumerate(threads)])
    marked = {t.thread_id: [m.author == "left" for m in t.messages] for t in threads if t.label}
    model = model_of_words(dict.fromkeys(PATTERN, 3000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "template_figures", partial(template_figures, n=20))  # 1,000 a family take long
        return {"model": evaluate(sources, model, scored, coded=marked), "scores": evaluate(sources, scored)}


@pytest.fixture(scope="module")
def metrics(both: dict[str, Metrics]) -> Metrics:
    return both["model"]


@pytest.fixture(scope="module")
def page(metrics: Metrics) -> str:
    return render_html(metrics)


def renamed(metrics: Metrics, names: dict[str, str]) -> Metrics:
    """Return the metrics with parts of all texts replaced."""

    def change(value: Any) -> Any:
        if isinstance(value, str):
            for name, new in names.items():
                value = value.replace(name, new)
            return value
        if isinstance(value, dict):
            return {change(key): change(item) for key, item in value.items()}
        return [change(item) for item in value] if isinstance(value, list) else value

    return change(metrics)  # type: ignore[no-any-return]


class Elements(HTMLParser):
    """The elements of a page, in order, with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]


# --- what stands in it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["model", "scores"])
def test_every_figure_stands_in_the_page_with_value_interval_and_counts(both: dict[str, Metrics], system: str) -> None:
    page = render_html(both[system])
    cell = r'<td><data value="([^"]+)">([^<]+)</data> <span class="ends">([^<]+)</span><small>([^<]+)</small>'
    cells = set(re.findall(cell, page))
    figures = [Figure(**row) for row in both[system]["figures"]]
    shown = [f for f in figures if f.value is not None and not f.measure.startswith("p of")]
    assert len(shown) > 40
    for figure in shown:
        assert figure.value is not None
        value = number(figure.value, decimals(figure))
        assert (str(figure.value), value, interval(figure), counts(figure)) in cells, figure


def test_the_metrics_of_the_test_have_every_section(metrics: Metrics) -> None:
    sections = {"detection", "alerts", "calibration", "early", "suspects", "evidence", "slices"}
    assert {f["section"] for f in metrics["figures"]} == sections | {
        "perturbations",
        "templates",
        "audits",
        "comparison",
    }
    assert "Not measured" not in render_html(metrics)


def test_every_place_of_every_curve_stands_in_a_table(metrics: Metrics, page: str) -> None:
    drawn = [c for name, c in metrics["curves"].items() if "stream" not in name]
    for curve in drawn:
        for value, low, high in zip(curve["values"], curve["low"], curve["high"], strict=True):
            if None not in (value, low, high):
                assert f"<td>{value:.3g} [{low:.3g}, {high:.3g}]</td>" in page


def test_sections_drawings_and_tables_are_named(page: str) -> None:
    elements = Elements(page)
    tags = elements.tags()
    assert re.findall(r"<h2[^>]*>([^<]+)</h2>", page) == SECTIONS
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert tags.count("figure") == tags.count("figcaption") == 5
    assert tags.count("table") == tags.count("caption") > 20
    assert all("scope" in attributes for tag, attributes in elements.elements if tag == "th")
    assert ("html", {"lang": "en"}) in elements.elements
    assert "<title>Evaluation of small</title>" in page
    ids = [attributes["id"] for _, attributes in elements.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] or "" for tag, attributes in elements.elements if tag in ("a", "use")]
    assert {link[1:] for link in links} <= set(ids)


def test_templates_are_always_said_to_test_a_mechanism(page: str) -> None:
    captions = re.findall(r"<caption>([^<]*[Tt]emplates[^<]*)</caption>", page)
    assert len(captions) == 2
    assert all("test a mechanism, not detection quality" in caption for caption in captions)


def test_a_difference_beyond_chance_is_said_in_words(metrics: Metrics, page: str) -> None:
    differences = [Figure(**f) for f in metrics["figures"] if f["section"] == "comparison" and "minus" in f["slice"]]
    said = {verdict(difference) for difference in differences}
    assert "higher, beyond chance" in said
    assert "<strong>higher, beyond chance</strong>" in page
    figure = Figure("comparison", "recall", "a minus b", "", "thread", -0.2, -0.3, -0.1, 10)
    assert verdict(figure) == "lower, beyond chance"
    assert verdict(figure._replace(high=0.0)) == "may be chance"
    assert verdict(figure._replace(high=None)) == "not known"


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.81197, 0.7219, 0.8889, "0.812 [0.722, 0.889]"),
        (0.000962, 0.000526, 0.001614, "0.00096 [0.00053, 0.00161]"),
        (0.0, 0.0, 0.00735, "0 [0, 0.0073]"),
        (1.0, 0.839, 1.0, "1.000 [0.839, 1.000]"),
        (0.0149, -0.0000165, 0.0361, "0.015 [0.000, 0.036]"),
        (17.734, 13.03, 23.14, "17.7 [13.0, 23.1]"),
        (90.7, 80.6, 100.4, "91 [81, 100]"),
        (15.0, 13.0, 19.0, "15 [13, 19]"),
        (1234.5, 1000.2, 2000.7, "1,234 [1,000, 2,001]"),
        (None, 0.0, 1.0, "not defined"),
    ],
)
def test_numbers_have_the_digits_that_their_interval_allows(
    value: float | None, low: float, high: float, text: str
) -> None:
    figure = Figure("detection", "recall", "all", "balanced", "thread", value, low, high, 4680, 380)
    assert in_full(figure) == f"{text} (380/4,680 threads)"


# --- what cannot get into it -------------------------------------------------------------------------------------


def test_names_from_outside_stay_text(metrics: Metrics, page: str) -> None:
    hostile = renamed(metrics, {name: name + HOSTILE for name in ("first", "small", "rival", "sensitive")})
    hostile["notes"] = [HOSTILE]
    found = Elements(render_html(hostile))
    assert set(found.tags()) == set(Elements(page).tags())
    assert "script" not in found.tags()
    assert "</td><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'{{7*7}}$x^2$\\frac" in found.text
    assert not {"\ud800", "\x1b", "\u202e"} & set(found.text)
    assert not {name for _, attributes in found.elements for name in attributes if name.startswith("on")}


def test_the_page_asks_for_nothing_from_elsewhere(page: str) -> None:
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"\ssrc=|@import|<script|<iframe|<object|url\((?!#)", page)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page


def test_no_message_gets_into_page_or_summary(metrics: Metrics, page: str) -> None:
    assert CANARY not in page
    assert CANARY not in render_summary(metrics)


# --- the same, and whatever is missing ---------------------------------------------------------------------------


def test_the_same_metrics_give_the_same_page_in_any_process(metrics: Metrics, page: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    code = (
        "import hashlib, json\n"
        "from grooming_flag.evaluation.report import render_html\n"
        f"page = render_html(json.load(open({str(tmp_path / 'metrics.json')!r})))\n"
        "print(hashlib.sha256(page.encode()).hexdigest())"
    )
    seeded = {**environment(), "PYTHONHASHSEED": "7"}
    ran = subprocess.run([PYTHON, "-c", code], env=seeded, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == hashlib.sha256(page.encode()).hexdigest()


def test_settings_of_matplotlib_neither_matter_nor_change(metrics: Metrics, page: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context({"font.size": 33.0, "axes.facecolor": "red"}):
        assert render_html(metrics) == page
        assert matplotlib.rcParams["font.size"] == 33.0


@pytest.mark.parametrize("section", ["calibration", "early", "suspects", "evidence", "perturbations", "templates"])
def test_a_section_that_is_missing_is_said_to_be(metrics: Metrics, section: str) -> None:
    figures = [figure for figure in metrics["figures"] if figure["section"] != section]
    page = render_html({**metrics, "figures": figures, "curves": {}})
    assert re.search(rf'id="{section}-title">[^<]+</h2>\s*<p>Not measured: ', page)
    assert render_summary({**metrics, "figures": figures, "curves": {}})


def test_what_a_score_file_cannot_show_is_said_to_be_missing(both: dict[str, Metrics]) -> None:
    page = render_html(both["scores"])
    missing = re.findall(r'id="(\w+)-title">[^<]+</h2>\s*<p>Not measured: ', page)
    assert missing == ["calibration", "early", "suspects", "evidence", "perturbations", "templates", "comparison"]


def test_nothing_at_all_makes_a_page_and_a_summary() -> None:
    assert render_html({}).count("Not measured") == len(SECTIONS) - 1
    assert "Judged on 0 threads" in render_summary({})


def test_figures_without_value_are_not_defined(metrics: Metrics) -> None:
    empty = copy.deepcopy(metrics)
    for figure in empty["figures"]:
        figure |= {"value": None, "low": None, "high": None, "n": 0, "hits": None}
    for curve in empty["curves"].values():
        curve |= {key: [None] * len(curve["x"]) for key in ("values", "low", "high")}
    assert "not defined" in render_html(empty)
    assert "None" not in render_summary(empty)


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named_with_its_pip_line(
    metrics: Metrics, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = str(error_of(lambda: render_html(metrics), MissingExtraError))
    assert package in message
    assert "pip install 'grooming-flag[report]'" in message


# --- the summary -------------------------------------------------------------------------------------------------


def test_the_summary_starts_with_what_to_expect_and_fits(metrics: Metrics) -> None:
    lines = render_summary(metrics).splitlines()
    assert lines[0] == "Evaluation of small"
    assert lines[2] == "What can I expect per 10,000 threads, at balanced (threshold 0.4)?"
    assert [line.split("  ")[1] for line in lines[4:7]] == ["1 in 100", "1 in 1,000", "1 in 10,000"]
    assert 30 <= len(lines) <= 45
    assert max(map(len, lines)) <= 100


def test_the_summary_has_the_numbers_of_the_metrics(metrics: Metrics) -> None:
    text = " ".join(render_summary(metrics).split())
    figures = [Figure(**row) for row in metrics["figures"]]
    main = [f for f in figures if f.section == "detection" and f.at == "balanced" and f.hits is not None]
    assert len(main) == 2
    assert all(in_full(figure) in text for figure in main)
    lost = max((f for f in figures if f.measure == "recall lost" and "+" not in f.slice), key=lambda f: f.value or 0.0)
    assert f"Most recall is lost to {lost.slice}: {in_full(lost)}" in text
    for topic in ("Worst ordinary talk", "Suspect", "One side alone", "First flag", "Live", "Shortcuts", "Comparison"):
        assert f" {topic} " in text


def test_what_each_side_alone_does_is_said_of_every_source_and_at_every_point(metrics: Metrics) -> None:
    caption, topic = "<caption>Share flagged of one side of risky threads alone", "One side alone"
    text = " ".join(render_summary(metrics).split())
    for source in ("first", "second"):
        suspects, partners = (
            Figure(**row)
            for side in ("suspects'", "partners'")
            for row in metrics["figures"]
            if (row["measure"], row["slice"], row["at"]) == (f"flagged, {side} side alone", source, "balanced")
        )
        assert suspects.value != partners.value
        said = f"{in_full(suspects)} flagged by the suspects' side alone, {in_full(partners)} by the others'."
        assert f"{source}: {said}" in text
    (table,) = re.findall(rf"{caption}.*?</table>", render_html(metrics), re.DOTALL)
    columns = re.findall(r"<th scope=\"col\"[^>]*>(?:<[^>]*>)*([^<]+)", table)[1:]
    expected = [f"{side} side alone at {at}" for side in ("suspects'", "partners'") for at in metrics["points"]]
    assert {html.unescape(column).strip() for column in columns} == {c for c in expected if "set here" not in c}
    older = {**metrics, "figures": [f for f in metrics["figures"] if not f["measure"].endswith("side alone")]}
    assert caption not in render_html(older)
    assert topic not in render_summary(older)
    assert "The right one in" in render_summary(older)


def test_long_and_hostile_names_neither_widen_the_summary_nor_steer_a_terminal(metrics: Metrics) -> None:
    text = render_summary(renamed(metrics, {"first": "x" * 300, "small": HOSTILE * 3, "second": "y" * 99}))
    assert max(map(len, text.splitlines())) <= 100
    assert all(character.isprintable() or character == "\n" for character in text)


# --- in a browser ------------------------------------------------------------------------------------------------


OVERLAPS = """() => {
  const shown = [...document.querySelectorAll("figure, main .scroll, .cards, .findings, h2")]
    .filter(one => one.checkVisibility() && !one.parentElement.closest("figure"))
    .map(one => [one.tagName + " " + one.textContent.trim().slice(0, 30), one.getBoundingClientRect()]);
  return shown.flatMap(([name, a], i) => shown.slice(i + 1)
    .filter(([_, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
    .map(([other]) => name + " / " + other));
}"""
CUT = """() => [...document.querySelectorAll(".plot svg")].flatMap(svg => {
  const all = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()])
    .filter(([_, box]) => box.left < all.left - 4 || box.right > all.right + 4 || box.bottom > all.bottom + 1)
    .map(([text]) => text);
})"""


@pytest.mark.parametrize(("width", "media"), [(1280, "screen"), (390, "screen"), (360, "screen"), (703, "print")])
def test_the_page_fits_and_loads_nothing(browser: Any, page: str, tmp_path: Path, width: int, media: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 900})
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.emulate_media(media=media)
    tab.goto(path.as_uri())
    assert said == []
    assert [url for url in asked if url != path.as_uri() and not url.startswith("data:")] == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")  # in print: A4 between its margins
    assert tab.locator("h1").count() == 1
    assert tab.locator("h2").all_inner_texts() == SECTIONS
    boxes = [drawing.bounding_box() for drawing in tab.locator(".plot svg").all()]
    assert len(boxes) == 5
    assert all(box["width"] > 200 and box["height"] > 150 for box in boxes)
    assert tab.evaluate(OVERLAPS) == []
    assert tab.evaluate(CUT) == []
    assert tab.locator("nav").is_visible() == (media == "screen")
    tab.close()


def test_a_reader_can_unfold_numbers_with_the_keyboard(browser: Any, page: str) -> None:
    tab = browser.new_page()
    tab.set_content(page)
    summary = tab.locator("figure summary").first
    summary.focus()
    tab.keyboard.press("Enter")
    assert tab.locator("figure table").first.is_visible()
    tab.close()
