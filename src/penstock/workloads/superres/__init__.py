"""Blends of MRI super-resolution experts with weights of regions, exact, plane by plane."""
