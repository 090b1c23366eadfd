"""What a group holds while the kernel's numbers for it are old, on made-up folders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.budget import MiB
from penstock.groups import GroupReader, Member
from penstock.groups.memory import LAG, GroupMemory, add_up, bound, highest, in_none, together
from penstock.limits.cgroup import Cgroup
from penstock.supervise.group import Group
from penstock.testing.machine import FakeMachine

OLD = 40 * MiB
"""Far more than counters may differ by."""


class Groups:
    """A tree of groups whose files say what they are told to."""

    def __init__(self, root, version):
        self.root, self.version = root, version

    def put(self, path, *, anonymous=0, shared=0, cache=0, kernel=0, charged=None, local=(0, 0, 0)):
        """One group's numbers; all that it is charged with is their sum unless its stat is to be old."""
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        charged = anonymous + shared + cache + kernel if charged is None else charged
        if self.version == 1:
            own = f"rss {local[0]}\nshmem {local[1]}\ncache {local[1] + local[2]}\n"
            total = f"total_rss {anonymous}\ntotal_shmem {shared}\ntotal_cache {shared + cache}\n"
            files = {
                "memory.stat": own + total,
                "memory.kmem.usage_in_bytes": f"{kernel}\n",
                "memory.usage_in_bytes": f"{charged}\n",
                "memory.max_usage_in_bytes": f"{charged}\n",
            }
        else:
            stat = f"anon {anonymous}\nfile {shared + cache}\nshmem {shared}\nkernel {kernel}\n"
            stat += f"slab {kernel}\n"
            files = {"memory.stat": stat, "memory.current": f"{charged}\n", "memory.peak": f"{charged}\n"}
        for name, text in files.items():
            (folder / name).write_text(text)
        return folder


@pytest.fixture(params=[1, 2])
def groups(tmp_path, request):
    return Groups(tmp_path, request.param)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def run_of(groups, *names, clock=None):
    """The reader of a run, and those of its groups."""
    below = [GroupReader(groups.root / "run" / name, groups.version) for name in names]
    run = GroupReader(groups.root / "run", groups.version, below=below, clock=clock or Clock())
    return run, below


def test_a_groups_own_numbers_count_while_its_page_counter_bears_them_out(groups):
    groups.put("run", anonymous=90 * MiB, shared=10 * MiB, cache=7 * MiB, kernel=2 * MiB)
    groups.put("run/w0", anonymous=80 * MiB)
    told = run_of(groups, "w0")[0].held()
    assert (told.memory, told.cache, told.added_up) == (100 * MiB, 7 * MiB, False)


def test_old_numbers_give_way_to_those_of_the_groups_below(groups):
    """Grown and shrunk: neither is to be seen in the run's own stat."""
    groups.put("run/server", anonymous=10 * MiB)
    groups.put("run/w0", anonymous=90 * MiB, shared=5 * MiB, cache=30 * MiB, kernel=2 * MiB)
    for stat in (20 * MiB, 400 * MiB):
        groups.put("run", anonymous=stat, kernel=2 * MiB, charged=137 * MiB)
        told = run_of(groups, "server", "w0")[0].held()
        assert (told.memory, told.shared, told.cache, told.kernel) == (105 * MiB, 5 * MiB, 30 * MiB, 2 * MiB)


def test_what_is_charged_ahead_does_not_make_numbers_old(groups):
    """On a machine with many CPUs that is much; it shows in the groups below as well."""
    ahead = 3 * LAG
    groups.put("run", anonymous=90 * MiB, charged=90 * MiB + ahead)
    groups.put("run/w0", anonymous=80 * MiB, charged=80 * MiB + ahead)
    run, (worker,) = run_of(groups, "w0")
    worker.read_for_sum()
    assert run.held().added_up is False


def test_a_reading_of_this_turn_is_not_read_again_and_an_older_one_is(groups):
    groups.put("run/w0", anonymous=50 * MiB)
    groups.put("run", anonymous=1 * MiB, charged=50 * MiB)
    run, (worker,) = run_of(groups, "w0")
    worker.read_for_sum()
    groups.put("run/w0", anonymous=60 * MiB)
    assert run.held().memory == 50 * MiB
    assert run.held().memory == 60 * MiB


def test_what_is_in_none_of_the_groups_below_is_known_from_when_the_numbers_were_right(groups):
    clock = Clock()
    groups.put("run/w0", anonymous=20 * MiB)
    groups.put("run", anonymous=20 * MiB, shared=30 * MiB, cache=5 * MiB)
    run, _ = run_of(groups, "w0", clock=clock)
    clock.now += 1
    assert run.held().memory == 50 * MiB
    groups.put("run/w0", anonymous=70 * MiB)
    groups.put("run", anonymous=20 * MiB, shared=30 * MiB, cache=5 * MiB, charged=105 * MiB)
    told = run.held()
    assert (told.memory, told.shared, told.cache) == (100 * MiB, 30 * MiB, 5 * MiB)
    # And it is never more than what the page counters leave.
    groups.put("run", anonymous=20 * MiB, shared=30 * MiB, cache=5 * MiB, charged=82 * MiB)
    assert run.held().memory == 82 * MiB


