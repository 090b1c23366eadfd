"""Training of a ranker."""
