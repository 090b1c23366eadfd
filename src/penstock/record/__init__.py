"""Keeps what a run did: the run folder, its lock and journal, the key that resume compares, and verify."""
