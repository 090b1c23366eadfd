"""The page of a run while it grows, served on 127.0.0.1 only, to whoever has the address.

Covers the server (standard library), who may read from it, and when the page is drawn anew. The address has
a random token; requests with another Host are refused, so that no web site can reach it by a name of its own
(DNS rebinding); nothing can be written. A browser gets the page once and then, by server-sent events, what
it shows from now on.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from penstock import events as ev
from penstock import foreign
from penstock.errors import UsageError
from penstock.record.following import Now
from penstock.report import page, tables
from penstock.report.live import LiveState
from penstock.report.report import Report
from penstock.report.timeline import Timeline

_NAMES = frozenset({"127.0.0.1", "localhost"})
_MOST = 16
"""Browsers at once."""
_SILENT = 15.0
"""Seconds after which a line without meaning keeps a connection alive."""
_SHARE = 0.01
"""The most of a core that drawing may take."""

SCRIPT = """
const main = document.querySelector('main'), told = new EventSource('events');
told.onmessage = message => {
  const news = JSON.parse(message.data);
  const open = [...main.querySelectorAll('details')].map(each => each.open);
  const tops = [...main.querySelectorAll('.tall')].map(each => each.scrollTop);
  main.innerHTML = news.main;
  main.querySelectorAll('details').forEach((each, place) => each.open = !!open[place]);
  main.querySelectorAll('.tall').forEach((each, place) => each.scrollTop = tops[place] || 0);
  document.title = news.title;
  if (news.over) told.close();
};
told.onerror = () => { document.title = 'not connected'; };
"""


class LivePage(AbstractContextManager["LivePage"]):
    """The page and its server.

    Args:
        folder: of the run.
        port: where; 0 for a free one.

    Raises:
        UsageError: the port is taken, or not ours to take.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(18)
        self._state, self._timeline = LiveState(), Timeline()
        self._at = self._read = 0.0
        self._fresh = True
        """Whether something is to be told that is not drawn yet."""
        self._told: Now | None = None
        self._due = 0.0
        self._news = threading.Condition()
        self._number, self._message = 0, b""
        self._asked = threading.Event()
        try:
            self._server = _Server(("127.0.0.1", port), self)
        except OSError as error:
            raise UsageError(f"cannot serve on port {port} of 127.0.0.1: {error.strerror}") from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.5,), daemon=True)

    @property
    def address(self) -> str:
        """The URL to open in a browser."""
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    def __enter__(self) -> LivePage:
        self._draw("nothing")
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def close(self) -> None:
        """Does nothing: there is no live line to erase."""

    def stay(self) -> None:
        """Keep serving until Ctrl-C."""
        while True:
            time.sleep(3600)

    def take(self, event: ev.Event) -> None:
        """Take the next event."""
        self._state.take(event, event.at)
        self._timeline(event)
        self._at, self._read, self._fresh = event.at, time.monotonic(), True

    def show(self, now: Now) -> None:
        """Redraw if there is news and somebody is looking; less often where drawing is slow."""
        changed, self._told = now != self._told, now
        due = self._fresh and self._server.readers and time.monotonic() >= self._due
        if changed or due:
            began = time.thread_time()
            self._draw(now)
            self._due = time.monotonic() + (time.thread_time() - began) / _SHARE
            self._fresh = False

    def _draw(self, now: Now) -> None:
        content = page.body(self.folder, self._timeline, self._stages(now), now=self._going(now))
        name = self.folder.resolve().name
        over = now == "ended"
        title = f"{foreign.line(name)} · {self._state.parts(self._clock())[0]}" if self._state.began else name
        news = {"main": content, "title": title, "over": over}
        with self._news:
            self._number, self._message = self._number + 1, json.dumps(news).encode()
            self._content = content
            self._news.notify_all()

    def _stages(self, now: Now) -> list[Report]:
        outcome = "running" if now == "running" else "died" if now == "died" else ""
        stages = [
            tally.report(folder=self.folder)
            for name, tally in self._timeline.tallies.items()
            if name or tally.items
        ]
        if outcome and stages and stages[-1].outcome == "interrupted":
            stages[-1] = replace(stages[-1], outcome=outcome)
        return stages

    def _clock(self) -> float:
        """The run's clock, as far as it can be told: no clock of two machines is compared."""
        return self._at + time.monotonic() - self._read

    def _going(self, now: Now) -> str:
        """How it stands at this moment."""
        if now == "nothing":
            return tables.section("Nothing has begun", "<p>Waiting for a run to begin in this folder.</p>")
        if now != "running":
            return ""
        return tables.going(self._state, self._clock())

    # ------------------------------------------------------------------ for the server

    def document(self) -> bytes:
        """The whole page as it is now."""
        nonce = secrets.token_urlsafe(12)
        policy = (
            f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'nonce-{nonce}'; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'"
        )
        script = f'<script nonce="{nonce}">{SCRIPT}</script>'
        name = self.folder.resolve().name
        return page.document(name, policy, self._content, script=script).encode(errors="replace")

    def next_message(self, number: int) -> tuple[int, bytes]:
        """The newest message after a number, waiting a while for it; the same number if there is none."""
        with self._news:
            self._news.wait_for(lambda: self._number > number, _SILENT)
            return self._number, self._message


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], live: LivePage) -> None:
        self.live = live
        self.readers = 0
        self.counting = threading.Lock()
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 30
    server_version, sys_version = "penstock", ""

    def do_GET(self) -> None:
        """Answer: the page, or what is new on it; nothing else is there."""
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host not in _NAMES:
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        _, _, rest = self.path.partition("/")
        token, _, name = rest.partition("/")
        if not hmac.compare_digest(token.encode(errors="replace"), self.server.live.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
        elif name == "":
            document = self.server.live.document()
            self._begin(HTTPStatus.OK, "text/html; charset=utf-8", len(document))
            self.wfile.write(document)
        elif name == "events":
            self._tell()
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _tell(self) -> None:
        with self.server.counting:
            full = self.server.readers >= _MOST
            self.server.readers += not full
        if full:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        try:
            self._begin(HTTPStatus.OK, "text/event-stream; charset=utf-8")
            number = 0
            with suppress(OSError):  # the browser went away
                while True:
                    before = number
                    number, message = self.server.live.next_message(number)
                    told = b"data: " + message + b"\n\n" if number > before else b": still here\n\n"
                    self.wfile.write(told)
        finally:
            with self.server.counting:
                self.server.readers -= 1

    def _refuse(self, status: HTTPStatus) -> None:
        told = f"{status.value} {status.phrase}\n".encode()
        self._begin(status, "text/plain; charset=utf-8", len(told))
        self.wfile.write(told)

    def _begin(self, status: HTTPStatus, kind: str, size: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if size is not None:
            self.send_header("Content-Length", str(size))
        for name, value in (
            ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"), ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Connection", "close"),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing is told of what is asked: the address has the token in it."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's word
        """The same."""
