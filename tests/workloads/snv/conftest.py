"""Tables and weights that several tests use."""

import numpy as np
import pytest
from snv_runs import coverage, small_table
from test_snv_kernel import random_weights


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "weights.npz"
    np.savez(path, **random_weights(6))
    return str(path)


@pytest.fixture
def small(tmp_path):
    """Saves members as a table; gives options for a run."""

    def make(save=np.savez_compressed, medians=(40,) * 12, **changes):
        members = {k: v for k, v in small_table(**changes).items() if v is not None}
        save(tmp_path / "cmt.npz", **members)
        return {
            "table": str(tmp_path / "cmt.npz"),
            "coverage": coverage(tmp_path / "cov.npz", medians),
        }

    return make
