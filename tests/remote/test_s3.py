"""A bucket behind a server that speaks S3: listed in pages, read in parts, signed, missing keys told."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from penstock import remote

pytest.importorskip("obstore")

FILES = {f"films/files/p{n}/{n}.jpg": bytes([n]) * (1000 + n) for n in range(7)} | {
    "films/table.csv": b"a,b\n" * 3_000_000,
    "other/x": b"x",
}
_PAGE = 3


def _handler(asked):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_GET(self):
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            key = unquote(url.path).removeprefix("/bucket").lstrip("/")
            asked.append((self.command, key, query, self.headers.get("Authorization")))
            if "list-type" in query:
                self.answer(200, self.page(query))
            elif key not in FILES:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            elif where := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                start, end = int(where[1]), min(int(where[2]) + 1, len(FILES[key]))
                told = {"Content-Range": f"bytes {start}-{end - 1}/{len(FILES[key])}"}
                self.answer(206, FILES[key][start:end], ETag=_etag(key), **told)
            else:
                self.answer(200, FILES[key], ETag=_etag(key))

        do_HEAD = do_GET

        def page(self, query):
            names = sorted(name for name in FILES if name.startswith(query.get("prefix", "")))
            start = int(query.get("continuation-token", 0))
            more = start + _PAGE < len(names)
            rows = "".join(
                f"<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>{_etag(name)}</ETag><Size>{len(FILES[name])}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
                for name in names[start : start + _PAGE]
            )
            token = f"<NextContinuationToken>{start + _PAGE}</NextContinuationToken>" if more else ""
            return (
                f"<ListBucketResult><Name>bucket</Name><IsTruncated>{str(more).lower()}</IsTruncated>"
                f"{token}{rows}</ListBucketResult>"
            ).encode()

        def answer(self, status, body, **headers):
            self.send_response(status)
            for name, value in {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


def _etag(key):
    return f'"{len(FILES[key])}-etag"'


@contextmanager
def bucket():
    asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(asked))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(300)


@pytest.mark.parametrize("by", ["options", "environment"])
def test_a_bucket_is_listed_once_and_read_in_parts(by, monkeypatch):
    """The endpoint and keys by settings, or as the AWS tools have them in the environment."""
    with bucket() as (url, asked):
        told = {"endpoint": url, "region": "eu-west-1"}
        keys = {"access_key_id": "key", "secret_access_key": "secret"}
        if by == "environment":
            for name, value in (told | keys).items():
                monkeypatch.setenv(f"AWS_{name.upper()}", value)
        store = remote.open("s3://bucket/films", options=told | keys if by == "options" else None)
        found = {each.path: each.size for each in store.listing("files")}
        ours = {name: content for name, content in FILES.items() if name.startswith("films/files/")}
        assert found == {name.removeprefix("films/"): len(content) for name, content in ours.items()}
        assert [command for command, *_ in asked] == ["GET"] * 3, "pages of a listing, and no file"
        assert store.read("table.csv") == FILES["films/table.csv"]
        assert sum(key == "films/table.csv" for _, key, *_ in asked) == 2, "parts of 8 MiB"
        assert store.stat("files/p3/3.jpg").fingerprint() == '1003:"1003-etag"'
        assert store.fingerprint(["files/p3/3.jpg", "files/no"], "files") == {
            "s3://bucket/films/files/p3/3.jpg": '1003:"1003-etag"',
            "s3://bucket/films/files/no": "gone",
        }
        with pytest.raises(FileNotFoundError, match="s3://bucket/films/no"):
            store.read("no")
        assert all(sign.startswith("AWS4-HMAC-SHA256 Credential=key/") for *_, sign in asked)
