"""Shared by all workloads on nucleotide sequences: inputs, samples of records, and error messages."""
