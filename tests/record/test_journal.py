"""The journal: what is written is read, a torn end is dropped, damage is never taken for the truth."""

import errno
import os
from contextlib import ExitStack, closing, nullcontext, suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.abc import Batch, Part, Receipt, SetAside
from penstock.errors import JournalDamaged, PenstockBug, RunTakenOver
from penstock.intervals import Intervals
from penstock.record import journal
from penstock.record.entries import kept, plain
from penstock.record.journal import Journal, Past, batches_of, read, receipts
from penstock.testing.comparing import comparable


def aside(item, reason="raised"):
    return SetAside(item, f"i{item}", reason, "because", "ValueError", "Traceback", 7)


def receipt(value=None, *names):
    return Receipt(tuple(Part(name, 10, "ab") for name in names), value)


ENTRIES = [
    {"job": {"function": {"name": "m.f"}}},
    {"budget": 1 << 30},
    {"opened": True},
    kept(0, 4, {"": [(0, 2, receipt({"n": 1})), (2, 4, receipt(None, "p2"))]}, [aside(1)]),
    kept(8, 10, {"": [(8, 10, receipt(np.arange(3)))]}, []),
    {"aside": [plain(aside(5, "memory"))]},
    kept(4, 8, {"": [(4, 6, receipt("ü\n")), (6, 8, receipt())]}, [aside(5, "memory")]),
    {"closed": True},
]


def write(path, entries):
    book = Journal(path, durable=False)
    book.write(*entries)
    book.close()
    return path


def told(past):
    return (
        past.job,
        list(past.done),
        {item: comparable(each) for item, each in past.aside.items()},
        past.opened,
        past.closed,
    )


def test_no_journal_is_an_empty_past(tmp_path):
    assert told(read(tmp_path / "journal")) == told(Past())


def test_what_is_written_is_read(tmp_path):
    past = read(write(tmp_path / "journal", ENTRIES))
    assert past.job == {"function": {"name": "m.f"}}
    assert list(past.done) == [(0, 10)]
    assert sorted(past.aside) == [1, 5]
    assert past.aside[5].needed == 7
    assert past.under == {1: 1 << 30, 5: 1 << 30}
    assert past.kept == 8
    assert past.opened
    assert past.closed


def test_receipts_come_in_item_order(tmp_path):
    path = write(tmp_path / "journal", ENTRIES)
    found = list(receipts(path, ""))
    assert [batch for batch, _ in found] == [
        Batch(0, 2, (1,)),
        Batch(2, 4),
        Batch(4, 6, (5,)),
        Batch(6, 8),
        Batch(8, 10),
    ]
    assert comparable([each.value for _, each in found]) == comparable(
        [{"n": 1}, None, "ü\n", None, np.arange(3)]
    )
    assert found[1][1].parts == (Part("p2", 10, "ab"),)
    assert list(receipts(path, "other")) == []


def test_each_room_has_its_receipts(tmp_path):
    grains = {"a": [(0, 4, receipt(1))], "b": [(0, 2, receipt(2)), (2, 4, receipt(3))]}
    path = write(tmp_path / "journal", [kept(0, 4, grains, [])])
    assert [each.value for _, each in receipts(path, "a")] == [1]
    assert [each.value for _, each in receipts(path, "b")] == [2, 3]


# --------------------------------------------------------------------------- taken back


def test_what_is_taken_back_is_not_done(tmp_path):
    path = write(tmp_path / "journal", [*ENTRIES, {"back": [[0, 4], [5, 6]]}])
    past = read(path)
    assert list(past.done) == [(4, 5), (6, 10)]
    assert past.aside == {}
    assert not past.closed
    assert past.opened


