import pytest

from penstock.budget import GiB, MiB
from penstock.limits.machine import Machine
from penstock.limits.rlimit import ResourceLimit
from penstock.limits.slurm import Scheduler
from penstock.testing.limits import LimitSuite
from penstock.testing.machine import FakeMachine


class TestMachine(LimitSuite):
    limit_class = Machine

    def set(self, machine):
        machine.memory(total=8 * GiB, available=3 * GiB)
        return 8 * GiB


class TestResourceLimit(LimitSuite):
    limit_class = ResourceLimit

    def set(self, machine):
        machine.process(address_space=5 * GiB)
        return 5 * GiB


class TestScheduler(LimitSuite):
    limit_class = Scheduler

    def set(self, machine):
        machine.environ.update(SLURM_JOB_ID="7", SLURM_MEM_PER_NODE="4096")
        return 4 * GiB


def test_the_machine_tells_what_is_free_and_counts_kills(tmp_path):
    machine = FakeMachine(tmp_path)
    machine.memory(total=8 * GiB, available=3 * GiB, kills=5)
    (ceiling,) = Machine(machine.root).read()
    assert ceiling.bytes - ceiling.used == 3 * GiB
    assert ceiling.kernel_kills == 5
    assert not ceiling.kills_group


def test_an_old_kernel_without_memavailable_counts_only_what_is_free(tmp_path):
    machine = FakeMachine(tmp_path)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 2048 kB\nMemFree: 512 kB\n")
    (ceiling,) = Machine(machine.root).read()
    assert (ceiling.bytes, ceiling.used) == (2 * MiB, 1536 << 10)


def test_this_machine_has_memory():
    (ceiling,) = Machine().read()
    assert 64 * MiB < ceiling.bytes - ceiling.used < ceiling.bytes


def test_limits_of_one_process(tmp_path):
    machine = FakeMachine(tmp_path)
    machine.process(address_space=5 * GiB, data=GiB)
    space, data = ResourceLimit(machine.root).read()
    assert (space.bytes, space.scope, space.used) == (5 * GiB, "process", 200 * MiB)
    assert (data.bytes, data.scope, data.used) == (GiB, "process", 50 * MiB)
    assert "RLIMIT_AS" in space.origin
    assert "RLIMIT_DATA" in data.origin


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "4096"}, 4 * GiB),
        ({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "4G"}, 4 * GiB),
        ({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "512", "SLURM_CPUS_ON_NODE": "4"}, 2 * GiB),
        ({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_GPU": "1024", "SLURM_GPUS_ON_NODE": "2"}, 2 * GiB),
        ({"PBS_JOBID": "7.host", "PBS_RESC_MEM": str(GiB)}, GiB),
        ({"PBS_JOBID": "7.host", "PBS_VMEM": str(GiB)}, GiB),
        ({"LSB_JOBID": "7", "LSB_CG_MEMLIMIT": "40000000"}, GiB),
        ({"LSB_JOBID": "7", "LSB_CG_MEMLIMIT": "0x40000000"}, GiB),
    ],
)
def test_what_a_batch_system_gave(environ, expected):
    (ceiling,) = Scheduler(environ=environ).read()
    assert (ceiling.bytes, ceiling.scope, ceiling.used) == (expected, "tree", 0)
    assert "of job 7" in ceiling.origin


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SLURM_MEM_PER_NODE": "4096"},  # a variable left over outside of a job
        {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "0"},  # all of the node's memory
        {"SLURM_JOB_ID": "7"},
        {"PBS_JOBID": "7"},
        {"LSB_JOBID": "7", "LSB_CG_MEMLIMIT": "none"},
    ],
)
def test_no_job_or_no_number_is_no_ceiling(environ):
    assert Scheduler(environ=environ).read() == []
