"""A real SLURM of several nodes on this one machine: a controller here, each node in namespaces of its own.

Needs root, the control groups of version 1, and Debian's packages slurmctld, slurmd, slurm-client, munge and
iproute2. Each slurmd has its own network, host name and mounts; all see the same files and processes. Nothing
of the machine's own configuration is used or changed, and :meth:`Slurm.down` takes all of it away.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "freezer", "cpuset", "devices", "cpuacct")
PROGRAMS = {
    "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge",
    "ip": "iproute2", "nsenter": "util-linux",
}  # fmt: skip
NET, BRIDGE = "10.78.0", "penbr"
CONF = """\
ClusterName=pen
SlurmctldHost={here}({net}.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/state/spool.%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.%n.log
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_min_interval=0,bf_interval=1,batch_sched_delay=0
MpiDefault=none
JobRequeue=1
ReturnToService=2
SlurmdTimeout=20
KillWait=5
PropagateResourceLimits=NONE
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainRAMSpace=yes
ConstrainCores=no
ConstrainSwapSpace=no
"""


def missing():
    """Why there can be no SLURM here; empty where there can."""
    if os.geteuid():
        return "it needs root, for network namespaces and control groups"
    if not (GROUPS / "memory" / "cgroup.procs").exists() or not os.access(GROUPS / "memory", os.W_OK):
        return "it needs the control groups of version 1"
    packages = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    return f"it needs Debian's packages {' '.join(packages)}" if packages else ""


def call(*command):
    """Run a command of the system; its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


class Slurm:
    """The SLURM of a test.

    Args:
        home: a new folder for its keys, sockets, state and logs.
        nodes: how many, of two CPUs each.
        memory: MiB of each.
    """

    def __init__(self, home, nodes=2, memory=3000):
        self.home, self.memory = home, memory
        self.names = [f"pen{number}" for number in range(1, nodes + 1)]
        self.conf = home / "slurm.conf"
        self.host = f"{NET}.1"
        """Where a process of this machine is reached from the nodes."""
        self.processes = []

    def up(self):
        """Start it; returns when every node is idle."""
        (self.home / "state").mkdir()
        self._network()
        self._munge()
        nodes = [
            f"NodeName={name} NodeHostname={name} NodeAddr={NET}.1{number} CPUs=2 RealMemory={self.memory} "
            "State=UNKNOWN"
            for number, name in enumerate(self.names, 1)
        ]
        here = socket.gethostname()
        self.conf.write_text(CONF.format(here=here, net=NET, home=self.home, nodes="\n".join(nodes)))
        (self.home / "cgroup.conf").write_text(CGROUP_CONF)
        os.environ["SLURM_CONF"] = str(self.conf)
        self._start("slurmctld", "-c", "-D")
        for name in self.names:
            self.start_node(name)
        deadline = time.monotonic() + 100
        while self.idle() != len(self.names):
            assert time.monotonic() < deadline, (self.home / "slurmctld.log").read_text()[-2000:]
            time.sleep(0.2)

    def idle(self):
        """Nodes that wait for jobs."""
        told = subprocess.run(["sinfo", "-h", "-o", "%T %D"], capture_output=True, text=True, timeout=60)
        return sum(int(line.split()[1]) for line in told.stdout.splitlines() if line.startswith("idle"))

    def start_node(self, name):
        """A slurmd in namespaces of its own. By nsenter: `ip netns exec` mounts a /sys without the groups."""
        into = " ".join(f"echo 0 > {GROUPS}/{each}/cgroup.procs;" for each in CONTROLLERS)
        self._start(
            "nsenter", f"--net=/run/netns/{name}", "unshare", "--uts", "--mount", "--propagation", "private",
            "bash", "-c",
            f"hostname {name}; mount --bind {self.home}/hosts /etc/hosts; {into} exec slurmd -D -N {name}",
        )  # fmt: skip

    def jobs(self):
        """Numbers of the jobs that are there."""
        return call("squeue", "-h", "-o", "%i").split()

    def down(self):
        """End it, and take away all that it made."""
        for job in self.jobs() if self.processes else ():
            with suppress(AssertionError):
                call("scancel", job)
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
            for each in CONTROLLERS:
                for folder in sorted((GROUPS / each).glob(f"slurm_{name}/**/"), reverse=True):
                    with suppress(OSError):
                        folder.rmdir()
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)
        os.environ.pop("SLURM_CONF", None)

    def _start(self, *command):
        log = open(self.home / f"{command[0]}.out", "ab")  # noqa: SIM115
        with log:
            started = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(started)

    def _network(self):
        hosts = ["127.0.0.1 localhost", f"{NET}.1 {socket.gethostname()}"]
        call("ip", "link", "add", BRIDGE, "type", "bridge")
        call("ip", "addr", "add", f"{NET}.1/24", "dev", BRIDGE)
        call("ip", "link", "set", BRIDGE, "up")
        for number, name in enumerate(self.names, 1):
            hosts.append(f"{NET}.1{number} {name}")
            call("ip", "netns", "add", name)
            call("ip", "link", "add", f"v{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            call("ip", "link", "set", f"v{name}", "master", BRIDGE, "up")
            call("ip", "-n", name, "addr", "add", f"{NET}.1{number}/24", "dev", "eth0")
            call("ip", "-n", name, "link", "set", "eth0", "up")
            call("ip", "-n", name, "link", "set", "lo", "up")
            call("ip", "-n", name, "route", "add", "default", "via", f"{NET}.1")
        (self.home / "hosts").write_text("\n".join(hosts) + "\n")

    def _munge(self):
        place = self.home / "munge"
        place.mkdir(mode=0o755)
        (place / "key").write_bytes(os.urandom(128))
        for path in (place, place / "key"):
            shutil.chown(path, "munge", "munge")
        (place / "key").chmod(0o400)
        files = [f"--{name}-file={place}/{name}" for name in ("key", "pid", "log", "seed")]
        self._start(
            "runuser", "-u", "munge", "--", "munged", "-F", f"--socket={place}/socket", *files, "--force"
        )
        deadline = time.monotonic() + 60
        while not (place / "socket").exists():
            assert time.monotonic() < deadline, (self.home / "runuser.out").read_text()
            time.sleep(0.05)
