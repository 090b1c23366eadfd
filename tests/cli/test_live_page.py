"""The page of a run while it grows: who may read it, what it costs, and what a browser shows of it."""

import http.client
import json
import re
from pathlib import Path

import pytest
from made_up_runs import Stage

import penstock
from penstock import events as ev
from penstock.cli.live_page import LivePage
from penstock.cli.watch import follow

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PATIENCE = 240_000
"""Milliseconds; ends what hangs, and measures nothing."""


@pytest.fixture
def live(tmp_path):
    folder = tmp_path / "a <b> run"
    folder.mkdir()
    with LivePage(folder) as page:
        yield page


def ask(live, path, *, host="127.0.0.1", method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
    try:
        connection.request(method, path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.1:9", "localhost:8000"])
def test_whoever_has_the_address_gets_the_page(live, host):
    status, headers, text = ask(live, f"/{live.token}/", host=host)
    assert status == 200
    assert "Waiting for a run to begin" in text
    assert "a &lt;b&gt; run" in text
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers
    assert live.token not in text


@pytest.mark.parametrize("host", ["", "evil.example", "127.0.0.1.evil.example", "[::1]", "localhost.", "0"])
def test_no_other_host_is_answered(live, host):
    for path in (f"/{live.token}/", f"/{live.token}/events"):
        status, headers, text = ask(live, path, host=host)
        assert status == 403
        assert "run" not in text
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "path", ["/", "/events", "/x/", "/{half}/", "/{token}/x", "/{token}", "/{token}/../", "//"]
)
def test_without_the_token_nothing_is_there(live, path):
    status, _, text = ask(live, path.format(token=live.token, half=live.token[:-1]))
    if path != "/{token}":
        assert status == 404
        assert "run" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_written(live, method):
    status, headers, _ = ask(live, f"/{live.token}/", method=method)
    assert status in (403, 405, 501)
    assert "Access-Control-Allow-Methods" not in headers


def test_two_pages_have_two_tokens_and_a_port_that_is_taken_is_said(live, tmp_path):
    with LivePage(tmp_path) as other:
        assert other.token != live.token
        assert len(other.token) >= 20
    with pytest.raises(penstock.UsageError, match=f"port {live.port} of 127.0.0.1"):
        LivePage(tmp_path, live.port)


def test_what_is_new_comes_as_an_event_of_one_line_with_all_escaped(live):
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
    connection.request("GET", f"/{live.token}/events", headers={"Host": "localhost"})
    answer = connection.getresponse()
    assert answer.getheader("Content-Type").startswith("text/event-stream")
    assert "Waiting" in json.loads(answer.readline().removeprefix(b"data: "))["main"]
    assert answer.readline() == b"\n"
    events = list(Stage(trouble=0.3))
    evil = ev.ItemSetAside(at=events[-2].at, item=1, name="<img src=x onerror=1>\n\ndata: x", reason="raised",
                           message="<script>1</script>")  # fmt: skip
    for event in [*events[:-1], evil]:
        live.take(event)
    live.show("running")
    news = json.loads(answer.readline().removeprefix(b"data: "))
    assert "<img" not in news["main"]
    assert "<script" not in news["main"]
    assert "&lt;img src=x onerror=1&gt;" in news["main"]
    assert not news["over"]
    live.take(events[-1])
    live.show("ended")
    assert answer.readline() == b"\n"
    assert json.loads(answer.readline().removeprefix(b"data: "))["over"]
    connection.close()


def test_nothing_is_drawn_while_nobody_looks_or_nothing_is_new(live):
    live.show("running")
    number = live._number
    for event in list(Stage())[:50]:
        live.take(event)
        live.show("running")
    assert live._number == number
    live._server.readers = 1
    live._due = 0.0  # what drawing took, however long, is paid for
    live.show("running")
    live.show("running")
    assert live._number == number + 1


def test_of_a_private_run_no_name_is_on_it(tmp_path):
    def fails(name):
        raise ValueError(f"cannot read {name}")

    items = [f"secret-{number}" for number in range(3)]
    with pytest.raises(penstock.PenstockError):
        penstock.run(fails, items, tmp_path / "run", backend="inline", private=True)
    with LivePage(tmp_path / "run") as live:
        follow(tmp_path / "run", live, wait=True)
        _, _, text = ask(live, f"/{live.token}/")
    assert "Failed" in text
    assert "secret" not in text


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:playwright")
def test_a_browser_sees_items_rise_and_the_end_without_a_reload(live):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    events = list(Stage())
    with playwright.sync_playwright() as start:
        browser = start.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(live.address)
        page.get_by_text("Waiting for a run to begin").wait_for()
        page.evaluate("window.sameDocument = true")
        seen = []
        for place, event in enumerate(events[:-1]):
            live.take(event)
            if place in (len(events) // 3, len(events) * 2 // 3):
                live._due = 0.0
                live.show("running")
                done = live._state.done
                playwright.expect(page).to_have_title(re.compile(f"· {done} of 600 items"), timeout=PATIENCE)
                seen.append(done)
        assert 0 <= seen[0] < seen[1]
        assert page.get_by_text("Now", exact=True).is_visible()
        live.take(events[-1])
        live.show("ended")
        page.locator(".badge.done").wait_for()
        assert page.evaluate("window.sameDocument")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert said == []
        browser.close()
