"""For every part."""

from hypothesis import HealthCheck, settings
from waiting import heed_interrupts

# How long a machine takes to make examples says nothing about what is tested.
settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any load")


def pytest_configure():
    """Tests send Ctrl-C: it must not be ignored, wherever they were started from."""
    heed_interrupts()