def test_a_batch_that_was_worked_again_counts_once(tmp_path):
    again = [kept(0, 2, {"": [(0, 2, receipt("new"))]}, []), kept(2, 4, {"": [(2, 4, receipt())]}, [])]
    path = write(tmp_path / "journal", [*ENTRIES, {"back": [[0, 4]]}, *again])
    assert list(read(path).done) == [(0, 10)]
    found = list(receipts(path, ""))
    assert [(batch.start, batch.stop) for batch, _ in found] == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    assert found[0][1].value == "new"


def test_whole_batches_are_taken_back(tmp_path):
    path = write(tmp_path / "journal", ENTRIES)
    assert sorted(batches_of(path, [1, 5])) == [[0, 4], [4, 8]]
    assert batches_of(path, [12]) == [[12, 13]], "set aside, and its batch not kept"
    path = write(path, [{"back": [[0, 4]]}])
    assert sorted(batches_of(path, [1, 5])) == [[1, 2], [4, 8]]


def test_an_accepted_change_opens_it_again(tmp_path):
    past = read(write(tmp_path / "journal", [*ENTRIES, {"change": {"function": {"name": "m.g"}}}]))
    assert past.job == {"function": {"name": "m.g"}}
    assert not past.closed
    assert list(past.done) == [(0, 10)]


# --------------------------------------------------------------------------- torn and damaged


def test_a_last_line_torn_anywhere_is_dropped(tmp_path):
    path = write(tmp_path / "journal", ENTRIES)
    data = path.read_bytes()
    last = data[:-1].rindex(b"\n") + 1
    before = told(read(write(tmp_path / "before", ENTRIES[:-1])))
    for end in range(last, len(data)):
        path.write_bytes(data[:end])
        assert told(read(path)) == before
        list(receipts(path, ""))
        write(path, [{"closed": True}])  # goes on behind the last whole line
        assert path.read_bytes() == data


def test_a_last_line_with_a_hole_is_torn(tmp_path):
    path = write(tmp_path / "journal", ENTRIES)
    data = bytearray(path.read_bytes())
    data[-10:-4] = bytes(6)
    path.write_bytes(data)
    assert told(read(path)) == told(read(write(tmp_path / "before", ENTRIES[:-1])))


def test_a_journal_of_one_torn_line_is_empty(tmp_path):
    path = write(tmp_path / "journal", ENTRIES[:1])
    path.write_bytes(path.read_bytes()[:-1])
    assert told(read(path)) == told(Past())


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_a_flipped_byte_anywhere_is_damage(tmp_path, flip):
    path = write(tmp_path / "journal", ENTRIES[2:6])
    data = path.read_bytes()
    # Without its newline the last line is a torn one, and with a zero in it too.
    for place in [place for place in range(len(data) - 1) if data[place] != flip]:
        path.write_bytes(data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])
        with pytest.raises(JournalDamaged, match=r"line [1-4]: the checksum does not match"):
            read(path)


def test_a_damaged_journal_is_not_written_to(tmp_path):
    path = write(tmp_path / "journal", ENTRIES)
    data = path.read_bytes().replace(b"opened", b"0pened")
    path.write_bytes(data)
    with pytest.raises(JournalDamaged):
        Journal(path)
    assert path.read_bytes() == data


def test_foreign_text_is_damage(tmp_path):
    path = tmp_path / "journal"
    for text in (b"hello\n", b"\n", b"{}\n", b"0" * 200 + b"\n"):
        path.write_bytes(text)
        with pytest.raises(JournalDamaged):
            read(path)


# --------------------------------------------------------------------------- against a model

LINE = st.one_of(
    st.tuples(st.just("kept"), st.integers(0, 9)),
    st.tuples(st.just("back"), st.integers(0, 9)),
)


