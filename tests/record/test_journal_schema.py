"""A line of the journal says what a line may say, whoever wrote it; all else is damage, with its place."""

import json
import os
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import values
from penstock.abc import Batch, Part, Receipt
from penstock.errors import JournalDamaged
from penstock.record import entries, journal, journal_schema
from penstock.record.verify import verify

GOOD = [
    {"job": {"source": {"items": 4, "files": {"a": "1:-:2"}, "spans": {"a": [0, 4]}}, "rooms": {"": {}}}},
    {"budget": 1 << 30},
    {"opened": True, "reducers": ["count"]},
    {"kept": [0, 2], "receipts": {"": [[0, 2, [["part-0", 3, "ab"]], {"any": [1]}]]},
     "aside": [{"item": 1, "name": "b", "reason": "raised", "message": "m"}]},
    {"kept": [2, 3], "receipts": {"": [[2, 3, [["part-2", 3, "ab"]], None]]}, "touched": {"": [7]}},
    {"back": [[0, 1]]},
    {"closed": True, "rooms": {"": [[["all", 3, "ab"]], True, "part-*"], "count": None}},
    {"of a later version": "x"},
]  # fmt: skip
BAD = [
    7, [], "x", None, {"job": []}, {"job": {"source": 7}}, {"job": {"source": {"items": -1}}},
    {"job": {"source": {"items": "4"}}}, {"job": {"rooms": {"../x": {}}}}, {"change": 3}, {"budget": "1 GiB"},
    {"budget": 1.5}, {"kept": [0]}, {"kept": [2, 2]}, {"kept": [3, 1]}, {"kept": ["0", "1"]},
    {"kept": [0, 10**30]}, {"kept": [-5, 3]}, {"kept": [True, 3]}, {"kept": {}}, {"kept": None},
    {"touched": 7}, {"touched": {"": [-1]}}, {"touched": {"../..": []}},
    {"kept": [0, 1], "receipts": {"": [[0, 1, [], None]]}, "touched": {"": [1, 2]}},
    {"receipts": []}, {"kept": [0, 2], "receipts": {"": [[0, 3, [], None]]}},
    {"receipts": {"": [[0, 1, []]]}},
    {"receipts": {"": [[0, 1, [["/dev/zero", 1, "x"]], None]]}},
    {"receipts": {"": [[0, 1, [["../../etc/hostname", 1, "x"]], None]]}},
    {"receipts": {"": [[0, 1, [["a\0b", 1, "x"]], None]]}},
    {"receipts": {"": [[0, 1, [["a", -1, "x"]], None]]}},
    {"receipts": {"../..": []}}, {"aside": [{}]}, {"aside": [{"item": 1}]}, {"aside": {}},
    {"aside": [{"item": 1, "name": 3, "reason": "", "message": ""}]},
    {"aside": [{"item": 1, "name": "", "reason": "", "message": "", "more": 1}]},
    {"back": [[1]]}, {"back": 7}, {"opened": "yes"}, {"reducers": "count"}, {"reducers": ["/"]},
    {"closed": 1},
    {"rooms": []}, {"rooms": {"": []}}, {"rooms": {"": [[["/etc/passwd", 1, "x"]], True, "*"]}},
]  # fmt: skip


def written(path, *entries):
    with open(path, "wb") as file:
        for entry in entries:
            text = entry if isinstance(entry, bytes) else json.dumps(entry).encode()
            file.write(b"%08x %s\n" % (zlib.crc32(text), text))
    return path


def readers(path):
    yield lambda: journal.read(path)
    yield lambda: list(journal.receipts(path, ""))
    yield lambda: journal.batches_of(path, [0])
    yield lambda: journal.torn(path)
    yield lambda: journal.Journal(path).close()


def test_what_we_write_passes(tmp_path):
    for entry in GOOD:
        journal_schema.check(entry)
    path = written(tmp_path / "journal", *GOOD)
    for read in readers(path):
        read()
    told = entries.kept(0, 1, {"x": [(0, 1, Receipt((Part("a/b", 1, "d"),), 3))]}, ())
    journal_schema.check(told)
    assert list(journal.receipts(written(path, told), "x")) == [
        (Batch(0, 1), Receipt((Part("a/b", 1, "d"),), 3))
    ]


@pytest.mark.parametrize("entry", BAD, ids=lambda entry: json.dumps(entry)[:60])
def test_nonsense_with_a_good_checksum_is_damage_in_that_line(tmp_path, entry):
    path = written(tmp_path / "journal", GOOD[0], entry)
    for read in readers(path):
        with pytest.raises(JournalDamaged, match=r"journal, line 2: whoever wrote it"):
            read()


@pytest.mark.parametrize(
    "text", [b"{", b"[" * 5_000, b"[" * 5_000 + b"]" * 5_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b"\xff",
             b'{"kept":{"__array__":["O",[1],"AAAA"]}}', b'{"x":{"__array__":["<f8",[-1],"AAAA"]}}',
             b'{"x":{"__array__":7}}', b'{"x":{"__dict__":"0xzz"}}', b'{"x":' + b"9" * 5_000 + b"}"],
    ids=lambda text: repr(text[:30])
)  # fmt: skip
def test_text_that_is_none_is_damage_too(tmp_path, text):
    for read in readers(written(tmp_path / "journal", GOOD[0], text)):
        with pytest.raises(JournalDamaged, match="line 2"):
            read()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*journal_schema._CHECKS, "item", "name", "", "source", "items"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(JSON, max_size=4))
def test_no_line_leads_to_anything_but_damage(tmp_path_factory, entries):
    path = written(tmp_path_factory.mktemp("made") / "journal", *entries)
    for read in readers(path):
        try:
            read()
        except JournalDamaged:
            pass


def test_a_line_without_an_end_is_not_gathered(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_LONGEST", 1_000)
    path = tmp_path / "journal"
    path.write_bytes(b"x" * 5_000)
    with pytest.raises(JournalDamaged, match="1,000 bytes"):
        journal.read(path)


def test_a_line_of_many_failures_keeps_the_first_tracebacks_only(tmp_path):
    from penstock.abc import SetAside

    aside = [SetAside(i, "n", "raised", "m", "E", "t" * 20_000) for i in range(1_000)]
    told = entries.kept(0, 1_000, {}, aside)
    assert len(values.dumps(told)) < 10 << 20
    assert told["aside"][0]["traceback"]
    assert len(told["aside"]) == 1_000


def test_verify_names_what_is_no_part(tmp_path):
    """Devices, pipes and links out of the folder are never read, and no fault is a traceback."""
    book = tmp_path / ".penstock" / "job" / "journal"
    book.parent.mkdir(parents=True)
    (book.parents[1] / "events.jsonl").write_text("")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "link", "zero", "out/hostname", "gone"):
        entry = {"kept": [0, 2], "receipts": {"": [[0, 2, [[name, 1, "x"]], None]]}}
        written(book, {"job": {"source": {"items": 2}, "rooms": {"": {}}}}, entry)
        assert any(name in fault.file for fault in verify(tmp_path).faults), name
    written(book, {"job": {}}, {"kept": "nonsense"})
    assert any("line 2" in fault.found for fault in verify(tmp_path).faults)
    book.unlink()
    os.mkfifo(book)
    assert verify(tmp_path).faults
