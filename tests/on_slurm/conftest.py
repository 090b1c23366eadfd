"""A real SLURM where it can be had; elsewhere these tests say what is missing."""

import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from slurm_here import Slurm, missing

sys.path.insert(0, str(Path(__file__).parents[1] / "clusters"))  # the jobs of the tests of local:N


@pytest.fixture(scope="session")
def slurm():
    """Two nodes of 3,000 MiB."""
    if why := missing():
        pytest.skip(f"no SLURM here: {why}")
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: penstock[jobqueue]")
    home = Path(tempfile.mkdtemp(prefix="slurm-"))
    home.chmod(0o755)  # munge, a user of its own, must reach its socket
    made = Slurm(home)
    try:
        made.up()
        yield made
    finally:
        made.down()
        shutil.rmtree(home, ignore_errors=True)
