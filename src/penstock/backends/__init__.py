"""Where workers run: ``local`` forks them on this machine, ``inline`` is the calling process itself."""
