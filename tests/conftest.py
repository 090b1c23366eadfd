"""For every part."""

from waiting import heed_interrupts


def pytest_configure():
    """Tests send Ctrl-C: it must not be ignored, wherever they were started from."""
    heed_interrupts()
