"""Jobs of a batch system whose commands are a test's: what is submitted is ended, what is refused is told."""

import os
import sys
import threading

import pytest
from waiting import until

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: penstock[jobqueue]")

import dask

from penstock.abc import NodeOptions
from penstock.clusters.jobqueue import LsfNodes, PbsNodes, SgeNodes, SlurmNodes
from penstock.errors import UsageError


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A folder in which each job that was submitted and each that was cancelled leaves a file."""
    for name, what in {
        "sbatch": 'if [ -e hold ]; then touch "asked-$$"; while [ -e hold ]; do sleep 0.02; done; fi\n'
        'if [ -e full ]; then echo "sbatch: error: your account is used up" >&2; exit 1; fi\n'
        'touch "job-$$"; echo "Submitted batch job $$"',
        "scancel": 'for job in "$@"; do rm "job-$job"; done',
        "squeue": "ls job-* | sed 's/job-//; s/$/ PENDING Resources/'",
    }.items():
        place = tmp_path / "bin" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"#!/bin/sh\ncd {tmp_path}\n{what}\n")
        place.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def nodes(count=3):
    return SlurmNodes(f"{count},memory=1GiB,cores=1,host=127.0.0.1")


def begin(cluster, folder):
    cluster.open(folder / "run" / ".penstock" / "job-1", "", NodeOptions(
        drafts=folder, budget=2 << 30, requested="auto", workers=None, call=None, memory=None, threads=None,
        stall=600.0, timeout=None, set_aside=False, umask=0o022, log=folder / "workers.log", held=0,
    ))  # fmt: skip


def test_every_job_that_was_submitted_is_ended(commands):
    cluster = nodes()
    begin(cluster, commands)
    until(lambda: len(cluster.jobs()) == 3)
    assert len(list(commands.glob("job-*"))) == 3
    assert "pending (Resources)" in cluster.coming()
    cluster.leave()
    assert not list(commands.glob("job-*"))


def test_two_runs_on_one_host_have_jobs_at_the_same_time(commands):
    first, second = nodes(), nodes()
    begin(first, commands)
    begin(second, commands)
    first.leave()
    assert second.jobs()
    second.leave()
    assert not list(commands.glob("job-*"))


def test_a_run_that_ends_while_jobs_are_being_submitted_leaves_none_behind(commands):
    cluster = nodes(20)
    beginning = threading.Thread(target=begin, args=(cluster, commands))
    (commands / "hold").touch()
    beginning.start()
    until(lambda: len(list(commands.glob("asked-*"))) == 8)  # so many at a time
    (commands / "hold").unlink()
    beginning.join()
    cluster.leave()
    assert not list(commands.glob("job-*"))
    cluster.leave()  # again does nothing


def test_what_the_batch_system_refuses_is_told_in_its_words(commands):
    (commands / "full").touch()
    with pytest.raises(UsageError, match=r"no jobs can be had \(\d of 5 were refused: sbatch: error: your"):
        begin(nodes(5), commands)


def test_some_jobs_that_are_refused_later_are_told_while_no_other_has_begun(commands):
    cluster = nodes(1)
    begin(cluster, commands)
    cluster._jobs._refused.append("your account is used up")
    assert "1 of 1 were refused: your account is used up" in cluster.coming()
    cluster.leave()


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        (SlurmNodes, ["#SBATCH -p long", "#SBATCH -A lab", "#SBATCH -n 1", "#SBATCH --cpus-per-task=4",
                      "#SBATCH --mem=3G", "#SBATCH -t 12:00:00"]),
        (PbsNodes, ["#PBS -q long", "#PBS -A lab", "#PBS -l select=1:ncpus=4:mem=3072MB",
                    "#PBS -l walltime=12:00:00"]),
        (LsfNodes, ["#BSUB -q long", '#BSUB -P "lab"', "#BSUB -n 4", '#BSUB -R "span[hosts=1]"',
                    "#BSUB -M 3221226", "#BSUB -W 12:00"]),
        (SgeNodes, ["#$ -q long", "#$ -P lab", "#$ -pe smp 4", "#$ -l h_vmem=768M", "#$ -l h_rt=12:00:00"]),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)  # fmt: skip
def test_a_job_asks_for_what_was_said_in_the_words_of_its_batch_system(kind, lines, tmp_path):
    """As dask-jobqueue writes it; only SLURM's was ever given to a batch system by these tests."""
    cluster = kind("2,memory=3GiB,cores=4,partition=long,walltime=12h,account=lab,host=127.0.0.1").theirs(
        tmp_path
    )
    try:
        script = cluster.job_script().splitlines()
    finally:
        cluster.close(timeout=20)
    assert not [line for line in lines if line not in script], script
    (command,) = [line for line in script if "dask_worker" in line]
    assert command.startswith(sys.executable)
    assert "--nthreads 4" in command
    assert command.split("--memory-limit ")[-1].split()[0] == "0"  # the last one holds
    assert any(str(tmp_path) in line for line in script)  # what the job says
    # Whether it is queued again after its host is gone, the batch system decides; a node needs no more.
    assert not any("requeue" in line for line in script)


def test_what_a_site_calls_things_on_grid_engine_stays_as_configured(tmp_path):
    site = {
        "jobqueue.sge.resource-spec": "mem_free=9G",
        "jobqueue.sge.job-extra-directives": ["-pe openmp 4"],
    }
    with dask.config.set(site):
        cluster = SgeNodes("1,memory=3GiB,cores=4,host=127.0.0.1").theirs(tmp_path)
        try:
            script = cluster.job_script()
        finally:
            cluster.close(timeout=20)
    assert "#$ -l mem_free=9G" in script
    assert "#$ -pe openmp 4" in script
    assert "smp" not in script
    assert "h_vmem" not in script
