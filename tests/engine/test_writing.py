"""Results on their way to sinks and reducers: grains, several outputs, failures, large states."""

import gc
import time
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.abc import Closed, Part, Receipt, SetAside
from penstock.engine.worker.writing import INLINE, Keeper
from penstock.files import proof
from penstock.record import journal
from penstock.record.entries import kept as entry_of
from penstock.reducers import Count, Sum


def aside(item):
    return SetAside(item, str(item), "raised", "no")


@dataclass
class Parts:
    """Keeps what it gets in its receipts."""

    grain: int | None = None
    unit: str = "item"
    takes: int | None = None
    """Stops after so many results."""
    refuses: object = None
    """Raises at this result."""
    slow: float = 0.0

    def open(self, folder, items):
        (folder / "opened").write_text(str(items))

    def write(self, batch, results, folder):
        kept = []
        for result in results:
            time.sleep(self.slow)
            if self.refuses is not None and result == self.refuses:
                raise ValueError(f"cannot keep {result!r}")
            kept.append("aside" if isinstance(result, SetAside) else result)
            if self.takes == len(kept):
                break
        return Receipt(value=[kept, [batch.start, batch.stop], list(batch.without)])

    def close(self, receipts, folder):
        self.closed = [(batch.start, receipt.value[0]) for batch, receipt in receipts]

    def result(self, folder):
        return None


def keeper(tmp_path, outputs, *, batched=False):
    state_dir = tmp_path / "state_dir"
    state_dir.mkdir(exist_ok=True)
    outputs = outputs if isinstance(outputs, dict) else {"": outputs}
    return Keeper(outputs, tmp_path / "kept", state_dir, batched=batched)


def stream(start, stop, call, results=lambda item: item * 10, *, pulled=None):
    """Entries as a worker gives them, one call at a time."""
    for at in range(start, stop, call):
        end = min(at + call, stop)
        if pulled is not None:
            pulled.append(at)
        yield at, end, [results(item) for item in range(at, end)]


def kept_of(receipts):
    return [(start, stop, receipt.value[0]) for start, stop, receipt in receipts]


@settings(deadline=None)
@given(
    grain=st.none() | st.integers(1, 7),
    batch=st.integers(0, 3),
    length=st.integers(1, 20),
    call=st.integers(1, 5),
    batched=st.booleans(),
)
def test_one_receipt_a_grain_holding_its_items(tmp_path_factory, grain, batch, length, call, batched):
    keep = keeper(tmp_path_factory.mktemp("k"), Parts(grain), batched=batched)
    start = batch * (grain or 1)
    stop = start + length

    def entries():
        at = start
        while at < stop:
            end = min(at + call, keep.border(at), stop)
            yield at, end, [item * 10 for item in range(at, end)]
            at = end

    receipts = kept_of(keep.keep(entries(), start, stop, {})[""])
    assert [each[:2] for each in receipts] == [
        (a, min(a + (grain or length), stop)) for a in range(start, stop, grain or length)
    ]
    assert [x for _, _, kept in receipts for x in kept] == [item * 10 for item in range(start, stop)]


def test_several_rooms_of_different_grains(tmp_path):
    keep = keeper(tmp_path, {"a": Parts(2), "b": Parts(3), "c": Sum(), "d": Parts(None)})
    assert keep.threaded
    assert [item for item in range(1, 13) if keep.may_cut(item)] == [6, 12]
    assert [keep.border(item) for item in range(6)] == [2, 2, 3, 4, 6, 6]

    def entries():
        at = 0
        while at < 12:
            end = min(at + 4, keep.border(at))
            yield at, end, [{"a": i, "b": -i, "c": i, "d": [i]} for i in range(at, end)]
            at = end

    receipts = keep.keep(entries(), 0, 12, {})
    assert set(receipts) == {"a", "b", "c", "d"}
    assert kept_of(receipts["a"]) == [(i, i + 2, [i, i + 1]) for i in range(0, 12, 2)]
    assert kept_of(receipts["b"]) == [(i, i + 3, [-i, -i - 1, -i - 2]) for i in range(0, 12, 3)]
    assert [(a, b, receipt.value) for a, b, receipt in receipts["c"]] == [(0, 12, 66)]
    assert kept_of(receipts["d"]) == [(0, 12, [[i] for i in range(12)])]


