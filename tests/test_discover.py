import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import discover as found
from penstock.budget import Ceiling, GiB, MiB
from penstock.discover import Gauge, choose, discover, free, in_memory, kernel_kills, room
from penstock.errors import NoBudget, UsageError
from penstock.limits.cgroup import Cgroup
from penstock.limits.machine import Machine
from penstock.limits.slurm import Scheduler
from penstock.testing.machine import FakeMachine


def tree(size, used=0, origin="here", **more):
    return Ceiling(size, "tree", origin, used, **more)


def test_the_smallest_room_wins_and_others_are_taken_off():
    budget = choose([tree(8 * GiB, 7 * GiB, "machine"), tree(4 * GiB, GiB, "group")], ours=GiB)
    assert (budget.bytes, budget.origin) == (2 * GiB, "machine")


def test_what_we_hold_ourselves_is_not_taken_off():
    assert choose([tree(4 * GiB, GiB)], ours=GiB).bytes == 4 * GiB
    assert choose([tree(4 * GiB, GiB)], ours=3 * GiB).bytes == 4 * GiB


def test_the_users_number_counts_when_it_is_smaller():
    budget = choose([tree(4 * GiB, kills_group=True)], "1GiB")
    assert (budget.bytes, budget.origin, budget.kills_group) == (GiB, "as asked for", False)


def test_the_ceiling_counts_when_the_users_number_is_larger():
    budget = choose([tree(4 * GiB, origin="group", kills_group=True)], "12GiB")
    assert (budget.bytes, budget.kills_group) == (4 * GiB, True)
    assert "group" in budget.origin
    assert "12GiB" in budget.origin
    assert choose([tree(4 * GiB)], 12 * GiB).bytes == 4 * GiB


def test_a_share_is_taken_of_what_is_left():
    budget = choose([tree(4 * GiB, 2 * GiB, "group")], "50%", ours=0)
    assert budget.bytes == GiB
    assert budget.origin == "50% of 2.0 GiB, group"


def test_limits_of_one_process_stand_apart():
    budget = choose([tree(4 * GiB), Ceiling(GiB, "process", "a"), Ceiling(2 * GiB, "process", "b")])
    assert (budget.bytes, budget.per_process) == (4 * GiB, GiB)


@pytest.mark.parametrize("request_", ["0%", "101%", "12", "-1GiB", "12 apples", ""])
def test_a_request_that_cannot_be_read(request_):
    with pytest.raises(UsageError):
        choose([tree(GiB)], request_)


def test_without_any_ceiling_only_a_size_will_do():
    assert choose([], "2GiB").bytes == 2 * GiB
    for request_ in ("auto", "50%"):
        with pytest.raises(UsageError, match="write a size"):
            choose([], request_)


def test_when_others_hold_it_all():
    with pytest.raises(NoBudget, match=r"group is 1\.0 GiB, others hold 2\.0 GiB"):
        choose([tree(GiB, 2 * GiB, "group")])


@given(
    st.lists(st.tuples(st.integers(1, 1 << 45), st.integers(0, 1 << 45)), min_size=1, max_size=5),
    st.integers(0, 1 << 45),
    st.one_of(st.just("auto"), st.integers(1, 1 << 45), st.integers(1, 100).map(lambda share: f"{share}%")),
)
def test_the_budget_is_never_above_any_ceiling_nor_the_request(pairs, ours, request_):
    ceilings = [tree(*pair) for pair in pairs]
    if min(room(ceiling, ours) for ceiling in ceilings) <= 0:
        with pytest.raises(NoBudget):
            choose(ceilings, request_, ours)
        return
    budget = choose(ceilings, request_, ours)
    for ceiling in ceilings:
        assert budget.bytes <= ceiling.bytes
        assert budget.bytes + max(0, ceiling.used - ours) <= ceiling.bytes
    if isinstance(request_, int):
        assert budget.bytes <= request_


