"""The report of a run: numbers counted from its events, and the page for people."""
