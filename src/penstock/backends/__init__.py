"""Where workers run: ``local`` forks them on this machine, ``inline`` is this very process."""
