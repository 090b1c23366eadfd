"""What all workloads on nucleotide sequences need: their inputs, samples of records, and errors in words."""