def test_several_rooms_of_a_batched_function(tmp_path):
    keep = keeper(tmp_path, {"a": Parts(4), "b": Parts(4, unit="call")}, batched=True)
    entries = iter([(0, 2, {"a": [1, 2], "b": "x"}), (2, 3, aside(2)), (3, 4, {"a": [4], "b": "y"})])
    receipts = keep.keep(entries, 0, 4, {})
    assert kept_of(receipts["a"]) == [(0, 4, [1, 2, "aside", 4])]
    assert kept_of(receipts["b"]) == [(0, 4, ["x", "aside", "y"])]


def test_a_batch_may_be_cut_where_there_is_no_grain(tmp_path):
    receipts = keeper(tmp_path, Parts()).keep(stream(0, 4, 2), 0, 100, {})[""]
    assert kept_of(receipts) == [(0, 4, [0, 10, 20, 30])]


def test_nothing_runs_ahead_of_the_rooms(tmp_path):
    """Memory holds a few calls, however slow a sink is."""
    pulled = []
    keep = keeper(tmp_path, {"a": Parts(slow=0.02), "b": Parts()})
    entries = stream(0, 20, 1, lambda item: {"a": item, "b": item}, pulled=pulled)

    ahead = []
    original = Parts.write

    class Watching(Parts):
        def write(self, batch, results, folder):
            def counted():
                for number, result in enumerate(results):
                    ahead.append(len(pulled) - number)
                    yield result

            return original(self, batch, counted(), folder)

    keep._outputs = {"a": Watching(slow=0.01), "b": Parts()}
    keep.keep(entries, 0, 20, {})
    assert max(ahead) <= 4


# --------------------------------------------------------------------------- set aside


def test_items_set_aside_stand_in_their_place(tmp_path):
    known = {1: aside(1), 5: aside(5)}
    receipts = keeper(tmp_path, Parts(4)).keep(
        stream(0, 8, 2, lambda item: known.get(item, item)), 0, 8, known
    )[""]
    assert kept_of(receipts) == [(0, 4, [0, "aside", 2, 3]), (4, 8, [4, "aside", 6, 7])]
    assert [receipt.value[2] for _, _, receipt in receipts] == [[1], [5]]


def test_a_reducer_never_sees_them(tmp_path):
    receipts = keeper(tmp_path, Sum()).keep(
        stream(0, 4, 2, lambda item: aside(item) if item == 2 else item), 0, 4, {2: aside(2)}
    )[""]
    assert receipts[0][2].value == 4


# --------------------------------------------------------------------------- trouble


def test_a_sink_that_stops_early_still_has_its_items_worked(tmp_path):
    pulled = []
    keep = keeper(tmp_path, Parts(4, takes=1))
    receipts = keep.keep(stream(0, 8, 2, pulled=pulled), 0, 8, {})[""]
    assert pulled == [0, 2, 4, 6]
    assert kept_of(receipts) == [(0, 4, [0]), (4, 8, [40])]


def test_a_sink_that_stops_early_holds_up_no_other(tmp_path):
    keep = keeper(tmp_path, {"a": Parts(4, takes=1), "b": Parts(4)})
    receipts = keep.keep(stream(0, 8, 2, lambda i: {"a": i, "b": i}), 0, 8, {})
    assert kept_of(receipts["b"]) == [(0, 4, [0, 1, 2, 3]), (4, 8, [4, 5, 6, 7])]


@pytest.mark.parametrize("several", [False, True])
def test_a_sink_that_raises_names_its_item(tmp_path, several):
    bad = Parts(8, refuses=50, slow=0.01)
    keep = keeper(tmp_path, {"a": bad, "b": Parts(8)} if several else bad)
    value = (lambda i: {"a": i * 10, "b": i}) if several else (lambda i: i * 10)
    with pytest.raises(ValueError, match="cannot keep 50"):
        keep.keep(stream(0, 8, 1, value), 0, 8, {})
    assert keep.at == 5


