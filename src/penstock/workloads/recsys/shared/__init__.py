"""What several workloads of a recommender need: tables, opened and checked, and spans of their rows."""
