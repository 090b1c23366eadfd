"""Remote stores: whole files or a named failure, from a server with faults, a folder and memory."""

import hashlib
import pickle
import random
import subprocess
import sys

import pytest
from serving import serving
from waiting import LIMIT

import penstock
from penstock import BadInput, MissingExtra, UsageError, remote
from penstock.remote import store as stores
from penstock.testing import SourceSuite

obstore = pytest.importorskip("obstore")

DATA = random.Random(1).randbytes(300_000)
FILES = {"a.jpg": DATA, "b/c d.jpg": DATA[:1000], "empty": b"", "b/e.jpg": b"e"}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(stores, "PART", 100_000)
    monkeypatch.setattr(stores, "_FIRST_WAIT", 0.001)


@pytest.fixture
def served():
    with serving(FILES) as server:
        server.files["b/c%20d.jpg"] = FILES["b/c d.jpg"]
        yield server


@pytest.fixture(params=["http", "file", "memory"])
def store(request, tmp_path, served):
    if request.param == "http":
        return remote.open(served.url)
    if request.param == "file":
        for name, data in FILES.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        return remote.open(f"file://{tmp_path}")
    url = f"memory:///{tmp_path.name}"
    for name, data in FILES.items():
        obstore.put(stores.memory_store(url), name, data)
    return remote.open(url)


def test_reads_the_same_bytes_from_everywhere(store, tmp_path):
    for name, data in FILES.items():
        assert store.read(name) == data
    assert store.read("a.jpg", 5, 250_000) == DATA[5:250_000]
    assert store.read("a.jpg", 299_999) == DATA[299_999:]
    assert store.read("a.jpg", 7, 7) == b""
    for name in ("a.jpg", "empty"):
        with open(tmp_path / "copy", "wb") as out:
            store.copy(name, out)
        assert (tmp_path / "copy").read_bytes() == FILES[name]
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    assert copy.read("b/c d.jpg") == DATA[:1000]


def test_tells_files_by_size_and_etag(store, served, tmp_path):
    found = store.stats(["a.jpg", "empty", "nowhere"])
    assert {path: stat.size for path, stat in found.items()} == {"a.jpg": 300_000, "empty": 0}
    before = store.fingerprint(["a.jpg", "nowhere"])
    assert before == store.fingerprint(["a.jpg", "nowhere"])
    assert before[f"{store.url}/nowhere"] == "gone"
    other = bytes(300_000)
    served.files["a.jpg"] = other
    if store.url.startswith("file"):
        (tmp_path / "a.jpg").write_bytes(other)
    elif store.url.startswith("memory"):
        obstore.put(stores.memory_store(store.url), "a.jpg", other)
    after = store.fingerprint(["a.jpg", "nowhere"])
    assert after.keys() == before.keys()
    assert after[f"{store.url}/a.jpg"] != before[f"{store.url}/a.jpg"]


def test_lists_a_prefix_once_and_asks_for_no_file(tmp_path, monkeypatch):
    url = f"memory:///{tmp_path.name}"
    for name in ("x/1", "x/2", "xy/3"):
        obstore.put(stores.memory_store(url), name, b"1")
    monkeypatch.setattr(obstore, "head", None)
    assert sorted(each.path for each in remote.open(url).listing("x")) == ["x/1", "x/2"]
    assert list(remote.open(url).stats(["x/2", "x/9"], "x")) == ["x/2"]


def test_a_server_without_a_listing_is_asked_file_by_file_in_turn(served):
    served.delay = 0.01
    store = remote.open(served.url, fetch=3)
    assert list(store.stats([*FILES, "nowhere"] * 3)) == list(FILES)
    assert 1 < served.most <= 3
    with pytest.raises(BadInput, match="does not list"):
        list(store.listing())


def test_asks_in_parts_and_says_who_pays(served):
    remote.open(served.url, user_project="my-project").read("a.jpg")
    assert [each[2] for each in served.asked] == [
        "bytes=0-99999", "bytes=100000-199999", "bytes=200000-299999",
    ]  # fmt: skip
    assert {each[3] for each in served.asked} == {"my-project"}
    remote.open(served.url).read("a.jpg")
    assert served.asked[-1][3] is None


@pytest.mark.parametrize("fault", ["500", "short", "broken"])
def test_tries_again_what_fails_and_gives_the_whole_file(served, fault):
    served.faults["a.jpg"] = [fault, fault, "", fault]
    assert remote.open(served.url).read("a.jpg") == DATA