def test_when_one_sink_fails_the_others_leave_nothing(tmp_path):
    ended = []

    class Careful(Parts):
        def write(self, batch, results, folder):
            try:
                return super().write(batch, results, folder)
            except BaseException as error:
                ended.append(type(error).__name__)
                raise

    keep = keeper(tmp_path, {"a": Careful(), "b": Parts(refuses=3)})
    with pytest.raises(ValueError, match="cannot keep 3"):
        keep.keep(stream(0, 9, 1, lambda i: {"a": i, "b": i}), 0, 9, {})
    assert ended == ["_Abandoned"]


def test_a_sink_that_fails_at_the_very_end_of_a_cut_batch_holds_up_nobody(tmp_path):
    """The other output waits for more items, and must be told that none come."""
    keep = keeper(tmp_path, {"a": Parts(refuses=1, slow=0.05), "b": Parts()})
    with pytest.raises(ValueError, match="cannot keep 1"):
        keep.keep(stream(0, 2, 1, lambda i: {"a": i, "b": i}), 0, 100, {})
    assert keep.at == 1


def test_a_function_that_fails_fails_every_room(tmp_path):
    def entries():
        yield 0, 1, [{"a": 0, "b": 0}]
        raise MemoryError("too much")

    with pytest.raises(MemoryError):
        keeper(tmp_path, {"a": Parts(), "b": Parts()}).keep(entries(), 0, 2, {})


class Large:
    """Stands for a result whose memory is to be free again."""


@pytest.fixture
def without_collections():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("fails", ["sink", "function", "names"])
def test_a_batch_that_failed_holds_nothing_in_a_circle(tmp_path, several, fails, without_collections):
    """Else what it held would stay in the worker, and count, until there is a collection by chance."""
    seen = []

    def entries():
        for item in range(4):
            result = Large()
            seen.append(weakref.ref(result))
            if fails == "function" and item == 2:
                raise MemoryError("too much")
            given = {"a": item, "b": item, "held": result} if several else result
            yield item, item + 1, [3 if fails == "names" and several and item == 2 else given]

    class Failing(Parts):
        def write(self, batch, results, folder):
            for count, result in enumerate(results):
                if fails != "function" and count == 1 + (fails == "names"):
                    raise ValueError("cannot keep it", type(result))
            return Receipt()

    keep = keeper(tmp_path, {"a": Parts(), "b": Failing()} if several else Failing())
    with pytest.raises((ValueError, MemoryError, TypeError)):
        keep.keep(entries(), 0, 4, {})
    assert seen
    assert [each() for each in seen] == [None] * len(seen)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5])
def test_a_wrong_count_of_results_is_refused(tmp_path, count):
    keep = keeper(tmp_path, Parts(), batched=True)
    with pytest.raises(TypeError, match="call of 3 items"):
        keep.keep(iter([(0, 3, iter(range(count)))]), 0, 3, {})


@pytest.mark.parametrize("result", [{"a": 1}, 7, None, [1]])
def test_a_result_without_the_names_is_refused(tmp_path, result):
    keep = keeper(tmp_path, {"a": Parts(), "b": Parts()})
    with pytest.raises(TypeError, match="into= names 'a', 'b', so the function must return a dict"):
        keep.keep(iter([(0, 1, [result])]), 0, 1, {})


# --------------------------------------------------------------------------- states


