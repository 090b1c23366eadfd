"""Pages of made-up runs, drawn once for all tests that look at them."""

from functools import cache

import pytest
from made_up_runs import RUNS

from penstock.report.page import write_page


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """The page of a made-up run, by the run's name; nobody changes it."""
    return cache(lambda name: write_page(tmp_path_factory.mktemp(name), RUNS[name]()))
