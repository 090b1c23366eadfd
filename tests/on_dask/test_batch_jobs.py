"""Jobs of a batch system whose commands are a test's: what is submitted is ended, what is refused is told."""

import os
import threading

import pytest
from waiting import until

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: penstock[jobqueue]")

from penstock.abc import NodeOptions
from penstock.clusters.jobqueue import SlurmNodes
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