@pytest.mark.parametrize(("size", "inline"), [(10, True), (INLINE, False)])
def test_a_large_state_goes_to_a_file(tmp_path, size, inline):
    keep = keeper(tmp_path, Sum())
    entries = iter([(0, 1, [np.ones(size, int)]), (1, 2, [np.ones(size, int)])])
    ((_, _, receipt),) = keep.keep(entries, 0, 2, {})[""]
    assert bool(receipt.parts) == (not inline)
    ((_, _, again),) = keep.keep(
        iter([(0, 1, [np.ones(size, int)]), (1, 2, [np.ones(size, int)])]), 0, 2, {}
    )[""]
    assert again.parts == receipt.parts, "the same batch leaves the same state"
    path = tmp_path / "journal"
    book = journal.Journal(path, durable=False)
    book.write(entry_of(0, 2, {"": [(0, 2, receipt)]}, []))
    book.close()
    made, told = keep.close(path, durable=False)
    assert told == {}
    assert np.array_equal(made[""], np.full(size, 2))


def test_states_of_two_rooms_have_files_of_their_own(tmp_path):
    keep = keeper(tmp_path, {"a": Sum(), "b": Sum()})
    big = np.ones(INLINE, int)
    receipts = keep.keep(iter([(0, 1, [{"a": big, "b": big * 2}])]), 0, 1, {})
    names = {receipts[name][0][2].parts[0].name for name in "ab"}
    assert len(names) == 2


# --------------------------------------------------------------------------- before and after


def test_open_and_close(tmp_path):
    outputs = {"a": Parts(2), "b": Count()}
    keep = keeper(tmp_path, outputs)
    keep.open(4)
    assert (tmp_path / "kept" / "a" / "opened").read_text() == "4"
    book = journal.Journal(tmp_path / "journal", durable=False)
    for start in (2, 0):
        entries = stream(start, start + 2, 2, lambda i: {"a": i, "b": "xy"[i % 2]})
        receipts = keep.keep(entries, start, start + 2, {})
        book.write(entry_of(start, start + 2, receipts, []))
    book.close()
    made, told = keep.close(tmp_path / "journal", durable=True)
    assert made is None
    assert told["a"] is None, "it does not say"
    kept = tmp_path / "state_dir" / "result-b.json"
    assert told["b"] == Closed((Part(kept.name, *proof(kept)),))
    assert outputs["a"].closed == [(0, [0, 1]), (2, [2, 3])]
    assert (tmp_path / "state_dir" / "result-b.json").read_text() == '{"x":2,"y":2}'


# --------------------------------------------------------------------------- a sink that tells what is not so


@dataclass
class Tells:
    """Gives this for a receipt, whatever it was given."""

    receipt: object
    grain: None = None
    answer: object = None

    def open(self, folder, items):
        pass

    def write(self, batch, results, folder):
        (folder / "there").write_text("abc")
        return self.receipt

    def close(self, receipts, folder):
        return self.answer

    def result(self, folder):
        return None


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


THERE = Part("there", 3, "a digest")


@pytest.mark.parametrize(
    ("receipt", "says"),
    [
        (None, "gave a NoneType, where a Receipt was expected"),
        ((THERE,), "gave a tuple, where a Receipt was expected"),
        (Receipt((Part("nothing", 3, "x"),)), "expected 3 bytes, as kept, found no such"),
        (Receipt((Part("there", 4, "x"),)), "expected 4 bytes, as kept, found 3 bytes"),
        (Receipt((Part("/etc/hostname", 3, "x"),)), "a Part with a plain name inside its folder"),
        (Receipt((Part("../there", 3, "x"),)), "a Part with a plain name inside its folder"),
        (Receipt((Part("there", 3, "x"),)), "expected the digest x, as kept, found"),
        (Receipt((Part("there", "3", "x"),)), "a Part with a plain name inside its folder"),
        (Receipt((Part("there", 3, b"x"),)), "a Part with a plain name inside its folder"),
        (Receipt(("there",)), "a Part with a plain name inside its folder"),
        (Receipt(value=object()), "a receipt whose value cannot be kept"),
        (Receipt(value=deep(300)), "a receipt whose value cannot be kept"),
        (Receipt(value="x" * (100 << 10)), "a receipt whose value takes 100 KiB as text: up to 64"),
        (Receipt(value=["\0" * (20 << 10)]), "write what is larger into a part"),
        (Receipt(value=np.zeros(80 << 10, np.uint8)), "write what is larger into a part"),
    ],
)  # fmt: skip
def test_what_a_sink_tells_must_be_so_before_it_is_journaled(tmp_path, receipt, says):
    """Else the item counts as done, or the journal cannot be read again."""
    (tmp_path / "kept").mkdir()
    with pytest.raises((TypeError, ValueError), match=says):
        keeper(tmp_path, Tells(receipt)).keep(stream(0, 3, 3), 0, 3, {})


