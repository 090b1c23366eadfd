"""The example of docs/cluster.md that needs a Dask cluster does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import penstock

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"


def test_the_example_with_a_local_cluster_runs_as_it_stands(tmp_path):
    (code,) = re.findall(r"```python\n(from distributed import LocalCluster\n.*?)```", PAGE.read_text(), re.S)
    (tmp_path / "example.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert penstock.verify(tmp_path / "runs" / "mine").ok
    events = (tmp_path / "runs" / "mine" / ".penstock" / "events.jsonl").read_text()
    assert '"event":"node_joined"' in events
