"""Films behind a server that takes its time, beside the same films in a folder: seconds of whole runs.

    python benchmarks/remote/run.py [--films 96] [--delay 0.05] [--json FILE]

Makes JPEG films (1272 x 1528, seeded) and has one worker draw them as the workload multimodal does,
from a folder and from a web server of its own process that waits before each answer: with one film under way,
with four, and with none fetched ahead. Tells seconds, the ratio to the folder of the same run, and the most
bytes that were under way or held in the worker, which must be within the bound.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import penstock
from penstock import remote
from penstock.workloads.multimodal import images
from penstock.workloads.multimodal.images import Drawing

BOUND = 16 << 20


def serve(folder: str, delay: float) -> None:
    """Be the server; says its port first."""
    files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            time.sleep(delay)
            data = files[self.path.rpartition("/")[2]]
            part = data
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
            if found:
                start, end = int(found[1]), int(found[2])
                part = data[start : end + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(part)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


class Films:
    """Films of a folder or a store, fetched ahead or not."""

    def __init__(self, url: str, names: list[str], fetch: int, log: str) -> None:
        self.store, self.names, self.fetch, self.log = remote.open(url), names, fetch, log
        stats = self.store.stats(names)
        self.bytes = {name: each.size for name, each in stats.items()}
        self.marks = {name: each.fingerprint() for name, each in stats.items()}
        self.ahead = remote.Prefetcher(self.store.read, fetch=max(fetch, 1), bound=BOUND)

    def __len__(self) -> int:
        return len(self.names)

    def expect(self, start: int, stop: int) -> None:
        if self.fetch:
            self.ahead.expect((name, self.bytes[name]) for name in self.names[start:stop])

    def read(self, start: int, stop: int) -> Any:
        for name in self.names[start:stop]:
            data = self.ahead.get(name, self.bytes[name])
            Path(self.log).write_text(str(self.ahead.most))
            yield data

    def fingerprint(self) -> dict[str, str]:
        return self.marks


def draw(data: bytes) -> int:
    return int(images.draw(data, Drawing()).image.sum())


def timed(url: str, names: list[str], fetch: int, folder: Path) -> dict[str, Any]:
    log = folder / "most"
    source = Films(url, names, fetch, str(log))
    began = time.perf_counter()
    report = penstock.run(draw, source, budget="1GiB", workers=1)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "most": int(log.read_text()), "sum": sum(report.result)}


def make(folder: Path, count: int) -> list[str]:
    draws = np.random.default_rng(1)
    for number in range(count):
        small = Image.fromarray(draws.integers(0, 256, (96, 80), np.uint8))
        film = np.asarray(small.resize((1272, 1528), Image.Resampling.BICUBIC)).astype(np.int16)
        film = np.clip(film + draws.normal(0, 6, film.shape), 0, 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(film).save(out, "JPEG", quality=95)
        (folder / f"{number:04d}.jpg").write_bytes(out.getvalue())
    return [f"{number:04d}.jpg" for number in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=96)
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.delay)
        return
    with tempfile.TemporaryDirectory() as name:
        films = Path(name, "films")
        films.mkdir()
        names = make(films, asked.films)
        command = [sys.executable, __file__, "--serve", str(films), "--delay", str(asked.delay)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/films"
            try:
                found = {"folder": timed(films.as_uri(), names, 4, Path(name))}
                for what, fetch in (("server, fetch 4", 4), ("server, fetch 1", 1), ("server, not ahead", 0)):
                    found[what] = timed(url, names, fetch, Path(name))
            finally:
                server.terminate()
    assert len({each["sum"] for each in found.values()}) == 1
    for what, each in found.items():
        each["ratio"] = each["seconds"] / found["folder"]["seconds"]
        most = f"{each['most'] / 2**20:.1f} of {BOUND >> 20} MiB"
        print(f"{what:18} {each['seconds']:6.2f} s  {each['ratio']:5.2f} x the folder  {most}")
    if asked.json:
        asked.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
