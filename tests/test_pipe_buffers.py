"""What of the kernel's memory is in pipes: no more than those can hold that somebody has."""

import fcntl
import os

import pytest

from penstock.budget import MiB
from penstock.groups import pipes
from penstock.groups.files import GroupFiles
from penstock.groups.pipes import PipeBuffers, capacity_of

_F_SETPIPE_SZ = 1031


class Told:
    """Looks for pipes: how often, and what is found. A look takes a millisecond."""

    def __init__(self, capacity):
        self.capacity, self.looks, self.now = capacity, 0, 0.0

    def __call__(self, pids):
        self.looks, self.now = self.looks + 1, self.now + 0.001
        return self.capacity

    def buffers(self, folder):
        return PipeBuffers(folder, GroupFiles(), self, lambda: self.now, lambda: self.now)


def test_no_more_is_in_pipes_than_they_can_hold(tmp_path):
    told = Told(3 * MiB)
    assert told.buffers(tmp_path).most(200 * MiB) == 3 * MiB
    assert told.buffers(tmp_path).most(2 * MiB) == 2 * MiB


def test_what_the_kernel_took_since_may_be_in_new_pipes_until_they_are_looked_for(tmp_path):
    told = Told(0)
    buffers = told.buffers(tmp_path)
    assert buffers.most(50 * MiB) == 0
    told.capacity = 100 * MiB
    assert (
        buffers.most(150 * MiB) == 100 * MiB
    )  # at once: the last look is not repeated before its cost is paid
    assert told.looks == 1
    told.now += 0.1
    assert buffers.most(150 * MiB) == 100 * MiB
    assert told.looks == 2


def test_they_are_looked_for_rarely(tmp_path):
    """Names of files that are looked at without pause, 50 MiB a second, read each 10 ms for 10 s."""
    told = Told(0)
    buffers = told.buffers(tmp_path)
    most = 0
    for turn in range(1000):
        most = max(most, buffers.most(10 * MiB + turn * MiB // 2))
        told.now += 0.01
    assert most <= 4 * MiB
    assert told.looks <= 300
    calm = told.looks
    for _ in range(1000):
        buffers.most(600 * MiB)
        told.now += 0.01
    assert told.looks - calm <= 12


def test_where_that_cannot_be_told_all_of_it_may_be_in_pipes(tmp_path):
    assert Told(None).buffers(tmp_path).most(70 * MiB) == 70 * MiB
    assert capacity_of([os.getpid(), 0]) is None


@pytest.mark.parametrize("asked", [True, False])
def test_each_pipe_counts_once_with_its_capacity(monkeypatch, asked):
    """Where its size may not be asked for, with the most that one can have."""
    if not asked:
        monkeypatch.setattr(pipes, "_getfd", lambda: None)
    before = capacity_of([os.getpid()])
    here, there = os.pipe()
    try:
        fcntl.fcntl(there, _F_SETPIPE_SZ, 256 << 10)
        assert capacity_of([os.getpid(), os.getpid()]) - before == (256 << 10 if asked else MiB)
        assert capacity_of([2**22 + 1]) == 0  # no such process
    finally:
        os.close(here)
        os.close(there)
    assert capacity_of([os.getpid()]) == before
