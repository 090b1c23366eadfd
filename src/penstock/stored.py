"""Results of an earlier stage as an input of later ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock import layout, values
from penstock.asking import Asking
from penstock.errors import UsageError
from penstock.outputs import is_reducer


@dataclass(frozen=True)
class Stored:
    """Results of a finished stage or step: a path and how to open it. Pickles as such.

    Attributes:
        name: the stage's name.
        folder: where its results lie.
        facts: small JSON values that it noted.
        missing: items that were set aside and whose results are not there.
    """

    name: str
    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    missing: tuple[int, ...] = ()
    outputs: dict[str, Any] = field(default_factory=dict, repr=False)
    state_dir: Path | None = field(default=None, repr=False)
    key: str = field(default="", repr=False)
    holes: str = field(default="", repr=False)
    """Changes with what is missing here and in the stages before; empty when nothing is."""
    check: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    """Makes sure that what is opened is what was kept; not in a worker, as the run has done so before."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "check": None}

    def __fspath__(self) -> str:
        return str(self.folder)

    def open(self, name: str | None = None) -> Any:
        """Open the results: what the sink opens or the reducer made; for a step, the folder.

        Args:
            name: of one of them, where the stage keeps several; else a dict of them all.

        Raises:
            ResultsDamaged: a file of them is gone, or is not what was kept.
            UsageError: the stage keeps nothing of that name.
        """
        if self.check is not None:
            self.check()
        if name is not None:
            if name not in self.outputs:
                known = ", ".join(repr(output) for output in self.outputs) or "a folder"
                raise UsageError(f"stage {self.name!r} keeps no {name!r}; it keeps {known}")
            return self._open(name, self.outputs[name])
        opened = {name: self._open(name, output) for name, output in self.outputs.items()}
        if not opened:
            return self.folder
        return opened[""] if list(opened) == [""] else opened

    def _open(self, name: str, output: Any) -> Any:
        if is_reducer(output):
            assert self.state_dir is not None
            return values.loads((self.state_dir / layout.result_name(name)).read_bytes())
        with Asking(output, "result"):
            return output.result(self.folder / name if name else self.folder)


def open_input(value: Any) -> Any:
    """Open an input of a job for the function, once per worker, memory-mapped if the format allows.

    A :class:`Stored` gives what it opens; a Path to ``.npy`` a read-only memory map, ``.npz`` its
    arrays by name, ``.json`` its value, ``.parquet`` a ``ParquetFile``; any other Path and any
    value is given as it is.
    """
    if isinstance(value, Stored):
        return value.open()
    if not isinstance(value, Path):
        return value
    suffix = value.suffix.lower()
    if suffix in (".npy", ".npz"):
        import numpy as np

        return np.load(value, mmap_mode="r" if suffix == ".npy" else None, allow_pickle=False)
    if suffix == ".json":
        import json

        return json.loads(value.read_text())
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.ParquetFile(value, memory_map=True)
    return value