def test_groups_that_a_workers_own_code_made_are_found(groups):
    """A run inside of a worker's function: its groups lie below the worker's."""
    groups.put("w0/run/server", anonymous=10 * MiB)
    groups.put("w0/run/w0", anonymous=200 * MiB, cache=9 * MiB)
    groups.put("w0/run", anonymous=150 * MiB, charged=219 * MiB)
    local = (30 * MiB, 0, 4 * MiB)
    groups.put("w0", anonymous=150 * MiB, charged=253 * MiB, local=local)
    told = Member(groups.root / "w0", groups.version).read()
    if groups.version == 1:
        assert (told.held.memory, told.held.cache) == (240 * MiB, 13 * MiB)
        assert told.bound >= 240 * MiB
    else:  # what it is charged with itself cannot be told from what old numbers miss
        assert told.held.memory == 210 * MiB
        assert told.bound >= 253 * MiB


def test_numbers_that_no_group_below_explains_are_the_kernels(groups):
    groups.put("w0", anonymous=50 * MiB, charged=50 * MiB + OLD)
    assert Member(groups.root / "w0", groups.version).held().memory == 50 * MiB


def test_old_numbers_make_no_peak(groups):
    """A file of 300 MiB was read by a worker, and the run's stat does not know of it yet."""
    groups.put("run/w0", anonymous=20 * MiB)
    groups.put("run", anonymous=20 * MiB)
    below = [GroupReader(groups.root / "run/w0", groups.version)]
    run = Member(groups.root / "run", groups.version, below=below)
    run.read()
    groups.put("run/w0", anonymous=20 * MiB, cache=300 * MiB)
    groups.put("run", anonymous=20 * MiB, charged=320 * MiB)
    assert run.read().top == 20 * MiB


def test_pages_on_their_way_to_swap_are_counted_in_two_places(groups):
    """Mapped ones that have a place there already: that makes no numbers old."""
    folder = groups.put("run", anonymous=90 * MiB, cache=OLD, charged=90 * MiB)
    with open(folder / "memory.stat", "a") as stat:
        stat.write(f"{'total_' if groups.version == 1 else ''}swapcached {OLD}\n")
    groups.put("run/w0", anonymous=1)
    assert run_of(groups, "w0")[0].held().added_up is False


# --------------------------------------------------------------------------- the arithmetic

sizes = st.integers(0, 1 << 40)
holding = st.builds(
    lambda anonymous, shared, cache, kernel: GroupMemory(
        anonymous + shared, shared, cache, kernel, 0, anonymous + shared + cache + kernel
    ),
    sizes, sizes, sizes, sizes,
)  # fmt: skip


@given(st.lists(holding, max_size=5), holding, holding)
def test_added_up_is_what_is_held_where_the_rest_is_known(parts, rest, old):
    below = together(parts)
    true = together([*parts, rest])
    assert in_none(true, below) == rest
    own = old._replace(charged=true.charged, kernel=true.kernel)
    told = add_up(own, below, rest, knows_kernel=True)
    assert told._replace(pipes=0, added_up=False) == true
    assert add_up(own, below, rest, knows_kernel=False)._replace(pipes=0, added_up=False) == true


@given(st.lists(holding, max_size=5), holding, holding, holding)
def test_a_rest_that_has_changed_makes_neither_a_peak_nor_more_than_is_charged(parts, rest, known, old):
    """Whatever was in none of the groups when that was known last."""
    below, true = together(parts), together([*parts, rest])
    own = old._replace(charged=true.charged, kernel=true.kernel)
    told = add_up(own, below, known, knows_kernel=True)
    assert below.memory <= told.memory <= below.memory + rest.charged
    assert highest(true.charged, told, told) <= max(true.memory, told.memory)
    assert bound(true.charged, told, told) >= true.memory


# --------------------------------------------------------------------------- where else groups are read


@pytest.mark.parametrize("version", [1, 2])
def test_a_limit_is_held_against_what_is_there_now(tmp_path, version):
    """Of the group that ours are made in, which therefore has groups below it."""
    machine = FakeMachine(tmp_path, version=version)
    machine.enter("/job")
    machine.group("/job", limit=500 * MiB, anonymous=50 * MiB)
    home = machine.folder("/job")
    limit = Cgroup(machine.root, {})
    assert limit.read()[0].used == 50 * MiB
    groups = Groups(home, version)
    groups.put("run/w0", anonymous=350 * MiB, cache=20 * MiB)
    groups.put("run", anonymous=10 * MiB, charged=370 * MiB)
    counter = "memory.usage_in_bytes" if version == 1 else "memory.current"
    (home / counter).write_text(f"{420 * MiB}\n")
    assert limit.read()[0].used == 400 * MiB


@pytest.mark.parametrize("version", [1, 2])
def test_a_command_that_makes_groups_is_measured_by_them(tmp_path, version):
    machine = FakeMachine(tmp_path, version=version)
    machine.enter("/job")
    machine.group("/job", anonymous=50 * MiB)
    groups = Groups(machine.folder("/job"), version)
    counter = "memory.usage_in_bytes" if version == 1 else "memory.current"
    group = Group(machine.root)
    assert group.used() == 50 * MiB
    groups.put("inner", anonymous=300 * MiB)
    (groups.root / counter).write_text(f"{350 * MiB}\n")
    assert group.used() == 350 * MiB