@settings(deadline=None)
@given(lines=st.lists(LINE, max_size=30))
def test_agrees_with_a_dict(tmp_path_factory, lines):
    """Ten batches of three items, kept and taken back in any order."""
    path = tmp_path_factory.mktemp("journal") / "journal"
    model, entries = {}, []
    for number, (what, batch) in enumerate(lines):
        start, stop = 3 * batch, 3 * batch + 3
        if what == "kept" and batch not in model:
            model[batch] = number
            entries.append(kept(start, stop, {"": [(start, stop, receipt(number))]}, [aside(start)]))
        elif what == "back":
            model.pop(batch, None)
            entries.append({"back": [[start, stop]]})
    write(path, entries)
    past = read(path)
    assert {item // 3 for a, b in past.done for item in range(a, b)} == set(model)
    assert set(past.aside) == {3 * batch for batch in model}
    assert past.kept == 2 * len(model)
    assert [each.value for _, each in receipts(path, "")] == [model[batch] for batch in sorted(model)]


def test_is_flat_text_with_a_checksum_each(tmp_path):
    path = write(tmp_path / "journal", ENTRIES)
    lines = path.read_bytes().splitlines()
    assert len(lines) == len(ENTRIES)
    assert all(line[8:10] == b" {" for line in lines)
    assert journal._parse(lines[0] + b"\n") == ENTRIES[0]


# --------------------------------------------------------------------------- owners


class Owner:
    """Owns the folder until it is said not to."""

    def __init__(self, number):
        self.number = number
        self.mine = True

    def prove(self):
        if not self.mine:
            raise RunTakenOver("another has it")


@pytest.fixture
def book():
    """Opens journals, which are closed in the end."""
    with ExitStack() as stack:
        yield lambda path, owner: stack.enter_context(closing(Journal(path, durable=False, owner=owner)))


def batch(start, stop, value="old"):
    return kept(start, stop, {"": [(start, stop, receipt(value))]}, [])


def all_readers(path):
    """What each reader says is kept: they must agree."""
    past = read(path)
    covered = Intervals()
    values = {}
    for each, found in receipts(path, ""):
        covered.add(each.start, each.stop)
        values[each.start] = found.value
    assert list(covered) == list(past.done)
    wanted = {item for start, stop in past.done for item in range(start, stop)}
    spans = Intervals(tuple(pair) for pair in batches_of(path, wanted))
    assert list(spans) == list(past.done)
    return list(past.done), values


def test_every_line_carries_its_owners_number(tmp_path, book):
    path = tmp_path / "journal"
    book(path, Owner(3)).write({"budget": 1}, batch(0, 2))
    assert [line.split(b" ", 1)[1].count(b'"owner":3') for line in path.read_bytes().splitlines()] == [1, 1]
    assert read(path).owner == 3


def test_lines_of_an_owner_that_was_taken_over_do_not_count(tmp_path, book):
    path = tmp_path / "journal"
    old, new = book(path, Owner(1)), book(path, Owner(2))
    old.write({"job": {"n": 1}}, batch(0, 2))
    new.write({})
    old.write(batch(2, 4), {"closed": True}, {"back": [[0, 2]]}, {"change": {"n": 9}})
    assert all_readers(path) == ([(0, 2)], {0: "old"})
    assert not read(path).closed
    assert read(path).job == {"n": 1}
    new.write(batch(2, 4, "new"))
    old.write(batch(4, 6))
    assert all_readers(path) == ([(0, 4)], {0: "old", 2: "new"})
    assert read(path).owner == 2


def test_lines_without_a_number_are_of_owner_0(tmp_path, book):
    path = write(tmp_path / "journal", ENTRIES)
    assert read(path).owner == 0
    book(path, Owner(1)).write({})
    write(path, [{"back": [[0, 10]]}])  # an earlier version that woke up
    assert list(read(path).done) == [(0, 10)]


def test_an_owner_that_is_it_no_more_writes_nothing(tmp_path, book):
    path = tmp_path / "journal"
    owner = Owner(1)
    mine = book(path, owner)
    mine.write(batch(0, 2))
    before = path.read_bytes()
    owner.mine = False
    with pytest.raises(RunTakenOver):
        mine.write(batch(2, 4))
    path.write_bytes(before + b"torn")
    with pytest.raises(RunTakenOver):
        book(path, owner)
    assert path.read_bytes() == before + b"torn", "not even cut"


def test_after_a_taking_over_the_old_owner_appends_to_a_file_without_a_name(tmp_path, book):
    path = tmp_path / "journal"
    old = book(path, Owner(1))
    old.write(batch(0, 2))
    path.write_bytes(path.read_bytes() + b"torn")
    journal.take_over(path, Owner(2))
    before = path.read_bytes()
    assert b"torn" not in before
    old._file.write(b"late")
    assert path.read_bytes() == before
    assert all_readers(path) == ([(0, 2)], {0: "old"})


def test_a_sleeper_does_not_cut_the_journal_of_its_successor(tmp_path, book):
    """It slept between its proof and the opening, and opens the successor's by name."""
    path = tmp_path / "journal"
    book(path, Owner(1)).write(batch(0, 2))

    class Sleeper(Owner):
        proofs = 0

        def prove(self):
            self.proofs += 1
            if self.proofs == 1:
                journal.take_over(path, Owner(3))
                path.write_bytes(path.read_bytes() + b"a line that the successor is writing")
            else:
                super().prove()

    sleeper = Sleeper(2)
    sleeper.mine = False
    before = path.stat().st_size
    with pytest.raises(RunTakenOver):
        Journal(path, owner=sleeper)
    assert path.read_bytes().endswith(b"is writing")
    assert path.stat().st_size > before


@pytest.mark.parametrize("again", [(0, 4), (3, 5), (0, 1), (3, 4), (0, 9)])
@pytest.mark.parametrize("reader", [read, lambda p: list(receipts(p, "")), lambda p: batches_of(p, [1])])
def test_batches_that_overlap_are_refused_by_every_reader(tmp_path, again, reader):
    """Two owners wrote it, and whose parts lie there nobody can say."""
    path = write(tmp_path / "journal", [batch(0, 4), batch(*again)])
    with pytest.raises(JournalDamaged, match=f"items {again[0]} to {again[1] - 1} are kept here"):
        reader(path)


def test_batches_that_were_taken_back_may_come_again(tmp_path):
    path = write(tmp_path / "journal", [batch(0, 4), {"back": [[0, 4]]}, batch(0, 4, "new"), batch(4, 6)])
    assert all_readers(path) == ([(0, 6)], {0: "new", 4: "old"})


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.integers(0, 1)),
        st.tuples(st.just("take over"), st.integers(0, 1)),
    ),
    max_size=40,
)


