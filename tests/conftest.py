"""For every part."""

import gc
import os
import sys

import pytest
from own_process import OWN_PARTS, needs_own_process
from waiting import heed_interrupts

# Thousands of processes are started here: where the shell forbids it, each would compile all of it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Threads of OpenMP that wait for each other keep their cores busy, which other parts need: with it LightGBM's
# tests took half as much CPU again. What they compute is the same.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# So do those of OpenBLAS after 2**4 cycles instead of 2**26: each import of NumPy or SciPy starts some.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
# A pytest that a test starts loads no plugin that is there by chance, as this one does not (pyproject.toml).
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
# What a test's functions took is no other test's, and nothing for the cache of whoever runs them.
os.environ["PENSTOCK_HISTORY"] = "off"


def pytest_configure():
    """Tests send Ctrl-C: it must not be ignored, wherever they were started from."""
    heed_interrupts()


def pytest_collection_finish():
    """What was imported stays: no collection looks at it again. In one part each took 0.1 to 0.3 s."""
    gc.collect()
    gc.freeze()


def pytest_pycollect_makemodule(module_path):
    """How long an example takes is nothing to judge it by; hypothesis is loaded where it is used."""
    if "hypothesis" in module_path.read_text():
        from hypothesis import HealthCheck, settings

        settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("any load")


@pytest.fixture
def worked_here(monkeypatch):
    """Runs of the command line are worked in this process: for what it reads, says and leaves."""
    from penstock import Run

    monkeypatch.setitem(Run.__init__.__kwdefaults__, "backend", "inline")


def pytest_ignore_collect(collection_path, config):
    """A plain ``pytest`` runs what can share a process; what is named is run, and ``make tests`` runs all."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return None
    if collection_path.suffix != ".py":
        return collection_path.name in OWN_PARTS or None
    return needs_own_process(collection_path) or None
