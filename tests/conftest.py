"""For every part."""

import os
import re
import sys

import pytest
from waiting import heed_interrupts

# Thousands of processes are started here: where the shell forbids it, each would compile all of it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Threads of OpenMP that wait for each other keep their cores busy, which other parts need: with it LightGBM's
# tests took half as much CPU again. What they compute is the same.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# A pytest that a test starts loads no plugin that is there by chance, as this one does not (pyproject.toml).
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
# What a test's functions took is no other test's, and nothing for the cache of whoever runs them.
os.environ["PENSTOCK_HISTORY"] = "off"


def pytest_configure():
    """Tests send Ctrl-C: it must not be ignored, wherever they were started from."""
    heed_interrupts()


def pytest_pycollect_makemodule(module_path):
    """How long an example takes is nothing to judge it by; hypothesis is loaded where it is used."""
    if "hypothesis" in module_path.read_text():
        from hypothesis import HealthCheck, settings

        settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("any load")


OWN_PROCESS = re.compile(r"\bbudget=[\"'f]|\bneeds_groups\b|\bmemory_groups\b|\bmark\.long\b")
"""What a file says that needs a process of its own: it states a budget, which counts all that this process
has imported for other tests, or it makes control groups."""
OWN_PARTS = ("adversarial", "backends", "fuzz", "on_dask", "on_slurm", "supervise", "workloads")
"""Parts that measure memory, count processes, import libraries of hundreds of MiB, or need a cluster."""


def pytest_ignore_collect(collection_path, config):
    """A plain ``pytest`` runs what can share a process; what is named is run, and ``make tests`` runs all."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return None
    if collection_path.suffix != ".py":
        return collection_path.name in OWN_PARTS or None
    return bool(OWN_PROCESS.search(collection_path.read_text())) or None
