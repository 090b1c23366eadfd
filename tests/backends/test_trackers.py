"""What nested pools leave is removed by their resource trackers, which are not killed with the others."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import executor_programs as programs
import pytest
from waiting import until

from penstock import Executor
from penstock.groups.ways import VARIABLE
from penstock.proc import tracks_resources


def semaphores(pid):
    return [name for name in os.listdir("/dev/shm") if name.startswith(f"sem.loky-{pid}-")]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="semaphores have no names here")
@pytest.mark.parametrize(("groups", "dies"), [("auto", True), ("none", True), ("none", False)])
def test_nested_loky_leaves_no_semaphore_and_no_folder(tmp_path, monkeypatch, groups, dies):
    monkeypatch.setenv(VARIABLE, groups)
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(folder))
    told = tmp_path / "told"
    with Executor(max_workers=1) as executor:
        executor.submit(programs.nests_loky, str(told), dies).result()
    seen = [[int(number) for number in line.split()] for line in told.read_text().splitlines()]
    assert len(seen) == 1 + dies  # the one that died, and who did it again
    for pid, names, entries in seen:
        assert names > 0  # otherwise nothing is shown by their absence
        assert entries > 0
        until(lambda pid=pid: not semaphores(pid))
    until(lambda: not list(folder.iterdir()))


@pytest.mark.parametrize(
    ("code", "is_one"),
    [
        ("from multiprocessing.resource_tracker import main;main(%d)", True),
        ("from joblib.externals.loky.backend.resource_tracker import main; main(%d, False)", True),
        ("import sys; print('from resource_tracker import'); sys.stdin.read(); %d", False),
    ],
)
def test_a_tracker_is_known_by_its_command_line(code, is_one):
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", code % reader],
        pass_fds=[reader],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            place = Path(f"/proc/{process.pid}/cmdline")
            until(lambda: code[:20] in place.read_text())  # before that it is a fork of this process
            assert tracks_resources(process.pid) is is_one
        finally:
            os.close(reader)
            os.close(writer)
            process.send_signal(signal.SIGKILL)
    assert not tracks_resources(process.pid)
