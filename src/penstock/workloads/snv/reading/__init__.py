"""Reads a table's files: described, checked, copied if they cannot be mapped, or streamed."""
