from pathlib import Path

import pytest

from penstock.budget import GiB, MiB
from penstock.limits.cgroup import Cgroup
from penstock.testing.limits import LimitSuite
from penstock.testing.machine import FakeMachine

STEP = "/slurm/uid_1000/job_7/step_0"


def read(machine: FakeMachine):
    return list(Cgroup(machine.root, machine.environ).read())


class TestV1(LimitSuite):
    limit_class = Cgroup
    machine_options = {"version": 1}  # noqa: RUF012

    def set(self, machine):
        machine.group("/", limit=GiB)
        return GiB


class TestV2(LimitSuite):
    limit_class = Cgroup
    machine_options = {"version": 2, "container": "/docker/abc"}  # noqa: RUF012

    def set(self, machine):
        machine.group("/docker/abc", limit=GiB)
        return GiB


@pytest.mark.parametrize("version", [1, 2, "hybrid"])
def test_no_limit_is_no_ceiling(tmp_path, version):
    machine = FakeMachine(tmp_path, version=version)
    machine.enter(STEP)
    assert read(machine) == []


@pytest.mark.parametrize("version", [1, 2, "hybrid"])
@pytest.mark.parametrize("level", [STEP, "/slurm/uid_1000/job_7", "/slurm/uid_1000", "/slurm"])
def test_a_limit_is_found_in_any_ancestor(tmp_path, version, level):
    machine = FakeMachine(tmp_path, version=version)
    machine.enter(STEP)
    machine.group(level, limit=3 * GiB, anonymous=GiB, shared=5 * MiB, cache=2 * GiB)
    (ceiling,) = read(machine)
    assert ceiling.bytes == 3 * GiB
    assert ceiling.used == GiB + 5 * MiB  # not the page cache
    assert ceiling.scope == "tree"
    assert str(machine.folder(level)) in ceiling.origin
    assert Path(ceiling.origin.split("(")[1].rstrip(")")).is_file()


@pytest.mark.parametrize("version", [1, 2])
def test_all_ancestors_innermost_first(tmp_path, version):
    machine = FakeMachine(tmp_path, version=version)
    machine.enter(STEP)
    machine.group(STEP, limit=4 * GiB)
    machine.group("/slurm/uid_1000/job_7", limit=3 * GiB)
    machine.group("/slurm", limit=100 * GiB)
    assert [ceiling.bytes >> 30 for ceiling in read(machine)] == [4, 3, 100]


@pytest.mark.parametrize("version", [1, 2, "hybrid"])
@pytest.mark.parametrize("namespace", [False, True])
def test_a_container_sees_its_own_group_at_the_mount_point(tmp_path, version, namespace):
    machine = FakeMachine(tmp_path, version=version, container="/docker/abc", namespace=namespace)
    machine.group("/docker/abc", limit=2 * GiB, anonymous=MiB)
    (ceiling,) = read(machine)
    assert (ceiling.bytes, ceiling.used) == (2 * GiB, MiB)
    machine.enter("/docker/abc/inner")
    machine.group("/docker/abc/inner", limit=GiB)
    assert [ceiling.bytes for ceiling in read(machine)] == [GiB, 2 * GiB]


def test_v1_tells_of_a_limit_in_a_group_that_cannot_be_seen(tmp_path):
    machine = FakeMachine(tmp_path, version=1, container="/docker/abc")
    machine.group("/docker", limit=GiB)
    machine.group("/docker/abc", limit=2 * GiB, anonymous=MiB)
    own, hidden = read(machine)
    assert (own.bytes, hidden.bytes, hidden.used) == (2 * GiB, GiB, MiB)
    assert "hierarchical_memory_limit" in hidden.origin


def test_a_path_of_another_namespace_falls_back_to_the_mount_point(tmp_path):
    machine = FakeMachine(tmp_path, version=2, container="/docker/abc")
    machine.group("/docker/abc", limit=GiB)
    (tmp_path / "proc/self/cgroup").write_text("0::/../other\n")
    assert [ceiling.bytes for ceiling in read(machine)] == [GiB]


def test_a_path_that_is_not_mounted_falls_back_to_what_is(tmp_path):
    machine = FakeMachine(tmp_path, version=2)
    machine.enter("/outer")
    machine.group("/outer", limit=GiB)
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/gone/deeper\n")
    assert [ceiling.bytes for ceiling in read(machine)] == [GiB]


