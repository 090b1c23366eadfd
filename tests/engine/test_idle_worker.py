"""What a worker process loads of ours: a worker's side of the engine, and nothing of the parent's."""

import json
import subprocess
import sys

LISTS = """
import sys
import penstock

def loaded(item):
    return sorted(name for name in sys.modules if name.partition(".")[0] == "penstock")

report = penstock.run(loaded, 1, budget="500MiB", workers=1)
import json
print(json.dumps(report.result[0]))
"""


def test_a_worker_loads_nothing_that_decides_watches_or_reports(tmp_path):
    script = tmp_path / "lists.py"
    script.write_text(LISTS)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=600)
    loaded = json.loads(done.stdout)
    assert "penstock.engine.worker.main" in loaded
    packages = (
        "engine.parent",
        "engine.decide",
        "report",
        "runs",
        "pool",
        "supervise",
        "discover",
        "cli",
        "limits",
        "events",
        "abc.cluster",
        "clusters",
    )
    assert [name for name in loaded if name.removeprefix("penstock.").startswith(packages)] == []
