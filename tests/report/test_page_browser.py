"""The page in a real browser: nothing is fetched, nothing is refused, and it shows what it says."""

from pathlib import Path

import pytest
from made_up_runs import RUNS

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
def test_the_page_opens_from_a_file(name, scheme, browser, tmp_path):
    path = write_page(tmp_path, RUNS[name]())
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
            "svg", "all => all.map(one => one.getBoundingClientRect().height)"
        ):
            assert box > 20
        # No text of a chart runs over the edge of its drawing.
        outside = """all => all.filter(text => {
            const inner = text.getBoundingClientRect()
            const outer = text.closest('svg').getBoundingClientRect()
            return inner.left < outer.left - 1 || inner.right > outer.right + 1
                || inner.bottom > outer.bottom + 1
        }).map(text => text.textContent)"""
        assert page.eval_on_selector_all("svg text", outside) == []
    page.close()


def test_the_page_fits_a_narrow_screen(browser, tmp_path):
    path = write_page(tmp_path, RUNS["stages"]())
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()
