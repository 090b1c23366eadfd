"""The memory charged to a group, computed from its files. Pure.

Page cache is never counted: the kernel gives it back. Pipe buffers are counted where a counter tells them,
among the memory that the kernel itself holds for the group; what it holds for other reasons is some megabytes
at most, so only what is above that counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from penstock.budget import MiB

_KERNELS_OWN = 8 * MiB
"""So much kernel memory is not taken for pipe buffers."""
LAG = 192 * 4096 * (os.cpu_count() or 1)
"""Bytes by which a page counter and ``memory.stat`` may differ while the kernel counts it as fresh.

For each CPU 128 pages whose change is not gathered yet, and 64 that are charged ahead.
"""


class GroupMemory(NamedTuple):
    """What a group and those below it hold at one moment, in bytes."""

    memory: int
    """Anonymous + shared memory, each page once."""
    shared: int
    """The shared part of it: shared mappings, and files that are memory."""
    cache: int
    """Pages of files on disks: the group is charged for them, and they can be taken back."""
    kernel: int
    """What the kernel holds for the group, pipe buffers included."""
    pipes: int
    """Pipe buffers, as far as they are told from other kernel memory."""
    charged: int = 0
    """All of it, by the group's page counter, which is exact but for what is charged ahead."""
    missing: int = 0
    """What of ``charged`` the other numbers do not explain; 0 where no page counter is told."""
    added_up: bool = False
    """Whether the numbers are not the group's own, but added up from the groups below it."""


NOTHING = GroupMemory(0, 0, 0, 0, 0)


def _value(stat: bytes, name: bytes) -> int:
    """The number on a line of ``stat``, which begins with a line's end; 0 where there is none."""
    at = stat.find(name)
    if at < 0:
        return 0
    at += len(name)
    end = stat.find(b"\n", at)
    return int(stat[at:end] if end >= 0 else stat[at:])


def of_v1(stat: bytes, kernel: int, charged: int | None = None) -> GroupMemory:
    """From ``memory.stat``, ``memory.kmem.usage_in_bytes`` and ``memory.usage_in_bytes``."""
    stat = b"\n" + stat
    shared = _value(stat, b"\ntotal_shmem ")
    memory = _value(stat, b"\ntotal_rss ") + shared
    cache = max(_value(stat, b"\ntotal_cache ") - shared, 0)
    pipes = kernel if kernel > _KERNELS_OWN else 0
    if charged is None:
        return GroupMemory(memory, shared, cache, kernel, pipes)
    missing = charged - memory - cache - kernel
    if missing < 0:  # pages on their way to swap are in both while they are mapped
        missing = min(missing + _value(stat, b"\ntotal_swapcached "), 0)
    return GroupMemory(memory, shared, cache, kernel, pipes, charged, missing)


def local_of_v1(stat: bytes) -> GroupMemory:
    """Memory charged to a group itself and to none below it; kernel memory is not known."""
    stat = b"\n" + stat
    shared = _value(stat, b"\nshmem ")
    memory, cache = _value(stat, b"\nrss ") + shared, max(_value(stat, b"\ncache ") - shared, 0)
    return GroupMemory(memory, shared, cache, 0, 0, memory + cache)


def of_v2(stat: bytes, charged: int | None = None) -> GroupMemory:
    """From ``memory.stat`` and ``memory.current``; pipe buffers are included since Linux 5.18."""
    stat = b"\n" + stat

    def value(*names: bytes) -> int:
        return sum([_value(stat, name) for name in names])

    shared = value(b"\nshmem ")
    memory = value(b"\nanon ") + shared
    parts = value(
        b"\nslab ", b"\nkernel_stack ", b"\npagetables ", b"\nsec_pagetables ", b"\npercpu ", b"\nvmalloc "
    )
    kernel = max(value(b"\nkernel "), parts)
    pipes = kernel - parts if kernel - parts > _KERNELS_OWN else 0
    cache = max(value(b"\nfile ") - shared, 0)
    kernel += value(b"\nsock ")
    if charged is None:
        return GroupMemory(memory, shared, cache, kernel, pipes)
    missing = charged - memory - cache - kernel
    if missing > 0:  # where huge pages of their own kind are charged as well
        missing = max(missing - value(b"\nhugetlb "), 0)
    elif missing < 0:
        missing = min(missing + value(b"\nswapcached "), 0)
    return GroupMemory(memory, shared, cache, kernel, pipes, charged, missing)


def together(parts: Iterable[GroupMemory]) -> GroupMemory:
    """The sum of disjoint groups: none is below another."""
    return GroupMemory._make((*map(sum, zip(NOTHING[:7], *(part[:7] for part in parts), strict=True)), False))


def in_none(own: GroupMemory, below: GroupMemory) -> GroupMemory:
    """What a group holds beyond the groups below it: mostly pages of groups that are gone."""
    rest = (max(whole - part, 0) for whole, part in zip(own[:7], below[:7], strict=True))
    return GroupMemory._make((*rest, False))


def add_up(own: GroupMemory, below: GroupMemory, rest: GroupMemory, *, knows_kernel: bool) -> GroupMemory:
    """A group's memory when its own numbers are stale: from its page counter, its children, and the rest.

    Args:
        own: as its own files tell it.
        below: what the groups below it hold.
        rest: what was in none of them when that was known last.
        knows_kernel: whether ``own.kernel`` is a page counter too.
    """
    most = max(own.charged - below.charged, 0)
    memory = below.memory + min(rest.memory, most)
    shared = below.shared + min(rest.shared, most)
    kernel = own.kernel if knows_kernel else below.kernel + min(rest.kernel, most)
    pipes = own.pipes if knows_kernel else below.pipes + min(rest.pipes, most)
    # By the page counter, and not as it was added up: what it is too high by, a peak is too low by.
    cache = max(own.charged - below.missing - memory - kernel, 0)
    return GroupMemory(memory, shared, cache, kernel, pipes, own.charged, below.missing, True)


def highest(mark: int, before: GroupMemory, after: GroupMemory) -> int:
    """The most anonymous + shared bytes between two readings, from the high-water mark of the total charge.

    What was cached at that moment is not told: the most that either reading saw is taken off. So the answer
    may be too low, and is too high only by files that came and went in between.
    """
    other = max(before.cache, after.cache) + max(before.kernel, after.kernel)
    return max(before.memory, after.memory, mark - other)


def bound(mark: float, before: GroupMemory, after: GroupMemory) -> float:
    """An upper bound of the anonymous + shared bytes between two readings, from the same mark."""
    if before.added_up or after.added_up:  # what is cached is not known for sure
        return max(before.memory, after.memory, mark)
    other = min(before.cache, after.cache) + min(before.kernel, after.kernel)
    return max(before.memory, after.memory, mark - other)
