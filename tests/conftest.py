"""For every part."""

import os
import sys

from waiting import heed_interrupts

# Thousands of processes are started here: where the shell forbids it, each would compile all of it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_configure():
    """Tests send Ctrl-C: it must not be ignored, wherever they were started from."""
    heed_interrupts()


def pytest_pycollect_makemodule(module_path):
    """How long an example takes is nothing to judge it by; hypothesis is loaded where it is used."""
    if "hypothesis" in module_path.read_text():
        from hypothesis import HealthCheck, settings

        settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("any load")