def test_a_short_read_is_a_failure_that_is_named(served):
    served.faults["a.jpg"] = ["", *["short"] * 9]
    with pytest.raises(
        remote.ReadFailed, match=r"50000 of the 100000 bytes from byte 100000.*3 times"
    ) as caught:
        remote.open(served.url, retries=2).read("a.jpg")
    assert caught.value.filename == f"{served.url}/a.jpg"
    assert len(served.asked) == 4


def test_a_server_that_stays_broken_is_a_failure_that_is_named(served):
    served.faults["a.jpg"] = ["500"] * 9
    with pytest.raises(remote.ReadFailed, match="500") as caught:
        remote.open(served.url, retries=2).read("a.jpg")
    assert caught.value.filename == f"{served.url}/a.jpg"
    assert "Debug source" not in str(caught.value)
    assert len(served.asked) == 3


def test_a_file_that_changes_while_it_is_read_is_told(served):
    served.faults["a.jpg"] = ["", "changed"]
    with pytest.raises(remote.ReadFailed, match="changed while it was read"):
        remote.open(served.url).read("a.jpg")


def test_a_file_shorter_than_was_expected_is_told(store):
    with pytest.raises(remote.ReadFailed, match="ends at byte 300000, where 300001"):
        store.read("a.jpg", 0, 300_001)


def test_what_is_not_there_or_not_allowed_is_told_as_such(store, served):
    with pytest.raises(FileNotFoundError) as caught:
        store.read("nowhere")
    assert caught.value.filename == f"{store.url}/nowhere"
    if store.url.startswith("http"):
        served.faults["a.jpg"] = ["403"]
        with pytest.raises(PermissionError):
            store.read("a.jpg")
        served.ranges = False
        with pytest.raises(BadInput, match="knows no ranges"):
            store.read("a.jpg")


@pytest.mark.parametrize("url", ["bucket/prefix", "ftp://host/folder", "/folder"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(UsageError, match="gs://BUCKET"):
        remote.open(url)
    with pytest.raises(UsageError, match="at least 1"):
        remote.open("gs://bucket", fetch=0)


def test_buckets_open_without_a_question():
    for url in ("gs://bucket/prefix", "s3://bucket/prefix"):
        assert remote.open(url, options={"skip_signature": True})._store.prefix == "prefix"
    with pytest.raises(UsageError, match="nonsense"):
        remote.open("gs://bucket", options={"nonsense": "1"})._store


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtra, match=r"penstock\[remote\]"):
        remote.open("gs://bucket/prefix")


FORK = """
import os, sys
from penstock import remote
store = remote.open(sys.argv[1])
store.read("a")
pid = os.fork()
if not pid:
    try:
        store.read("a")
    except remote.store.UsageError as error:
        os._exit(7 if "forked" in str(error) else 1)
    os._exit(2)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_forked_child_is_refused_where_it_would_wait_for_ever(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    program = [sys.executable, "-W", "ignore", "-c", FORK, f"file://{tmp_path}"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout.strip() == "7", done.stderr


class Remote:
    """Files of a store, each an item, fetched ahead."""

    def __init__(self, url, names):
        self.store, self.names = remote.open(url), sorted(names)
        self.sizes_ = {name: stat.size for name, stat in self.store.stats(self.names).items()}
        self.ahead = remote.Prefetcher(self.store.read, bound=150_000)

    def __len__(self):
        return len(self.names)

    def expect(self, start, stop):
        self.ahead.expect((name, self.sizes_[name]) for name in self.names[start:stop])

    def read(self, start, stop):
        for name in self.names[start:stop]:
            yield self.ahead.get(name, self.sizes_[name])

    def sizes(self, start, stop):
        return [self.sizes_[name] for name in self.names[start:stop]]

    def fingerprint(self):
        return self.store.fingerprint(self.names)


class TestRemoteSource(SourceSuite):
    def make(self, folder):
        for number in range(6):
            path = folder / f"{number}.bin"
            if not path.exists():
                path.write_bytes(DATA[number : number * 20_000])
        return Remote(f"file://{folder}", [f"{number}.bin" for number in range(6)])

    def change(self, folder):
        (folder / "3.bin").write_bytes(b"other")
        return True


def digest(data):
    return hashlib.sha256(data).hexdigest()


def test_a_run_over_a_server_gives_what_one_over_files_gives(served, tmp_path):
    names = [name for name in FILES if " " not in name]
    (tmp_path / "b").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(FILES[name])
    served.faults = {name: ["500", "short"] for name in names}
    results = [
        list(penstock.run(digest, Remote(url, names), tmp_path / f"run{at}", budget="1GiB", workers=1).result)
        for at, url in enumerate((served.url, f"file://{tmp_path}"))
    ]
    assert results[0] == results[1] == [digest(FILES[name]) for name in sorted(names)]