def test_what_is_so_is_taken(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "there").write_bytes(b"abc")
    right = Part("there", *proof(tmp_path / "kept" / "there"))
    for value in ({"value": [np.arange(3)]}, np.zeros(64 << 10, np.uint8), ["x" * 64] * 1000):
        receipt = Receipt((right,), value)
        ((start, stop, kept),) = keeper(tmp_path, Tells(receipt)).keep(stream(0, 3, 3), 0, 3, {})[""]
        assert (start, stop) == (0, 3)
        assert kept.parts == receipt.parts
        assert kept.value is receipt.value
        assert abs(kept.touched - (tmp_path / "kept" / "there").stat().st_ctime_ns // 1000) <= 1


@pytest.mark.parametrize("name", [".", "report.json", "report.html", ".penstock/command.json"])
def test_no_part_has_the_name_of_a_file_of_the_engines(tmp_path, name):
    """At the top of a run folder: the report would be written over it, or it over the command."""
    state_dir = tmp_path / ".penstock/job"
    state_dir.mkdir(parents=True)
    top = Keeper({"": Tells(Receipt((Part(name, 3, "x"),)))}, tmp_path, state_dir, batched=False)
    with pytest.raises(ValueError, match="the engine keeps something of that name"):
        top.keep(stream(0, 3, 3), 0, 3, {})


@dataclass
class Changing:
    """A file for each batch, of which its close does something."""

    deed: object
    grain: int = 2

    def open(self, folder, items):
        pass

    def write(self, batch, results, folder):
        path = folder / f"part-{batch.start}"
        path.write_text(str(list(results)))
        return Receipt((Part(path.name, *proof(path)),))

    def close(self, receipts, folder):
        return self.deed([folder / part.name for _, receipt in receipts for part in receipt.parts])

    def result(self, folder):
        return None


def rewritten(paths):
    paths[1].write_text(paths[1].read_text()[::-1])


def replaced(paths):
    for path in paths:
        path.unlink()
    return Closed((), True, "part-*")


@pytest.mark.parametrize(
    ("deed", "says"),
    [
        (rewritten, "changed a part that was kept .*part-2: expected the digest"),
        (lambda paths: paths[0].unlink(), "changed a part that was kept .*part-0: .* found no such file"),
        (lambda paths: Closed((), 1, "part-*"), "gave a Closed with replaced=1 and"),
        (lambda paths: Closed((), False, None), "pattern=None: True or False, and a text, were expected"),
        (lambda paths: None, ""),
        (replaced, ""),
    ],
)
def test_a_close_leaves_the_parts_as_they_were_kept_or_says_what_replaces_them(tmp_path, deed, says):
    """Else the run would be told as done, and the next look at it find damage."""
    keep = keeper(tmp_path, Changing(deed))
    keep.open(4)
    book = journal.Journal(tmp_path / "journal", durable=False)
    for start in (0, 2):
        book.write(
            entry_of(start, start + 2, keep.keep(stream(start, start + 2, 2), start, start + 2, {}), [])
        )
    book.close()
    if says:
        with pytest.raises((TypeError, ValueError), match=says):
            keep.close(tmp_path / "journal", durable=False)
    else:
        keep.close(tmp_path / "journal", durable=False)


def test_what_a_sink_tells_at_the_end_must_be_so(tmp_path):
    (tmp_path / "kept").mkdir()
    journal.Journal(tmp_path / "journal").close()
    keep = keeper(tmp_path, Tells(Receipt(), answer=Closed((Part("nothing", 3, "x"),))))
    with pytest.raises(ValueError, match="told of the part nothing"):
        keep.close(tmp_path / "journal", durable=True)
