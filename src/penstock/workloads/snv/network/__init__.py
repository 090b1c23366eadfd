"""AccuSNV's network: its weights, and forward passes for sparse and dense activations."""
