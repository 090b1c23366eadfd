"""A run with films behind a web server that takes its time, beside one with the same films in a folder.

    python benchmarks/multimodal/remote.py [--subjects 60] [--delay 0.05] [--fetch 1,4,8] [--json FILE]

Films of full size (16 different ones); every answer of the server comes ``--delay`` seconds after its
request. Wall seconds of the three stages that make shards, from the run's own report, of a folder and for
each number of films that are under way at once, each with the wall of the folder in the same round; the
shards must be the same bytes. One worker.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SPLITS = ("train", "val", "test")


class Late(SimpleHTTPRequestHandler):
    """Whole files and ranges of them, after a delay."""

    protocol_version = "HTTP/1.1"
    delay = 0.0

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """Answer."""
        time.sleep(self.delay)
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self._answer(404, b"", {})
        data = path.read_bytes()
        where = self.headers.get("Range")
        if where is None:
            return self._answer(200, data, {})
        start, end = (int(each) for each in where.removeprefix("bytes=").split("-"))
        part = data[start : end + 1]
        return self._answer(
            206, part, {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(data)}"}
        )

    do_HEAD = do_GET

    def _answer(self, code: int, data: bytes, more: dict[str, str]) -> None:
        self.send_response(code)
        told = {"ETag": f'"{len(data)}"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT", **more}
        for name, value in {**told, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


def serve(folder: Path, delay: float) -> None:
    """Serve until this process is ended; its first line says where."""
    Late.delay = delay
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Late, directory=str(folder)))
    print(server.server_port, flush=True)
    server.serve_forever()


def run(root: Path, folder: Path, *more: str) -> dict[str, Any]:
    """A whole run: seconds and CPU of its shards, and their digest."""
    command = [sys.executable, "-m", "penstock", "run", "multimodal", str(root), "--into", str(folder)]
    command += ["--split", "quota", "--window", "24h", "--workers", "1", "--budget", "1GiB", "-q", *more]
    subprocess.run(command, check=True)
    stages = json.loads((folder / "report.json").read_text())["stages"]
    made = [stage for stage in stages if stage["stage"] in SPLITS]
    whole = hashlib.sha256()
    for path in sorted(folder.glob("*/*.tar")):
        whole.update(path.read_bytes())
    return {
        "seconds": sum(stage["seconds"] for stage in made), "records": sum(stage["items"] for stage in made),
        "digest": whole.hexdigest(),
    }  # fmt: skip


def main() -> None:
    """Run all, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=60)
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--fetch", default="1,4,8")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given.serve, given.delay)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        make = [sys.executable, str(HERE / "make_input.py"), str(work / "tree"), "--defects", "0"]
        make += [
            "--subjects",
            str(given.subjects),
            "--distinct-images",
            "16",
            "--no-edge-cases",
            "--scale",
            "1",
        ]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        films = next((work / "tree").glob("mimic-cxr-jpg/*/files")).parent
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(films), "--delay", str(given.delay)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            for fetch in given.fetch.split(","):
                local = run(work / "tree", work / f"local-{fetch}")
                far = run(work / "tree", work / f"far-{fetch}", "--cxr", url, "--fetch", fetch)
                assert far["digest"] == local["digest"], "not the same shards"
                found[fetch] = {"local": local, "remote": far, "ratio": far["seconds"] / local["seconds"]}
                print(
                    f"--fetch {fetch}: {far['seconds']:.1f} s for {far['records']} records, a folder "
                    f"{local['seconds']:.1f} s: {found[fetch]['ratio']:.2f} x", flush=True,
                )  # fmt: skip
        finally:
            server.terminate()
            server.wait()
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
