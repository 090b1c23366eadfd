"""Penstock runs memory-hungry Python jobs inside a fixed memory budget, and they finish."""