@given(STEPS)
@settings(deadline=None, max_examples=200)
def test_whoever_writes_when_each_item_is_kept_once(tmp_path_factory, steps):
    """Two owners that take the folder from each other, of which neither sees that it lost it."""
    path = tmp_path_factory.mktemp("owners") / "journal"
    with ExitStack() as stack:

        def book(number):
            return stack.enter_context(closing(Journal(path, durable=False, owner=Owner(number))))

        number, latest = 1, 0
        books = [book(1), None]
        plans = [Intervals(), Intervals()]
        for step, who in steps:
            if step == "take over":
                number, latest = number + 1, who
                journal.take_over(path, Owner(number))
                books[who], plans[who] = book(number), Intervals(read(path).done)
            elif books[who] is not None:
                start, _ = next(plans[who].gaps(0, 100))
                plans[who].add(start, start + 1)
                # Late, to a file without a name: some kernels give the number of the last one to the next.
                with nullcontext() if who == latest else suppress(JournalDamaged):
                    books[who].write(batch(start, start + 1, who))
    done, values = all_readers(path)
    assert done == list(plans[latest])
    assert sorted(values) == [item for start, stop in done for item in range(start, stop)]


class _Failing:
    """A file whose first write fails half-way; where ``cut`` is False, so does taking it back."""

    def __init__(self, file, *, cut=True):
        self.file, self.cut, self.times = file, cut, 1

    def write(self, data):
        if self.times:
            self.times = 0
            self.file.write(data[: len(data) // 2])
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self.file.write(data)

    def truncate(self, size):
        if not self.cut:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self.file.truncate(size)

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_write_that_failed_may_be_done_again(tmp_path):
    path = write(tmp_path / "journal", ENTRIES[:3])
    book = Journal(path, durable=True)
    book._file = _Failing(book._file)
    with pytest.raises(OSError, match="Input/output") as error:
        book.write(ENTRIES[3])
    assert error.value.filename == str(path)
    book.write(ENTRIES[3])
    book.write(*ENTRIES[4:])
    book.close()
    assert path.read_bytes() == write(tmp_path / "plain", ENTRIES).read_bytes()


def cut_a_line(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def tear(path):
    os.truncate(path, path.stat().st_size - 3)


def replace_by_a_copy(path):
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


HARMS = {
    cut_a_line: "bytes, where",
    tear: "bytes, where",
    lambda path: os.truncate(path, 0): "0 bytes, where",
    replace_by_a_copy: "another file",
    lambda path: path.unlink(): "was removed",
}


@pytest.mark.parametrize("harm", HARMS)
def test_lines_that_are_taken_away_meanwhile_are_missed_at_the_next_commit(tmp_path, harm):
    """Whole lines that are missing would pass for items that were never done."""
    path = tmp_path / "journal"
    with closing(Journal(path)) as book:
        book.write(*ENTRIES[:4])
        book.write(ENTRIES[4])
        harm(path)
        there = path.read_bytes() if path.exists() else None
        with pytest.raises(JournalDamaged, match=HARMS[harm]) as told:
            book.write(ENTRIES[6])
    assert "Restore the file from a backup, or start anew" in str(told.value)
    assert there == (path.read_bytes() if path.exists() else None), "nothing was written behind it"


def test_a_journal_that_goes_with_its_folder_is_an_error_of_files(tmp_path):
    path = tmp_path / "run" / "journal"
    path.parent.mkdir()
    with closing(Journal(path)) as book:
        book.write(ENTRIES[0])
        path.parent.rename(tmp_path / "elsewhere")
        with pytest.raises(FileNotFoundError):
            book.write(ENTRIES[1])
    with pytest.raises(FileNotFoundError):
        list(receipts(path, ""))


def test_receipts_of_a_journal_that_is_gone_are_not_none(tmp_path):
    with pytest.raises(JournalDamaged, match="was removed"):
        list(receipts(tmp_path / "journal", ""))


def test_nothing_follows_a_failed_write_that_cannot_be_taken_back(tmp_path):
    path = write(tmp_path / "journal", ENTRIES[:3])
    book = Journal(path)
    book._file = _Failing(book._file, cut=False)
    for _ in range(3):
        with pytest.raises(OSError, match="Input/output"):
            book.write(ENTRIES[3])
    book.close()
    assert told(read(path)) == told(read(write(tmp_path / "plain", ENTRIES[:3])))


@pytest.mark.parametrize(
    "line",
    [
        kept(1, 6, {"": [(1, 7, Receipt())]}, ()),
        kept(1, 1, {}, ()),
        kept(0, 1, {"": [(0, 1, Receipt((Part("../a", 1, "x"),)))]}, ()),
        {"back": [[3, 2]]},
    ],
)
def test_a_line_that_could_not_be_read_again_is_not_written(tmp_path, line):
    """It would make the whole journal a damaged one."""
    path = tmp_path / "journal"
    book = Journal(path)
    book.write(kept(0, 1, {}, ()))
    with pytest.raises(PenstockBug, match="could not be read again"):
        book.write(kept(1, 2, {}, ()), line)
    book.write(kept(1, 2, {}, ()))
    book.close()
    assert list(read(path).done) == [(0, 2)]
