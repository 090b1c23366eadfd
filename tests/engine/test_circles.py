"""What a run held is given back when it ends, and not when there is a collection by chance."""

import gc
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

import penstock


@pytest.fixture
def without_collections():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def descriptors():
    """What this process has open, by where it leads."""
    found = Counter()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            found[str(Path(f"/proc/self/fd/{number}").readlink())] += 1
    return found


def fails(item):
    raise ValueError(item)


def run(folder):
    penstock.run(abs, 5, folder / "r", budget="1GiB", workers=1)


def temporary_run(folder):
    assert penstock.run(abs, 5, budget="1GiB", workers=1).result == [0, 1, 2, 3, 4]


def failed_run(folder):
    with pytest.raises(penstock.RunFailed):
        penstock.run(fails, 5, folder / "f", budget="1GiB", workers=1)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux tells what is open")
@pytest.mark.parametrize("work", [run, temporary_run, failed_run])
def test_no_file_stays_open_behind_a_run(tmp_path, without_collections, work):
    penstock.run(abs, 3, backend="inline")  # what is opened once for the process
    before = descriptors()
    work(tmp_path)
    assert descriptors() - before == Counter()
