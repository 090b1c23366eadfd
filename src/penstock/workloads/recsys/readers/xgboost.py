"""A ranking table for XGBoost: a DataIter over row groups, and bins that stay on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import xgboost

from penstock.workloads.recsys.readers.rows import TrainingRows, check_labels
from penstock.workloads.recsys.readers.table import open_table


class RowGroupIter(xgboost.DataIter):
    """The chosen rows of a table, one row group at a time; the query is the ``qid``.

    Args:
        rows: the chosen rows.
        cache: prefix of the files that XGBoost keeps its pages in; None to keep them in memory.
    """

    def __init__(self, rows: TrainingRows, cache: str | None = None) -> None:
        self._rows, self._at = rows, 0
        super().__init__(cache_prefix=cache)

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Pass on the next row group; False after the last one."""
        if self._at == len(self._rows.groups):
            return False
        group = self._rows.groups[self._at]
        self._at += 1
        kept = self._rows.kept(group)
        labels = self._rows.column(group, self._rows.label)
        check_labels(labels, group, self._rows.label, kept.nonzero()[0])
        input_data(data=self._rows.features(group), label=labels, qid=self._rows.queries(group)[kept])
        return True

    def reset(self) -> None:
        """Start over."""
        self._at = 0


def xgboost_matrix(folder: str | Path | TrainingRows, cache: str | Path, **options: Any) -> Any:
    """An ``ExtMemQuantileDMatrix`` of a ranking table, with its bins on disk.

    Args:
        folder: of the table, or chosen rows of one.
        cache: prefix of the files of the bins, which stay as long as the matrix is used.
        options: XGBoost's, such as ``max_bin`` and ``nthread``.

    Raises:
        BadInput: the folder is no ranking table, a query has more than 10,000 rows, or a label is outside of
            the gains.
    """
    rows = folder if isinstance(folder, TrainingRows) else TrainingRows(open_table(folder))
    return xgboost.ExtMemQuantileDMatrix(RowGroupIter(rows, str(cache)), **options)
