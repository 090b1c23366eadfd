"""What a run leaves: positions, the final table, the tensor, pictures."""
