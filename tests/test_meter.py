"""This process's own memory, against what it is known to take."""

import subprocess
import sys

import pytest

from penstock.budget import MiB
from penstock.meter import Meter, own_pages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells these numbers")

SLACK = 3 * MiB


def test_a_spike_is_seen_though_it_is_over():
    meter = Meter()
    assert meter.peaks
    meter.reset()
    before = meter.held()
    block = bytearray(b"\1") * (60 * MiB)
    during = meter.held()
    del block
    peak, after, _ = meter.peak()
    assert abs(during - before - 60 * MiB) < SLACK
    assert peak - before >= 60 * MiB - SLACK
    assert after - before < SLACK
    meter.reset()
    assert meter.peak()[0] - before < SLACK, "a reset begins anew"


def test_mapped_files_are_no_memory(tmp_path):
    import mmap

    path = tmp_path / "big"
    path.write_bytes(bytes(40 * MiB))
    meter = Meter()
    meter.reset()
    before = meter.held()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[::4096]) == 0
        peak, held, _ = meter.peak()
    assert held - before < SLACK
    assert peak - before < SLACK


def test_private_memory_counts_when_it_is_mapped():
    import mmap

    meter = Meter()
    before = meter.data()
    with mmap.mmap(-1, 50 * MiB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
        assert meter.data() - before >= 50 * MiB
    assert meter.data() - before < SLACK


def test_own_pages_of_another_process():
    program = "block = bytearray(b'\\1') * (30 << 20); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        assert 30 * MiB < own_pages(child.pid) < 60 * MiB
        child.stdin.close()
    assert own_pages(child.pid) == 0
    assert own_pages() > 0


def test_forked_children_count_with_what_is_theirs_alone():
    program = (
        "import os\n"
        "from penstock.meter import Meter\n"
        "ours = bytearray(b'x') * (60 << 20)\n"
        "meter = Meter(children=True)\n"
        "before = meter.held()\n"
        "here, there = os.pipe()\n"
        "gate, ends = os.pipe()\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        theirs = bytearray(b'x') * (20 << 20)\n"
        "        os.write(there, b'1')\n"
        "        os.close(ends)\n"
        "        os.read(gate, 1)\n"
        "        os._exit(0)\n"
        "for _ in range(3): os.read(here, 1)\n"
        "print(meter.held() - before)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    assert 58 * MiB <= int(told.stdout) <= 72 * MiB