def test_a_bind_mount_over_the_mount_point_hides_what_lies_below(tmp_path):
    machine = FakeMachine(tmp_path, version=1)
    machine.mount("/sys/fs/cgroup/memory", "cgroup", root="/docker/abc", options="rw,memory")
    machine.group("/", limit=GiB)  # the files now at the mount point are the container's
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/docker/abc\n")
    assert [ceiling.bytes for ceiling in read(machine)] == [GiB]


def test_the_view_with_most_ancestors_is_taken(tmp_path):
    machine = FakeMachine(tmp_path, version=2, container="/docker/abc")
    machine.group("/docker/abc", limit=2 * GiB)
    machine.mount("/host/cgroup", "cgroup2")
    outer = tmp_path / "host/cgroup/docker"
    (outer / "abc").mkdir(parents=True)
    (outer / "abc/memory.max").write_text(f"{2 * GiB}\n")
    (outer / "memory.max").write_text(f"{GiB}\n")
    assert [ceiling.bytes for ceiling in read(machine)] == [2 * GiB, GiB]


def test_memory_high_is_a_ceiling_that_kills_nobody(tmp_path):
    machine = FakeMachine(tmp_path, version=2)
    machine.enter("/app")
    machine.group("/app", limit=2 * GiB, throttle=GiB, kills_group=True)
    hard, soft = read(machine)
    assert (hard.bytes, hard.kills_group) == (2 * GiB, True)
    assert (soft.bytes, soft.kills_group) == (GiB, False)
    assert "memory.high" in soft.origin


@pytest.mark.parametrize("level", ["/kubepods/pod7/app", "/kubepods/pod7"])
def test_oom_group_at_any_level_up_to_the_limit_kills_the_group(tmp_path, level):
    machine = FakeMachine(tmp_path, version=2)
    machine.enter("/kubepods/pod7/app")
    machine.group("/kubepods/pod7", limit=GiB)
    assert [ceiling.kills_group for ceiling in read(machine)] == [False]
    machine.group(level, kills_group=True)
    assert [ceiling.kills_group for ceiling in read(machine)] == [True]


def test_oom_group_above_the_limit_does_not_matter(tmp_path):
    machine = FakeMachine(tmp_path, version=2)
    machine.enter("/kubepods/pod7/app")
    machine.group("/kubepods/pod7/app", limit=GiB)
    machine.group("/kubepods/pod7", kills_group=True)
    assert [ceiling.kills_group for ceiling in read(machine)] == [False]


def test_v2_counts_kills_where_the_limit_is(tmp_path):
    machine = FakeMachine(tmp_path, version=2)
    machine.enter("/job/step")
    machine.group("/job", limit=GiB, kills=3)
    assert [ceiling.kernel_kills for ceiling in read(machine)] == [3]


def test_v1_adds_up_the_kills_of_the_groups_below_the_limit(tmp_path):
    machine = FakeMachine(tmp_path, version=1)
    machine.enter("/job/step")
    machine.group("/job", limit=GiB)
    machine.group("/job/step", kills=2)
    machine.group("/job/step/worker1", kills=1)
    limit = Cgroup(machine.root, machine.environ)
    assert [ceiling.kernel_kills for ceiling in limit.read()] == [3]
    machine.group("/job/step/worker1", kills=4)
    assert [ceiling.kernel_kills for ceiling in limit.read()] == [6]


def test_follows_the_process_into_another_group(tmp_path):
    machine = FakeMachine(tmp_path, version=2)
    machine.enter("/one")
    machine.group("/one", limit=GiB)
    limit = Cgroup(machine.root, machine.environ)
    assert [ceiling.bytes for ceiling in limit.read()] == [GiB]
    machine.enter("/two")
    machine.group("/two", limit=2 * GiB)
    assert [ceiling.bytes for ceiling in limit.read()] == [2 * GiB]


def test_sees_a_limit_that_moves_and_usage_that_grows(tmp_path):
    machine = FakeMachine(tmp_path, version=2)
    machine.enter("/one")
    machine.group("/one", limit=2 * GiB, anonymous=1)
    limit = Cgroup(machine.root, machine.environ)
    limit.read()
    machine.group("/one", limit=GiB, anonymous=MiB)
    (ceiling,) = limit.read()
    assert (ceiling.bytes, ceiling.used) == (GiB, MiB)
