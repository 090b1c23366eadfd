"""The network of AccuSNV: its weights, and its forward pass where few values are left and where many are."""
