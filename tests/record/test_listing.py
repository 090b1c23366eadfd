"""The files of a source in the key: few of them whole, many by digests with all of them beside it."""

import gc
import json
import os
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock
from penstock.errors import SourceChanged
from penstock.record.listing import Listing, whole
from penstock.sources import Chain, Fasta, Files, Items, ParquetRows


@dataclass
class Told:
    """A source of made-up files, each an item."""

    files: dict

    def __len__(self):
        return len(self.files)

    def read(self, start, stop):
        return list(self.files)[start:stop]

    def fingerprint(self):
        return self.files

    def fingerprint_kind(self):
        return "stat"

    def fingerprint_by(self, kind):
        return self.files

    def spans(self):
        return {name: (item, item + 1) for item, name in enumerate(self.files)}


def names(count):
    return {f"scan-{number}": f"{number}:5:-" for number in range(count)}


def test_few_files_are_told_in_the_key():
    told = Listing.of(Told(names(3))).in_key()
    assert told == {
        "how": "stat",
        "files": names(3),
        "spans": {"scan-0": [0, 1], "scan-1": [1, 2], "scan-2": [2, 3]},
    }


def test_many_are_one_digest_for_each_thousand(tmp_path):
    listing = Listing.of(Told(names(2500)))
    key = listing.in_key()
    assert key["count"] == 2500
    assert len(key["digests"]) == 3
    assert "files" not in key
    listing.keep(tmp_path)
    assert whole(tmp_path, key) == {**key, **{"files": names(2500)}, "spans": listing.as_source({})["spans"]}
    other = Listing.of(Told({**names(2500), "scan-1700": "9:9:-"})).in_key()
    same = [a == b for a, b in zip(key["digests"], other["digests"], strict=True)]
    assert same == [True, False, True]


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_any_name_comes_back(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("l")
    files = {**names(101), **files}
    listing = Listing.of(Told(files))
    listing.keep(folder)
    found = whole(folder, listing.in_key())
    assert found is not None
    assert found["files"] == files


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.text(), min_size=1, max_size=30), st.booleans())
def test_digests_are_of_what_json_writes(files, spanned):
    """Those in folders of earlier versions are."""
    spans = {name: (item, item + 1) for item, name in enumerate(files)} if spanned else {}
    rows = [(name, text, *spans.get(name, ())) for name, text in files.items()]
    assert Listing("stat", files, spans)._blocks() == [json.dumps(rows).encode()]


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "other"])
def test_what_lies_beside_is_believed_only_when_it_is_what_it_was(tmp_path, damage):
    listing = Listing.of(Told(names(200)))
    listing.keep(tmp_path)
    (path,) = tmp_path.glob("files-*.z")
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[:-9])
    elif damage == "changed":
        path.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    else:
        path.write_bytes(b"x\x9c" + data[:30])
    assert whole(tmp_path, listing.in_key()) is None


def test_those_of_keys_before_go(tmp_path):
    before, now = Listing.of(Told(names(200))), Listing.of(Told(names(201)))
    before.keep(tmp_path)
    now.keep(tmp_path)
    now.clear(tmp_path)
    assert whole(tmp_path, before.in_key()) is None
    assert whole(tmp_path, now.in_key()) is not None


# --------------------------------------------------------------------------- in a run


def count(path):
    if path.name.endswith("-150.txt"):
        raise ValueError("not this one")
    return len(path.read_text())


def make(folder, files):
    folder.mkdir(exist_ok=True)
    for number in range(files):
        (folder / f"scan-{number:03}.txt").write_text("x" * number)


def run(tmp_path, source, **options):
    return penstock.run(count, source, tmp_path / "run", backend="inline", set_aside=True, **options)


def test_a_changed_file_is_named_and_only_one_of_items_done_stands_in_the_way(tmp_path):
    make(tmp_path / "in", 200)
    pattern = str(tmp_path / "in" / "*")
    assert run(tmp_path, Files(pattern)).set_aside_total == 1
    journal = (tmp_path / "run" / ".penstock" / "job" / "journal").read_text()
    assert "scan-017" not in journal, "the files are beside it"
    (tmp_path / "in" / "scan-150.txt").write_text("another, of an item that was set aside")
    run(tmp_path, Files(pattern))
    (tmp_path / "in" / "scan-017.txt").write_text("another, of an item that is done")
    with pytest.raises(SourceChanged, match=r"scan-017.txt has 32 bytes, it had 17\."):
        run(tmp_path, Files(pattern))


def lists_of(count):
    return [each for each in gc.get_objects() if type(each) is Listing and len(each.files) == count]


def test_nobody_holds_the_list_while_the_items_are_worked(tmp_path):
    make(tmp_path / "in", 137)
    source = Files(str(tmp_path / "in" / "*"))
    before = Listing.of(source)
    assert lists_of(137) == [before], "it is seen where it is held"
    del before
    report = penstock.run(lambda path: len(lists_of(137)), source, tmp_path / "run", backend="inline")
    assert list(report.result) == [0] * 137


