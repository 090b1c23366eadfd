"""Arrays of one shape, one per item: parts are ``.npy`` files that can be mapped."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from penstock import files
from penstock.abc import Batch, Closed, Receipt, SetAside
from penstock.errors import CannotKeep
from penstock.outputs import check_many
from penstock.sinks.parts import another, kept, part_name, sweep

if TYPE_CHECKING:
    import numpy as np

_INDEX = "holes.json"
_NAMES = "part-*.npy"


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Keeps one array (or number) of each item, all of one shape and dtype.

    A part is a ``.npy`` file of shape (items of its grain, \\*shape). It is written row by row, so a
    grain needs no memory of its own. A function may also return a dict of arrays, the same names for
    every item: then each name has files of its own, ``part-...-NAME.npy``.

    The result is an :class:`ArrayParts`: a read-only sequence that maps the parts as they are used.
    An item set aside holds the fill value and is listed in ``holes.json``.

    Args:
        grain: items per part.
        fill: the value of items set aside; None for NaN (NaT) where the dtype has it, else 0.

    Raises:
        UsageError: a grain that is no whole number of at least 1.
        TypeError: from ``write``: a result that is no array of numbers or times, or of another shape,
            dtype or set of names than those before, naming its item.
        CannotKeep: from ``close``: parts that differ in shape or dtype.
    """

    grain: int = 1000
    fill: float | None = None

    def __post_init__(self) -> None:
        check_many(self, grain=self.grain)

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Write one grain row by row; a grain whose items were all set aside has no part."""
        paths: list[Path] = []
        with ExitStack() as stack:
            rows: dict[str, _Rows] | None = None
            holes: list[list[int]] = []  # as (start, stop), so that a receipt stays small
            for item, result in enumerate(results, batch.start):
                if isinstance(result, SetAside):
                    if holes and holes[-1][1] == item:
                        holes[-1][1] = item + 1
                    else:
                        holes.append([item, item + 1])
                    for each in (rows or {}).values():
                        each.add_fill()
                    continue
                arrays = _arrays(result, item)
                if rows is None:
                    rows = {}
                    for name, array in arrays.items():
                        path = folder / part_name(batch, f"-{name}.npy" if name else ".npy")
                        _compare(array, item, path, folder, name)
                        draft = stack.enter_context(files.atomic(path))
                        file = stack.enter_context(open(draft, "wb"))
                        rows[name] = _Rows(file, batch.stop - batch.start, array, self._fill_of(array))
                        paths.append(path)
                        for _ in range(batch.start, item):  # all set aside
                            rows[name].add_fill()
                if arrays.keys() != rows.keys():
                    raise TypeError(
                        f"item {item}: Arrays was given the names {', '.join(arrays)}, and "
                        f"{', '.join(rows)} before: return the same for every item"
                    )
                for name, array in arrays.items():
                    rows[name].add(array, item)
        if rows is None:
            for stale in folder.glob(part_name(batch, "*.npy")):  # of an attempt before they were set aside
                files.discard(stale)
        shapes = {name: [each.dtype.str, list(each.shape)] for name, each in (rows or {}).items()}
        parts = tuple(kept(path, folder) for path in paths)
        return Receipt(parts=parts, value={"arrays": shapes, "holes": holes})

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed:
        """Write ``holes.json``: the number of items, names, dtypes, shapes, and the missing items.

        Raises:
            CannotKeep: parts differ in names, shape or dtype.
        """
        arrays: dict[str, Any] | None = None
        first = ""
        items = 0
        names: set[str] = set()
        sweep(folder, _INDEX)
        with files.atomic(folder / _INDEX) as draft, open(draft, "w", encoding="utf-8") as index:
            index.write('{"holes": [')
            comma = ""
            for batch, receipt in receipts:
                items = batch.stop
                names.update(part.name for part in receipt.parts)
                place = f"items {batch.start} to {batch.stop - 1}"
                found = receipt.value["arrays"]
                if found and arrays is None:
                    arrays, first = found, place
                if found and found != arrays:
                    raise CannotKeep(
                        f"{first} are {_told(arrays or {})}, and {place} are {_told(found)}: "
                        "return arrays of one shape and dtype for every item"
                    )
                for hole in chain.from_iterable(starmap(range, receipt.value["holes"])):
                    index.write(f"{comma}{hole}")
                    comma = ", "
            fill = None if self.fill is None else float(self.fill)
            rest = {"items": items, "arrays": arrays or {}, "fill": fill}
            index.write(f"], {json.dumps(rest)[1:]}\n")
        sweep(folder, _NAMES, names)
        return Closed((kept(folder / _INDEX, folder),), pattern=_NAMES)

    def result(self, folder: Path) -> ArrayParts:
        """The arrays, opened lazily."""
        return ArrayParts(folder)

    def _fill_of(self, array: np.ndarray) -> np.ndarray:
        return _filled(array.dtype, array.shape, self.fill)


class ArrayParts(Sequence[Any]):
    """The arrays of all items, read-only: ``parts[item]`` is an array, or a dict of them.

    The parts are mapped as they are used, the last one stays mapped.

    Args:
        folder: where :class:`Arrays` kept them.

    Attributes:
        holes: the items that were set aside, ascending; their arrays hold the fill value.
    """

    def __init__(self, folder: Path) -> None:
        with open(folder / _INDEX, encoding="utf-8") as file:
            index = json.load(file)
        self.holes: list[int] = index["holes"]
        self._folder = folder
        self._items: int = index["items"]
        self._arrays: dict[str, Any] = index["arrays"]
        self._fill = index["fill"]
        suffix = (
            "-" + next(iter(self._arrays)) + ".npy" if self._arrays and "" not in self._arrays else ".npy"
        )
        spans = sorted(_span(path) for path in folder.glob(f"part-*{suffix}"))
        self._starts = [start for start, _ in spans]
        self._stops = [stop for _, stop in spans]
        self._mapped: tuple[int, dict[str, np.ndarray]] | None = None

    def __len__(self) -> int:
        return self._items

    def __repr__(self) -> str:
        return f"ArrayParts({self._items} items of {_told(self._arrays)}, {len(self.holes)} set aside)"

    def __getitem__(self, item: Any) -> Any:
        """The array of one item; a list of them for a slice.

        Raises:
            IndexError: no such item, or nothing at all was kept.
        """
        if isinstance(item, slice):
            return [self[i] for i in range(*item.indices(len(self)))]
        number = range(self._items)[item]
        part = bisect_right(self._starts, number) - 1
        if part >= 0 and number < self._stops[part]:
            row = number - self._starts[part]
            arrays = {name: array[row] for name, array in self._map(part).items()}
        elif self._arrays:
            arrays = {name: _hole(spec, self._fill) for name, spec in self._arrays.items()}
        else:
            raise IndexError(f"item {number}: every item was set aside, so there are no arrays")
        return arrays.get("", arrays)

    def parts(self) -> Iterator[tuple[int, int, Any]]:
        """(start, stop, array of these items) by part, mapped; a dict of arrays if they have names.

        A part whose items were all set aside is left out.
        """
        for part in range(len(self._starts)):
            arrays = self._map(part)
            yield self._starts[part], self._stops[part], arrays.get("", arrays)

    def _map(self, part: int) -> dict[str, np.ndarray]:
        import numpy as np

        if self._mapped is None or self._mapped[0] != part:
            batch = Batch(self._starts[part], self._stops[part])
            names = {name: part_name(batch, f"-{name}.npy" if name else ".npy") for name in self._arrays}
            arrays = {
                name: np.load(self._folder / file, mmap_mode="r", allow_pickle=False)
                for name, file in names.items()
            }
            self._mapped = (part, arrays)
        return self._mapped[1]


class _Rows:
    """Writes a ``.npy`` file row by row."""

    def __init__(self, file: BinaryIO, count: int, like: np.ndarray, fill: np.ndarray) -> None:
        import numpy as np

        self.dtype, self.shape = like.dtype, like.shape
        self._file = file
        self._fill = fill.tobytes()
        header = {"descr": like.dtype.str, "fortran_order": False, "shape": (count, *like.shape)}
        np.lib.format.write_array_header_1_0(file, header)

    def add(self, array: np.ndarray, item: int) -> None:
        if array.shape != self.shape or array.dtype != self.dtype:
            raise TypeError(
                f"item {item}: Arrays was given {_told_array(array)}, and {self.dtype} of shape {self.shape} "
                "before: return arrays of one shape and dtype for every item"
            )
        if array.size:
            self._file.write(array.reshape(-1).view("u1").data)

    def add_fill(self) -> None:
        self._file.write(self._fill)


def _arrays(result: Any, item: int) -> dict[str, np.ndarray]:
    if not isinstance(result, Mapping):
        return {"": _array(result, item)}
    for name in result:
        if not (isinstance(name, str) and name.isidentifier()):
            raise TypeError(
                f"item {item}: the name {name!r} becomes part of a file name: use letters, digits and _"
            )
    if not result:
        raise TypeError(f"item {item}: an empty dict names no array")
    return {name: _array(result[name], item) for name in sorted(result)}


def _array(value: Any, item: int) -> np.ndarray:
    import numpy as np

    if not isinstance(value, np.ndarray | np.generic | bool | int | float | complex):
        raise TypeError(
            f"item {item}: Arrays keeps NumPy arrays and numbers, not a {type(value).__qualname__}"
        )
    array = np.asarray(value)
    if array.dtype.kind not in "biufcmM":
        raise TypeError(f"item {item}: Arrays keeps numbers and times, not a NumPy array of {array.dtype}")
    # Little-endian and in C order, the same bytes on every machine; 0-d stays 0-d.
    return np.require(array.astype(array.dtype.newbyteorder("<"), copy=False), requirements="C")


def _compare(array: np.ndarray, item: int, path: Path, folder: Path, name: str) -> None:
    """Fail early, not in the end, when this part will differ from one that is there."""
    import numpy as np

    other = another(folder, f"part-*-{name}.npy" if name else _NAMES, path.name)
    if other is None:
        return
    try:
        there = np.load(other, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # removed meanwhile, or damaged
        return
    if there.dtype != array.dtype or there.shape[1:] != array.shape:
        start, stop = _span(other)
        raise TypeError(
            f"item {item}: Arrays was given {_told_array(array)}, and {there.dtype} of shape "
            f"{there.shape[1:]} for items {start} to {stop - 1}: return arrays of one shape and dtype for "
            "every item"
        )


def _filled(dtype: Any, shape: Sequence[int], fill: float | None) -> np.ndarray:
    import numpy as np

    if fill is not None:
        return np.full(shape, fill, dtype)
    if dtype.kind in "mM":
        return np.full(shape, np.array("NaT", dtype), dtype)
    return np.full(shape, np.nan, dtype) if dtype.kind in "fc" else np.zeros(shape, dtype)


def _hole(spec: Any, fill: float | None) -> np.ndarray:
    import numpy as np

    dtype, shape = spec
    array = _filled(np.dtype(dtype), shape, fill)
    array.setflags(write=False)
    return array[()]


def _span(path: Path) -> tuple[int, int]:
    first, last = path.name.split(".")[0].split("-")[1:3]
    return int(first), int(last) + 1


def _told_array(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {array.shape}"


def _told(arrays: Mapping[str, Any]) -> str:
    import numpy as np

    each = [
        f"{name or 'arrays'}: {np.dtype(dtype)} of shape {tuple(shape)}"
        for name, (dtype, shape) in arrays.items()
    ]
    return "; ".join(each) or "nothing"
