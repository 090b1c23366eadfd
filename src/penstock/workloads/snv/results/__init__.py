"""The results of a run: positions, the final table, the tensor, pictures."""
