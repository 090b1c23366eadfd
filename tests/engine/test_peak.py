"""The peak of a call: memory yes, mapped files no. The rule on made-up histories, then on real ones."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.abc import Reading
from penstock.backends.processes import WorkerTree
from penstock.budget import Budget, BudgetInForce, MiB
from penstock.discover import Gauge
from penstock.engine.messages import MeasuredCall
from penstock.engine.parent.governor_thread import GovernorThread
from penstock.engine.parent.options import Host, Options
from penstock.peaks import HugePages, Mark, Peak, Trail, between, fault_size, resident

PAGE = 4096
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells these numbers")


# --------------------------------------------------------------------------- the rule, on made-up histories


@dataclass(frozen=True)
class State:
    """A made-up process: what it holds, what it has mapped, and what the kernel counts."""

    held: int = 10 * MiB
    files: int = 0
    mark: int = 10 * MiB
    faults: int = 0
    most: int = 10 * MiB
    """The truth."""

    def now(self, at=0.0):
        return Mark(at, self.mark, self.held, self.files, self.faults, self.faults, 0)

    def step(self, what, pages):
        """One thing that happens: memory or file pages come or go."""
        size = pages * PAGE
        held, files, faults = self.held, self.files, self.faults
        if what == "take":
            held, faults = held + size, faults + pages
        elif what == "give":
            held = max(held - size, 0)
        elif what == "map":
            files, faults = files + size, faults + -(-pages // 16)
        else:
            files = max(files - size, 0)
        mark, most = max(self.mark, held + files), max(self.most, held)
        return State(held, files, mark, faults, most)

    def reset(self):
        return replace(self, mark=self.held + self.files)


steps = st.lists(
    st.tuples(st.sampled_from(["take", "give", "map", "unmap"]), st.integers(1, 40_000)), max_size=12
)


def run(state, history):
    for step in history:
        state = state.step(*step)
    return state


@given(steps, steps)
def test_two_readings_are_never_too_low_and_never_over_the_mark(before, history):
    begin = run(State(), before).reset()
    begin = replace(begin, most=begin.held)
    least_mapped, state = begin.files, begin
    for step in history:
        state = state.step(*step)
        least_mapped = min(least_mapped, state.files)
    told = between(begin.now(), state.now(), PAGE)
    assert told <= state.mark
    assert told >= max(begin.held, state.held)
    if least_mapped == min(begin.files, state.files):
        assert told >= state.most, "as many file pages as at one end were mapped at any time"
    # What is too much is bounded by the faults that mapping took.
    taken = sum(pages for what, pages in history if what == "take") * PAGE
    mapped = sum(-(-pages // 16) for what, pages in history if what == "map") * PAGE
    assert told <= max(begin.held + taken + mapped, state.held)


@given(steps, st.lists(steps, min_size=1, max_size=6))
def test_readings_in_between_are_never_too_low_where_files_stay_during_a_tick(before, ticks):
    state = run(State(), before).reset()
    state = replace(state, most=state.held)
    peak, highest = Peak(state.now(), PAGE), state.mark
    for history in ticks:
        least = before_tick = state.files
        for step in history:
            state = state.step(*step)
            least = min(least, state.files)
        if least < min(peak.last.files, state.files):
            return  # files went and came between two readings: nobody can tell
        peak.feed(state.now())
        came = max(state.files - before_tick, 0)
        assert peak.best >= state.most - max(MiB, state.most // 100) - came // 16
        highest = max(highest, state.mark)
        assert peak.best <= highest
        if peak.hidden:
            state = state.reset()
            peak.reset()


def test_a_spike_back_to_where_the_mark_stood_before_it_was_reset_is_seen():
    state = run(State(), [("take", 6240), ("map", 6947)])
    peak = Peak(State().now(), PAGE)
    peak.feed(state.step("unmap", 6947).now())
    assert peak.hidden
    peak.reset()
    low = state.step("unmap", 6947).reset().step("give", 8416)
    for missing in (0, 100):  # pages; where a mark is a little lower it was not seen to have been reset
        spike = low.step("take", state.mark // PAGE - low.held // PAGE - missing).step("give", 5000)
        again = Peak(peak.last, PAGE)
        again.feed(spike.now())
        assert again.best == spike.mark == state.mark - missing * PAGE


def test_a_mapping_explains_the_mark():
    begin = State()
    end = run(begin, [("map", 262_144)])
    assert between(begin.now(), end.now(), PAGE) == begin.held + 64 * MiB, "as far as faults explain"
    gone = run(end, [("unmap", 262_144)])
    assert between(begin.now(), gone.now(), PAGE) == begin.held + 64 * MiB
    assert between(end.now(), gone.now(), PAGE) == begin.held, "nothing was faulted in since"


def test_a_spike_after_a_mapping_of_the_same_tick_is_not_missed():
    begin = run(State(), [("map", 262_144)])
    end = run(begin, [("unmap", 262_144), ("take", 76_800), ("give", 76_800)])
    assert end.mark == begin.mark, "the mark does not show it"
    assert between(begin.now(), end.now(), PAGE) == begin.held + 300 * MiB


def test_a_mark_that_files_left_high_is_to_be_reset():
    state = State()
    peak = Peak(state.now(), PAGE)
    for _ in range(3):
        state = run(state, [("map", 20_000)])
        peak.feed(state.now())
        assert not peak.hidden, "it is being mapped: the files that are there explain the mark"
    state = run(state, [("unmap", 60_000)])
    peak.feed(state.now())
    assert peak.hidden
    state = run(state.reset(), [("take", 76_800), ("give", 76_800)])
    assert peak.feed(state.now()) == state.held + 300 * MiB
    assert not run(State(), []).now().files
    peak.feed(state.reset().now())
    assert not peak.hidden


def test_somebody_else_may_reset_the_mark():
    state = run(State(), [("take", 50_000), ("give", 50_000)])
    peak = Peak(state.now(), PAGE)
    after = run(state.reset(), [("take", 2_560), ("give", 2_560)])
    assert after.mark < state.mark
    assert peak.feed(after.now()) == state.held + 10 * MiB


def test_pages_that_were_shared_before_take_fewer_faults():
    begin = State()
    end = replace(begin, mark=begin.mark + 200 * MiB, faults=3_200)
    assert between(begin.now(), end.now(), PAGE) == begin.held + 12.5 * MiB
    assert between(begin.now(), end.now(), PAGE, known=200 * MiB) == begin.held + 200 * MiB


def test_huge_pages_of_others_explain_nothing():
    begin = run(State(), [("map", 262_144)])
    gone = run(begin, [("unmap", 262_144)])
    assert between(begin.now(), gone.now()._replace(huge=500), PAGE) == begin.held, (
        "none came without a fault"
    )
    spiked = replace(begin, mark=begin.mark + 200 * MiB, faults=begin.faults + 100)
    assert between(begin.now(), spiked.now()._replace(huge=500), PAGE) == begin.held + 200 * MiB
    assert between(begin.now(), spiked.now()._replace(collapsed=50), PAGE) > begin.held + 100 * MiB


def test_a_trail_tells_a_call_and_stays_small():
    trail, state = Trail(), State()
    begin, told = state.now(at=0.5), 500 * MiB
    assert trail.peak(begin, state.now(at=9.0), told) == told, "it was not read in between"
    for number in range(10_000):
        most = 99 * MiB if number == 7_777 else state.held
        trail.add(state.now(at=float(number)), most)
    assert len(trail._steps) < 600
    assert trail.peak(begin, state.now(at=9_999.5), told) == 99 * MiB
    assert trail.peak(begin, state.now(at=9_999.5), 50 * MiB) == 50 * MiB
    assert trail.peak(state.now(at=9_980.5), state.now(at=9_999.5), told) == state.held
    trail.clear()
    assert trail.peak(begin, state.now(at=9_999.5), told) == told


def test_a_mark_that_was_reset_during_a_call_tells_nothing_of_what_was_before():
    trail, state = Trail(), State()
    begin = state.now(at=0.5)
    spiked = run(state, [("take", 25_600), ("give", 25_600)])
    trail.add(spiked.now(at=1.0), spiked.held + 100 * MiB)
    trail.add(spiked.now(at=2.0), spiked.held)
    assert trail.peak(begin, spiked.reset().now(at=3.0), spiked.held) == spiked.held + 100 * MiB


class Silent:
    """A backend with one worker that only tells what it is told to tell."""

    def __init__(self):
        self.readings = {}

    def read(self):
        return self.readings

    def overhead(self):
        return 0

    def noted(self, worker):
        return -1, -1, -1

    def wake(self):
        pass


def test_the_governor_tells_a_call_better_than_its_two_ends():
    """A file of 1 GiB comes and goes: two readings explain 64 MiB of it, those in between 4."""
    backend = Silent()
    budget = Budget(4096 * MiB, "as asked for")
    watch = GovernorThread(backend, Host(Gauge([])), BudgetInForce(budget), Options(budget))
    state = State()
    begin = state.now(at=0.5)
    watch.ready(1, 10 * MiB, MiB)
    watch.began(1, 100 * MiB)
    peak = Peak(begin, PAGE)
    for at in range(1, 17):
        state = run(state, [("map", 16_384)])
        if at == 16:
            state = run(state, [("unmap", 262_144)])
        mark = state.now(at=float(at))
        backend.readings = {1: Reading(state.held, 0.0, 0, peak.feed(mark), mark=mark)}
        watch.tick()
    end = state.now(at=16.5)
    worker = between(begin, end, PAGE) - 10 * MiB
    assert worker == 64 * MiB
    (call,) = watch.refine(1, [MeasuredCall(0, 1, worker, 1.0, (begin, end))])
    assert call.peak == 4 * MiB, "what was faulted in during the one tick whose end does not explain it"
    (call,) = watch.refine(1, [MeasuredCall(0, 1, worker, 1.0)])
    assert call.peak == worker
    assert watch.refine(9, [call]) == (call,)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({}, 4096),
        ({"2048": "[always] inherit madvise never"}, 4096),
        ({"64": "always inherit madvise [never]"}, 4096),
        ({"64": "always inherit [madvise] never", "16": "[always] inherit madvise never"}, 64 << 10),
        ({"128": "always [inherit] madvise never"}, 128 << 10),
    ],
)
def test_one_fault_may_bring_in_more_than_a_page(tmp_path, states, expected):
    folder = tmp_path / "sys/kernel/mm/transparent_hugepage"
    folder.mkdir(parents=True)
    (folder / "enabled").write_text("always [madvise] never")
    for size, state in states.items():
        (folder / f"hugepages-{size}kB").mkdir()
        (folder / f"hugepages-{size}kB" / "enabled").write_text(state)
    assert fault_size(tmp_path) == max(expected, os.sysconf("SC_PAGE_SIZE"))
    (folder / "enabled").write_text("always madvise [never]")
    if states.get("128"):
        assert fault_size.__wrapped__(tmp_path) == os.sysconf("SC_PAGE_SIZE"), "inherited from never"


def test_a_zombie_has_no_memory():
    with pytest.raises(ValueError, match="not found"):
        resident(b"Name:\tpython\nState:\tZ (zombie)\n")


# --------------------------------------------------------------------------- real memory, read step by step

FILE, SPIKE = 128, 100
"""MiB."""

PRELUDE = f"""
import mmap, os, sys, threading
MB, FILE, SPIKE = 1 << 20, {FILE}, {SPIKE}
from penstock.meter import Meter
meter = Meter()
if sys.argv[2] == "still":  # others' huge pages must not tell on a test
    meter._huge.recent = meter._huge.read = lambda: (0, 0)
    meter._huge.latest = (0, 0)
    meter._begin = meter._begin._replace(huge=0, collapsed=0)

