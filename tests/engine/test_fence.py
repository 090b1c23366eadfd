"""The fence on private memory is the call's, not the sink's, and never above a limit of the user's own."""

import resource
import subprocess
import sys

import penstock


def measure(item):
    return {"size": item, "row": {"item": item}}


def test_a_sink_that_first_maps_much_after_the_first_call_is_not_fenced(tmp_path):
    report = penstock.Job(
        source=penstock.sources.Range(40),
        function=measure,
        into={"size": penstock.reducers.Sum(), "row": penstock.sinks.Parquet()},
    ).run(tmp_path / "run", budget="400MiB")
    assert report.result["size"] == 780
    assert report.result["row"].count_rows() == 40
    assert report.failures == {}


def soft_limit(item):
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


PROGRAM = """
import resource, sys
sys.path.insert(0, {folder!r})
resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, resource.RLIM_INFINITY))
import penstock, test_fence
print(penstock.run(test_fence.soft_limit, range(20), budget="4GiB", call=1).result)
"""


def test_a_limit_of_the_users_own_stays(tmp_path):
    folder = __file__.rpartition("/")[0]
    program = PROGRAM.format(folder=folder)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    limits = [int(word) for word in done.stdout.strip("[]\n").split(", ")]
    assert len(limits) == 20
    assert all(0 < limit <= 1 << 30 for limit in limits)
