"""A web server of a test's own: files with ranges, etags, and faults on demand."""

import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Served:
    """What a server gives, and what it was asked for.

    Attributes:
        files: bytes by path.
        faults: by path, how the next answers are wrong: ``"500"``, ``"short"`` (fewer bytes than asked for,
            and said so), ``"broken"`` (the connection ends half way), ``"403"``, ``"changed"`` (its etag).
        delay: seconds before each answer.
        asked: (method, path, range, x-goog-user-project) of each request.
        most: requests at once, and bytes at once.
    """

    def __init__(self, files):
        self.files, self.faults, self.delay = dict(files), {}, 0.0
        self.ranges, self.asked = True, []
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.url = ""

    def fault(self, path):
        with self.lock:
            left = self.faults.get(path, [])
            return left.pop(0) if left else ""


def _handler(served):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_HEAD(self):
            self.do_GET()

        def do_PROPFIND(self):
            self.answer(405)

        def do_GET(self):
            path = self.path.partition("/base/")[2]
            where = self.headers.get("Range")
            with served.lock:
                served.asked.append((self.command, path, where, self.headers.get("x-goog-user-project")))
                served.now += 1
                served.most = max(served.most, served.now)
            time.sleep(served.delay)
            with served.lock:  # before the answer: who has it may ask again before we come here
                served.now -= 1
            self.give(path, where, served.fault(path))

        def give(self, path, where, fault):
            if path not in served.files:
                return self.answer(404)
            if fault in ("500", "403"):
                return self.answer(int(fault))
            data, headers = (
                served.files[path],
                {"ETag": f'"{hash((served.files[path], fault == "changed"))}"'},
            )
            if where and served.ranges:
                start, end = re.fullmatch(r"bytes=(\d+)-(\d+)", where).groups()
                if int(start) >= len(data):
                    return self.answer(416, **{"Content-Range": f"bytes */{len(data)}"})
                part = data[int(start) : int(end) + 1]
                headers["Content-Range"] = f"bytes {start}-{int(start) + len(part) - 1}/{len(data)}"
                return self.answer(206, part, fault, **headers)
            return self.answer(200, data, fault, **headers)

        def answer(self, code, data=b"", fault="", **headers):
            given = data[: len(data) // 2] if fault in ("short", "broken") else data
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            self.send_header("Content-Length", str(len(given if fault == "short" else data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(given)
            if fault == "broken":
                self.close_connection = True

    return Handler


@contextmanager
def serving(files):
    """A server of these files below ``/base/``."""
    served = Served(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/base"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(300)
