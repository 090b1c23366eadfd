"""Whom the kernel takes first, when all fences failed."""

from pathlib import Path

import penstock


def standing(item):
    return int(Path("/proc/self/oom_score_adj").read_text())


def test_the_kernel_is_offered_the_workers_and_never_the_parent():
    before = standing(0)
    report = penstock.run(standing, range(8), budget="400MiB", workers=2)
    assert set(report.result) == {1000}
    assert standing(0) == before < 1000