def test_free_is_the_least_that_is_left_anywhere():
    assert free([tree(4 * GiB, GiB)], budget=2 * GiB, ours=GiB) == GiB
    assert free([tree(4 * GiB, 3 * GiB + 1)], budget=2 * GiB, ours=GiB) == GiB - 1
    assert free([tree(GiB)], budget=2 * GiB, ours=GiB // 2) == GiB // 2  # does not tell what is used
    assert free([Ceiling(1, "process", "x")], budget=2, ours=1) == 1
    assert free([tree(GiB, 2 * GiB)], budget=9 * GiB, ours=0) == -GiB


def test_what_ours_took_since_the_ceilings_were_read_is_not_free():
    """Others hold 1 GiB of 4; ours grew from 1 to 2 meanwhile."""
    ceilings = [tree(4 * GiB, 2 * GiB)]
    assert free(ceilings, budget=4 * GiB, ours=2 * GiB, then=GiB) == GiB
    assert free(ceilings, budget=4 * GiB, ours=0, then=GiB) == 3 * GiB


def test_the_narrowest_counter_of_kernel_kills():
    ceilings = [tree(1), tree(1, kernel_kills=5), tree(1, kernel_kills=2)]
    assert kernel_kills(ceilings) == 2
    assert kernel_kills([tree(1)]) == 0


@pytest.fixture
def machine(tmp_path):
    machine = FakeMachine(tmp_path, version=2)
    machine.enter("/job/step")
    machine.group("/job", limit=4 * GiB, anonymous=GiB)
    return machine


def limits(machine):
    return [kind(machine.root, machine.environ) for kind in (Cgroup, Machine, Scheduler)]


def test_discover_on_a_machine(machine):
    discovery = discover(limits=limits(machine), environ={})
    assert discovery.requested == "auto"
    assert [ceiling.bytes for ceiling in discovery.ceilings] == [4 * GiB, 16 * GiB]
    assert 3 * GiB < discovery.budget.bytes < 4 * GiB  # this process is not in that machine's group
    assert "memory.max" in discovery.budget.origin


def test_in_a_kubernetes_container_the_budget_says_that_all_would_be_killed(tmp_path):
    machine = FakeMachine(tmp_path, version=2, container="/kubepods/pod7/app", namespace=True)
    machine.group("/kubepods/pod7/app", limit=2 * GiB, anonymous=100 * MiB, kills_group=True)
    budget = discover(limits=limits(machine), environ={}).budget
    assert budget.kills_group
    assert budget.bytes <= 2 * GiB
    assert not discover("1GiB", limits(machine), environ={}).budget.kills_group


def test_the_environment_variable_stands_for_auto_only(machine):
    environ = {"PENSTOCK_BUDGET": "1GiB"}
    budget = discover(limits=limits(machine), environ=environ).budget
    assert (budget.bytes, budget.origin) == (GiB, "PENSTOCK_BUDGET")
    assert discover("2GiB", limits(machine), environ=environ).budget.bytes == 2 * GiB
    with pytest.raises(UsageError, match="PENSTOCK_BUDGET: cannot read"):
        discover(limits=limits(machine), environ={"PENSTOCK_BUDGET": "lots"})


def test_the_registered_limits_find_this_machine():
    discovery = discover(environ={})
    assert any("machine" in ceiling.origin for ceiling in discovery.ceilings)
    assert discovery.budget.bytes > MiB


def test_a_gauge_sees_changes(machine):
    gauge = Gauge(limits(machine))
    gauge.read()
    machine.group("/job", limit=2 * GiB)
    assert [ceiling.bytes for ceiling in gauge.read()] == [2 * GiB, 16 * GiB]


def test_a_gauge_of_this_machine_is_cheap_enough_for_every_turn():
    gauge = Gauge()
    gauge.read()
    best = 1.0
    for _ in range(50):
        begin = time.perf_counter()
        gauge.read()
        best = min(best, time.perf_counter() - begin)
    assert best < 1e-3


def test_memory_of_this_process_and_its_children():
    own = found.tree_memory()
    program = "kept = bytearray(b'x') * (40 << 20); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        child.stdout.readline()
        assert found.tree_memory() > own + 38 * MiB
        assert found.tree_memory(child.pid) > 40 * MiB
        child.stdin.write(b"\n")
    assert found.tree_memory(1 << 30) == 0


@pytest.mark.parametrize("version", [1, 2, "hybrid"])
def test_cpus_are_bounded_by_quotas_of_all_ancestors(tmp_path, version):
    machine = FakeMachine(tmp_path, version=version)
    machine.enter("/job/step")
    affinity = len(os.sched_getaffinity(0))
    assert found.cpus(machine.root) == affinity
    machine.group("/job", cpus=0.5)
    assert found.cpus(machine.root) == 1
    machine.group("/job", cpus=1000)
    assert found.cpus(machine.root) == affinity


def test_folders_in_memory_are_named(tmp_path):
    machine = FakeMachine(tmp_path / "machine")
    machine.mount("/scratch", "tmpfs")
    machine.mount("/scratch/disk", "ext4")
    machine.mount("/with space", "tmpfs")
    assert "tmpfs" in in_memory("/scratch/run", machine.root)
    assert "/scratch/run" in in_memory("/scratch/run", machine.root)
    assert in_memory("/with space/run", machine.root)
    assert in_memory("/scratch/disk/run", machine.root) is None
    assert in_memory("/scratching", machine.root) is None
    assert in_memory("/home", machine.root) is None
    assert in_memory("/home", tmp_path / "nothing") is None


def test_a_later_mount_hides_an_earlier_one(tmp_path):
    machine = FakeMachine(tmp_path)
    machine.mount("/scratch", "tmpfs")
    machine.mount("/scratch", "ext4")
    assert in_memory("/scratch", machine.root) is None


@pytest.mark.parametrize("number", [1, 4, 512, MiB - 1])
def test_a_bare_number_is_hardly_meant_as_bytes(number):
    with pytest.raises(UsageError, match=f"'{number}GiB'.*workers={number}"):
        found.discover(number, [])


class _Stranger:
    def __init__(self, *answers):
        self.answers = list(answers)

    def read(self):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.mark.parametrize(
    "answer",
    [
        ValueError("no"),
        OSError(116, "stale"),
        SystemExit(3),
        GeneratorExit(),
        None,
        5,
        "a text",
        [1],
        [tree("8 GiB")],
    ],
)
def test_a_strangers_limit_that_fails_is_left_out(answer):
    gauge = Gauge([_Stranger([tree(GiB)]), _Stranger(answer)])
    assert gauge.read() == gauge.read() == (tree(GiB),)
    with pytest.warns(RuntimeWarning, match="memory limit '_Stranger 1' cannot be read and is left out"):
        gauge.tell()
    gauge.tell()  # once: a second warning would be an error here


def test_what_a_limit_said_before_it_failed_stands():
    gauge = Gauge([_Stranger([tree(GiB, MiB)], OSError(116, "stale"))])
    assert gauge.read() == (tree(GiB, MiB),)
    assert gauge.read() == (tree(GiB, 0),)
    with pytest.warns(RuntimeWarning, match="is left out: OSError"):
        gauge.tell()
