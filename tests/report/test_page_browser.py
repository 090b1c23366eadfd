"""The page in a real browser: nothing is fetched, nothing is refused, and it shows what it says."""

import csv
import io
import itertools
from pathlib import Path

import pytest
from made_up_runs import RUNS

from penstock import events as ev
from penstock.report.page import write_page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:playwright"),
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as start:
        browser = start.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", RUNS)
def test_the_page_opens_from_a_file(name, scheme, browser, drawn):
    path = drawn(name)
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1240, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert said == []  # a refused style or image would be said here
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(15, 20, 25)" if scheme == "dark" else "rgb(245, 247, 248)")
    if name != "empty":
        for box in page.eval_on_selector_all(
            "svg:not(svg svg)", "all => all.map(one => one.getBoundingClientRect().height)"
        ):
            assert box > 20
        # No text of a chart runs over the edge of its drawing.
        outside = """all => all.filter(text => {
            const inner = text.getBoundingClientRect()
            const outer = text.closest('section').getBoundingClientRect()
            return inner.left < outer.left - 1 || inner.right > outer.right + 1
                || inner.bottom > outer.bottom + 1
        }).map(text => text.textContent)"""
        assert page.eval_on_selector_all("svg text", outside) == []
    page.close()


@pytest.mark.parametrize("name", ["stages", "on_nodes", "resumed"])
def test_the_page_fits_a_narrow_screen(name, browser, drawn):
    path = drawn(name)
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # Charts are drawn whole; their texts can be read and do not lie upon each other.
    of_texts = """all => all.filter(text => text.getBoundingClientRect().width > 0).map(text => {
        const box = text.getBoundingClientRect()
        return [text.textContent, box.left, box.right, box.top, parseFloat(getComputedStyle(text).fontSize)]
    })"""
    edges = page.eval_on_selector_all(".chart", "all => all.map(one => one.getBoundingClientRect().right)")
    assert edges
    assert all(right <= 400 for right in edges)
    for chart in page.query_selector_all(".chart"):
        texts = chart.eval_on_selector_all("text.mid, text.start", of_texts)
        assert all(size >= 11 for *_, size in texts)
        texts.sort(key=lambda text: (text[3], text[1]))
        for left, right in itertools.pairwise(texts):
            assert left[3] != right[3] or left[2] <= right[1], (left, right)
    page.close()


def test_what_is_drawn_is_saved_by_one_click(browser, tmp_path):
    events = list(RUNS["usual"]())
    path = write_page(tmp_path, events)
    page = browser.new_page()
    page.goto(path.as_uri())
    saved = {}
    for link in page.query_selector_all("a.csv"):
        with page.expect_download() as told:
            link.click()
        name = told.value.suggested_filename.removesuffix(".csv").split()[-1]
        saved[name] = list(csv.DictReader(io.StringIO(Path(told.value.path()).read_text())))
    page.close()
    highest = max(event.used for event in events if isinstance(event, ev.MemoryRead))
    assert max(int(row["used"]) for row in saved["memory"]) == highest
    done = sum(isinstance(event, ev.BatchDone) for event in events)
    assert sum(int(row["count"]) for row in saved["work"] if row["what"] == "done") == done
    assert sum(int(row["batches"]) for row in saved["predictions"]) == done
