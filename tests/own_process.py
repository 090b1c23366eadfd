"""Which tests cannot share a process with all others."""

import re

OWN_PROCESS = re.compile(
    r"\bbudget=[\"'f]|\bsetenv\(\"PENSTOCK_BUDGET\"|\bMeter\(\)|\bneeds_groups\b|\bmemory_groups\b|\bmark\.long\b"
)
"""What a file says that needs a process of its own: it states a budget, which counts all that this process
has imported for other tests, reads the peak of what this process holds, or makes control groups."""
OWN_PARTS = ("adversarial", "backends", "fuzz", "on_dask", "on_slurm", "supervise", "workloads")
"""Parts that measure memory, count processes, import libraries of hundreds of MiB, or need a cluster."""


def needs_own_process(file):
    """Whether this test file says so."""
    return bool(OWN_PROCESS.search(file.read_text()))
