"""Films in a store or behind a web server: the same shards as from a folder, and no fault goes unseen."""

import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from runs import published, run, run_here

import penstock
from penstock import SourceChanged, UsageError
from penstock.workloads.multimodal.elsewhere import BOUND, Elsewhere
from penstock.workloads.multimodal.layout import CXR_TABLES

pytest.importorskip("obstore")


@pytest.fixture
def films(sample, tmp_path):
    """A copy of the folder of films, which a test may change."""
    found = next(sample.glob("mimic-cxr-jpg/*/mimic-cxr-2.0.0-metadata.csv*")).parent
    return shutil.copytree(found, tmp_path / "films")


@contextmanager
def web(folder):
    """A server of a folder that gives parts of files, writes down what it is asked, and refuses a film."""
    asked, refused = [], set()

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_GET(self):
            asked.append((self.command, self.headers.get("x-goog-user-project")))
            path = self.translate_path(self.path)
            if self.command == "GET" and Path(path).stem in refused:
                self.send_response(403)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except OSError:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            part, where = data, self.headers.get("Range")
            if where:
                start, end = (int(each) for each in where.removeprefix("bytes=").split("-"))
                part = data[start : end + 1]
                self.send_response(206 if part else 416)
                self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(data)}")
            else:
                self.send_response(200)
            self.send_header("ETag", f'"{hash(data)}"')
            self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(part)
            return None

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked, refused
    finally:
        server.shutdown()
        server.server_close()
        thread.join(300)


def test_shards_are_the_same_from_a_folder_a_store_and_a_server(sample, films, tmp_path):
    run_here(tmp_path / "local", sample, cxr=str(films))
    expected = published(tmp_path / "local")
    run(tmp_path / "store", sample, cxr=films.as_uri(), fetch=2)
    assert published(tmp_path / "store") == expected
    with web(films) as (url, asked, _):
        run(tmp_path / "server", sample, cxr=url, user_project="my-project")
        assert published(tmp_path / "server") == expected
        assert {project for _, project in asked} == {"my-project"}
        asked.clear()
        run(tmp_path / "server", sample, cxr=url, user_project="who-pays-now", fetch=1)  # all is done
        assert {command for command, _ in asked} == {"HEAD"}
        assert len(asked) <= 2 * len(CXR_TABLES), "one for each table, and none for a film"
        assert published(tmp_path / "server") == expected


def test_a_film_that_could_not_be_had_fails_the_run_and_is_had_by_the_next(sample, films, tmp_path):
    run_here(tmp_path / "local", sample, cxr=str(films))
    row = pq.read_table(tmp_path / "local/splits.parquet").slice(0, 1).to_pylist()[0]
    with web(films) as (url, _, refused):
        refused.add(row["dicom_id"])
        with pytest.raises(penstock.FunctionRaised, match="PermissionError"):
            run(tmp_path / "run", sample, cxr=url)
        refused.clear()
        run(tmp_path / "run", sample, cxr=url, retry_set_aside=True)
    assert published(tmp_path / "run") == published(tmp_path / "local")


def test_a_film_that_changed_between_run_and_resume_is_named_by_its_shard(sample, films, tmp_path):
    run(tmp_path / "run", sample, cxr=films.as_uri())
    row = pq.read_table(tmp_path / "run/splits.parquet").slice(0, 1).to_pylist()[0]
    film = next(films.glob(f"files/*/*/*/{row['dicom_id']}.jpg"))
    film.write_bytes(film.read_bytes() + b"\0")
    with pytest.raises(SourceChanged, match=r"train-\d{5}, record"):
        run(tmp_path / "run", sample, cxr=films.as_uri())


def test_only_films_may_lie_elsewhere_and_an_address_must_be_one(sample, tmp_path):
    with pytest.raises(UsageError, match="only --cxr"):
        run(tmp_path / "run", sample, ed="gs://bucket/ed")
    with pytest.raises(UsageError, match="gs://BUCKET"):
        run(tmp_path / "run", sample, cxr="ftp://host/films")
    with pytest.raises(UsageError, match=r"--user-project me pays for films at an address"):
        run(tmp_path / "run", sample, user_project="me")
    (tmp_path / "none").mkdir()
    with pytest.raises(penstock.BadInput, match="no table of MIMIC-CXR-JPG"):
        run(tmp_path / "run", sample, cxr=(tmp_path / "none").as_uri())


def test_films_under_way_stay_within_the_bound(films):
    elsewhere = Elsewhere(films.as_uri())
    found = sorted(films.glob("files/**/*.jpg"))
    paths = {str(path.relative_to(films)): path.stat().st_size for path in found}
    elsewhere.expect(list(paths.items()))
    for path, size in paths.items():
        assert elsewhere.film(path, size) == (films / path).read_bytes()
    assert 0 < elsewhere._ahead.most <= BOUND
