"""Real jobs with names, for ``penstock run NAME``; each uses only the public API."""