def tick():
    print("tick", flush=True)
    input()

def take(n=SPIKE, flags=mmap.MAP_PRIVATE):
    m = mmap.mmap(-1, n * MB, flags=flags)
    m[::4096] = b"x" * (n * 256)
    return m

def opened(n=FILE, **how):
    fd = os.open(sys.argv[1], os.O_RDONLY)
    try:
        return mmap.mmap(fd, n * MB, **how)
    finally:
        os.close(fd)

def mapped(ticks=8):
    m = opened(prot=mmap.PROT_READ)
    part = FILE * MB // ticks
    for at in range(0, FILE * MB, part):
        m[at:at + part:4096]
        tick()
    return m
"""

CASES = {
    "nothing": ("tick()", 0),
    "spike between two readings": ("take().close()", SPIKE),
    "spike that is seen": ("m = take(); tick(); m.close(); tick()", SPIKE),
    "shared anonymous": ("tick(); take(flags=mmap.MAP_SHARED).close(); tick()", SPIKE),
    "file mapped, read, unmapped": ("m = mapped(); m.close(); tick()", 0),
    "file kept": ("tick(); keep = mapped(); tick()", 0),
    "file, then spike in a later tick": ("mapped().close(); tick(); tick(); take().close(); tick()", SPIKE),
    "spike, then file": ("tick(); take().close(); mapped().close()", SPIKE),
    "file kept beside a spike": ("keep = mapped(); take().close(); tick(); keep.close()", SPIKE),
    "both at once": (
        "m = opened(prot=mmap.PROT_READ)\n"
        "for k in range(8):\n"
        "    a = k * FILE * MB // 8; m[a:a + FILE * MB // 8:4096]\n"
        "    if k == 4: s = take()\n"
        "    tick()\n"
        "    if k == 6: s.close()\n"
        "m.close()",
        SPIKE,
    ),
    "private copy": (
        "m = opened(SPIKE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)\n"
        "tick(); m[::4096] = b'x' * (SPIKE * 256); tick(); m.close(); tick()",
        SPIKE,
    ),
    "in a thread": (
        "t = threading.Thread(target=lambda: take().close()); t.start(); t.join(); tick()",
        SPIKE,
    ),
    "populated": (
        "tick(); flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE\n"
        "m = mmap.mmap(-1, SPIKE * MB, flags=flags)\n"
        "m.close(); tick()",
        SPIKE,
    ),
    "huge pages": (
        "tick(); m = mmap.mmap(-1, SPIKE * MB, flags=mmap.MAP_PRIVATE); m.madvise(mmap.MADV_HUGEPAGE)\n"
        "m[::4096] = b'x' * (SPIKE * 256); m.close(); tick()",
        SPIKE,
    ),
    "slowly": ("b = []\nfor _ in range(SPIKE): b.append(bytearray(b'x') * MB)\ntick(); del b; tick()", SPIKE),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("peak") / "big"
    with open(path, "wb") as out:
        out.truncate(FILE * MiB)  # holes are read into the page cache as blocks are
    return path


@linux
@pytest.mark.parametrize("case", CASES)
def test_the_peak_of_a_call_is_what_it_held(case, file, told_by_both):
    body, truth = CASES[case]
    told = told_by_both(PRELUDE, body, file, "huge" if "huge" in case else "still")
    assert abs(told / MiB - truth) <= 0.03 * truth + 2, f"{told / MiB:.1f} MiB for {truth}"


@pytest.fixture
def told_by_both():
    """Run a call in a process that says when it wants to be read; its peak as worker and governor tell it."""

    def run(prelude, body, *arguments):
        lines = "\n".join("    " + line for line in body.splitlines())
        program = (
            f"{prelude}\ndef call():\n{lines}\ntick()\nbegin = meter.reset()\ncall()\n"
            "peak, held, end = meter.peak()\n"
            "print(repr((peak, tuple(begin), tuple(end))), flush=True)\ninput()"
        )
        command = [sys.executable, "-c", program, *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as child:
            huge = HugePages()
            if "still" in arguments:
                huge.recent = huge.read = lambda: (0, 0)
                huge.latest = (0, 0)
            tree, trail = WorkerTree(child.pid, huge), Trail()
            while (line := child.stdout.readline().strip()) == "tick":
                reading = tree.read()
                trail.add(reading.mark, reading.peak)
                if tree.hidden:
                    tree.reset()
                child.stdin.write("\n")
                child.stdin.flush()
            assert line, "the call failed"
            peak, begin, end = eval(line)
            begin = Mark(*begin)
            peak = trail.peak(begin, Mark(*end), peak)
            child.stdin.close()
        tree.close()
        return peak - begin.held

    return run


@linux
@pytest.mark.parametrize(
    "kind",
    ["populate", "populate_write", "mlock", "readv", "thp", "thp_populate", "thread", "shm_populate", "cow"],
)
def test_faults_explain_all_memory_however_it_is_made(kind, file, told_by_both):
    """The bound by faults alone must not be too low: no readings in between, and the mark far above."""
    made = {
        "populate": "m = mmap.mmap(-1, N, flags=P | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)",
        "populate_write": "m = mmap.mmap(-1, N, flags=P); advise(m, 23)",
        "mlock": "m = mmap.mmap(-1, N, flags=P); libc.mlock(address(m), ctypes.c_size_t(N))\n"
        "m[::4096] = b'x' * (N // 4096)",
        "readv": "m = mmap.mmap(-1, N, flags=P); f = os.open(sys.argv[1], 0); os.readv(f, [m]); os.close(f)",
        "thp": "m = mmap.mmap(-1, N, flags=P); advise(m, 14); m[::4096] = b'x' * (N // 4096)",
        "thp_populate": "m = mmap.mmap(-1, N, flags=P); advise(m, 14); advise(m, 23)",
        "thread": "m = []\nt = threading.Thread(target=lambda: m.append(b'x' * N))\nt.start(); t.join()",
        "shm_populate": "m = mmap.mmap(-1, N, flags=S | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)",
        "cow": "m = opened(SPIKE, flags=P | mmap.MAP_POPULATE, prot=3); m[::4096] = b'x' * (N // 4096)",
    }[kind]
    tools = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
N, P, S = SPIKE * MB, mmap.MAP_PRIVATE, mmap.MAP_SHARED
def address(m): return ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(m)))
def advise(m, how):
    if libc.madvise(address(m), ctypes.c_size_t(N), how): m[::4096] = b'x' * (N // 4096)
"""
    told = told_by_both(
        PRELUDE + tools, f"f = opened(prot=mmap.PROT_READ); f[::4096]; f.close()\n{made}", file, "huge"
    )
    assert SPIKE - 2 <= told / MiB <= SPIKE + FILE / 4


@linux
def test_a_tree_can_be_reset_when_it_is_closed():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        tree = WorkerTree(child.pid, HugePages())
        reading = tree.read()
        assert reading.peak >= reading.memory > 0
        tree.close()
        before = os.open(os.devnull, os.O_RDONLY)
        tree.reset()
        assert tree.read() is None
        os.close(before)
        child.stdin.close()
