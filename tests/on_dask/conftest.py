"""What these tests need; without Dask they say so by name."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="distributed is not installed: penstock[dask]")
sys.path.insert(0, str(Path(__file__).parents[1] / "clusters"))  # the jobs of the tests of local:N