def test_one_file_more_does_not_change_how_all_are_told(tmp_path):
    make(tmp_path / "in", 120)
    few = Files([tmp_path / "in" / f"scan-{number:03}.txt" for number in range(5)])
    assert few.fingerprint_kind() == "content"
    run(tmp_path, few)
    more = Files(str(tmp_path / "in" / "*"), fingerprint="stat")
    assert run(tmp_path, more).items == 120
    os.utime(tmp_path / "in" / "scan-003.txt", (0, 0))
    assert run(tmp_path, more).done == 120, "they are told by their content still"


def test_when_it_cannot_be_told_which_file_changed_the_run_says_so(tmp_path):
    make(tmp_path / "in", 200)
    pattern = str(tmp_path / "in" / "*")
    run(tmp_path, Files(pattern))
    (path,) = (tmp_path / "run" / ".penstock" / "job").glob("files-*.z")
    path.unlink()
    run(tmp_path, Files(pattern))
    (tmp_path / "in" / "scan-017.txt").write_text("another")
    with pytest.raises(SourceChanged, match=r"cannot be told from changed ones"):
        run(tmp_path, Files(pattern))


class Old:
    """The source Files as it was: one way to tell files, by parts of them."""

    def __init__(self, pattern):
        self._files = Files(pattern)
        self.read, self.spans, self.name = self._files.read, self._files.spans, self._files.name

    def __len__(self):
        return len(self._files)

    def fingerprint(self):
        return self._files.fingerprint_by("sample")


Old.__qualname__ = "Files"


def test_a_folder_of_an_earlier_version_goes_on_as_it_was_told(tmp_path):
    """Its key tells each file by parts of it, in the journal itself."""
    make(tmp_path / "in", 150)
    pattern = str(tmp_path / "in" / "*")
    run(tmp_path, Old(pattern))
    journal = (tmp_path / "run" / ".penstock" / "job" / "journal").read_text()
    assert "scan-017" in journal
    report = run(tmp_path, Files(pattern))
    assert report.resumed_from == report.done == 150
    make(tmp_path / "in", 151)
    assert run(tmp_path, Files(pattern)).items == 151
    (tmp_path / "in" / "scan-017.txt").write_text("another, of an item that is done")
    with pytest.raises(SourceChanged, match=r"scan-017.txt has 32 bytes, it had 17\."):
        run(tmp_path, Files(pattern))


# --------------------------------------------------------------------------- every source of files


def parquet(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1, 2, 3]}), path)


def fasta(path):
    path.write_text(">a\nACGT\n")


SOURCES = {
    "Files": (fasta, Files),
    "Fasta": (fasta, Fasta),
    "ParquetRows": (parquet, ParquetRows),
    "Chain": (fasta, lambda paths, **how: Chain([Items([1, 2]), Files(paths, **how)])),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_of_files_tells_them_by_content_or_by_size_and_time(tmp_path, kind):
    write, make = SOURCES[kind]
    path = tmp_path / "input"
    write(path)

    def told(how):
        source = make([path], fingerprint=how)
        return source.fingerprint_by(source.fingerprint_kind())

    by_content, by_stat, auto = told("content"), told("stat"), told("auto")
    assert auto == by_content, "of a few small files the content counts"
    os.utime(path, (5, 5))
    assert told("content") == by_content
    assert told("stat") != by_stat
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    assert told("content") != by_content
    with pytest.raises(penstock.UsageError, match=r"fingerprint='whole'.: it is 'auto', 'content' or 'stat'"):
        make([path], fingerprint="whole")


def test_many_files_and_large_ones_are_told_by_size_and_time(tmp_path):
    make(tmp_path / "in", 3)
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate((64 << 20) + 1)
    assert Files([large]).fingerprint_kind() == "stat"
    assert Files(str(tmp_path / "in" / "*")).fingerprint_kind() == "content"
    for number in range(1001):
        (tmp_path / "in" / f"more-{number}").touch()
    assert Files(str(tmp_path / "in" / "*")).fingerprint_kind() == "stat"


def test_a_chain_tells_each_source_in_its_own_way_and_one_that_has_come_in_its_own(tmp_path):
    make(tmp_path / "in", 4)
    one, two, three = (tmp_path / "in" / f"scan-00{number}.txt" for number in (1, 2, 3))
    before = Chain([Files([one], fingerprint="stat"), Files([two])])
    kind = before.fingerprint_kind()
    now = Chain([Files([one]), Files([two], fingerprint="stat"), Files([three], fingerprint="stat")])
    told = now.fingerprint_by(kind)
    assert {name: told[name] for name in before.fingerprint_by(kind)} == before.fingerprint_by(kind)
    assert told[str(three)].endswith(":-")
    assert set(now.spans()) == set(told)
