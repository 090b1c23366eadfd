"""The options of ``similar``, checked against each other and the files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock import foreign
from penstock.errors import BadInput, MissingExtra, UsageError
from penstock.plurals import plural
from penstock.workloads.recsys import environment

if TYPE_CHECKING:
    from penstock.workloads.recsys.similar.search import Wanted


class Asked:
    """The options, checked.

    Raises:
        BadInput, UsageError, MissingExtra: see :meth:`Similar.run`.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        given = options
        _need("numba", "scipy", "pyarrow")
        if given["approximate"]:
            _need("faiss", extra="recsys-ann")
        self.upstream = given["compat"] == "upstream"
        self.key: str = given["key"]
        self.top_k: int = given["top_k"]
        self.threshold: float = given["threshold"]
        self.max_features: int = given["max_features"]
        self.analyzer: str = "word" if self.upstream and given["analyzer"] == "auto" else given["analyzer"]
        self.duplicates: str = given["duplicates"]
        self.approximate: bool = given["approximate"]
        self.recall: float = given["recall"]
        self.export: tuple[str, ...] = tuple(given["export"])
        self.shares = _shares(given["weights"])
        self.items: str | None = None
        self.dense = self.sparse = ""
        self.text = _names(given["text"])
        self.vectors: list[str] = []
        if (given["items"] is None) == (not given["matrix"]):
            raise UsageError("give either --items with --text or --vectors, or --matrix")
        if given["items"] is None:
            self._take_matrices(given["matrix"])
        else:
            self._take_items(str(given["items"]), given["vectors"])
        if self.approximate and self.has_text:
            raise UsageError(
                "--approximate searches vectors alone; with texts the search is exact: leave it out"
            )

    def _take_items(self, path: str, patterns: str) -> None:
        from penstock.workloads.recsys.similar.items import check_columns

        if not self.text and not patterns:
            raise UsageError(
                "--items needs --text, --vectors or both: the columns that items are compared by"
            )
        if len(set(self.text)) < len(self.text):
            raise UsageError(f"--text {','.join(self.text)!r} names one column twice")
        self.items = str(Path(path).absolute())
        self.vectors = check_columns(self.items, self.key, self.text, _names(patterns))

    def _take_matrices(self, paths: Sequence[str]) -> None:
        from penstock.workloads.recsys.similar import matrices

        rows = {}
        for path in paths:
            whole = str(Path(path).absolute())
            if path.endswith(".npz") and not self.sparse:
                self.sparse = whole
                rows[path] = matrices.sparse_shape(whole)[0]
            elif path.endswith(".npy") and not self.dense:
                self.dense = whole
                rows[path] = len(matrices.open_dense(whole))
            else:
                raise UsageError(f"--matrix {path}: one .npz, one .npy, or one of each was expected")
        if len(set(rows.values())) > 1:
            sizes = " and ".join(
                f"{foreign.line(path)} has {plural(count, 'row')}" for path, count in rows.items()
            )
            raise BadInput(f"{sizes}: both have a row for each item")
        if self.text:
            raise UsageError("--text names columns of --items; a matrix has none")
        self.rows = next(iter(rows.values()))

    @property
    def has_text(self) -> bool:
        """Whether texts or sparse rows are compared."""
        return bool(self.text or self.sparse)

    @property
    def has_vectors(self) -> bool:
        """Whether vectors are compared."""
        return bool(self.vectors or self.dense)

    def tell(self) -> None:
        """Print which options came from the environment, and which of its variables have no effect."""
        for line in (*environment.defaults(), environment.superseded()):
            if line:
                click.echo(line, err=True)

    def wanted(self, items: int) -> Wanted:
        """The wanted neighbours among so many items."""
        from penstock.workloads.recsys.similar.search import Wanted

        most = max(min(self.top_k, items - 1), 1)
        both = self.has_text and self.has_vectors
        text, vector = self.shares if both else (1.0, 1.0)
        return Wanted(most, self.threshold, both, text, vector, not self.upstream)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _shares(text: str) -> tuple[float, float]:
    """The shares of text and vectors, from ``"0.6,0.4"``.

    Raises:
        UsageError: these are not two numbers above 0.
    """
    try:
        text_share, vector_share = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"--weights {text!r}: two numbers were expected, as in 0.6,0.4") from None
    if not math.isfinite(text_share + vector_share):
        raise UsageError(f"--weights {text!r}: both, and their sum, must be finite numbers, as in 0.6,0.4")
    if not (text_share > 0 and vector_share > 0):
        raise UsageError(f"--weights {text!r}: both must be above 0; for one alone leave the other out")
    whole = text_share + vector_share
    return text_share / whole, vector_share / whole


def _need(*modules: str, extra: str = "recsys") -> None:
    for module in modules:
        if find_spec(module) is None:
            raise MissingExtra("penstock run similar", module, extra)
