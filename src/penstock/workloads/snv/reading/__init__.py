"""A table's files: described, checked, copied where they cannot be mapped, or streamed."""
