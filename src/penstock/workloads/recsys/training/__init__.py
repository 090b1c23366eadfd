"""Trains a ranker on a table that is never whole in memory, and projects beforehand what it needs.

    ranking table -> survey -> sample -> bins -> trees-000 -> trees-050 ... -> model
                       |                                                        |
                       labels, items, times, who is tested                    score -> metrics

``stages`` has them in order and ``growing`` what a block of trees is; ``metrics``, ``split`` and
``shared.peak`` are plain functions. The table is read by row groups (``readers``).
"""

from penstock.workloads.recsys.training.command import RankTrain

__all__ = ["RankTrain"]
