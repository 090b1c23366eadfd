"""Shared by the recommender workloads: tables, opened and checked, and spans of their rows."""
