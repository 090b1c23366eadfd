"""Matrices in files: ``.npy`` of vectors and ``.npz`` of sparse rows, mapped and never read whole.

A matrix in CSR is what SciPy's ``save_npz`` writes. Its arrays are copied out of the archive into files that
can be mapped; nothing in it is unpickled.
"""

from __future__ import annotations

import errno
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import foreign
from penstock.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEP = 8192
"""Rows that are looked at together."""
_DAMAGED = (OSError, ValueError, EOFError, KeyError, SyntaxError, TypeError, OverflowError, TokenError)
"""What NumPy raises of a file whose header is odd."""
_UNZIPPED = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""What zipfile raises of an archive that is cut off, coded, or packed in a way that nobody knows."""
_SMALL = 4096
"""Bytes of a member that is read at once, at most."""
_MEMBERS = ("format", "shape", "indptr", "indices", "data")


def open_dense(path: str) -> Any:
    """A matrix of numbers, mapped.

    Raises:
        BadInput: no ``.npy`` file, cut off, or no matrix of numbers.
    """
    try:
        foreign.opened(path).close()  # no pipe and no device: NumPy would wait, or read for ever
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise BadInput("no such file", file=path) from error
    except _DAMAGED as error:
        raise BadInput(f"no .npy file of numbers, or cut off ({error})", file=path) from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiu":
        what = f"{found.dtype} of shape {found.shape}" if isinstance(found, np.ndarray) else "an archive"
        raise BadInput(f"holds {what}, and a matrix of numbers was expected, a row an item", file=path)
    if found.shape[1] == 0:
        raise BadInput("its rows hold no numbers", file=path)
    return found


def dense_blocks(matrix: Any) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """(row numbers, rows) of a matrix."""
    for start in range(0, len(matrix), _STEP):
        rows = np.asarray(matrix[start : start + _STEP])
        yield np.arange(start, start + len(rows)), rows


def sparse_shape(path: str) -> tuple[int, int]:
    """Rows and columns of a sparse matrix, after checking that it is one.

    Raises:
        BadInput: no archive that ``scipy.sparse.save_npz`` writes, or not in CSR.
    """
    try:
        with foreign.opened(path) as file, zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            missing = [name for name in _MEMBERS if f"{name}.npy" not in names]
            if missing:
                raise BadInput(
                    f"holds no {missing[0]}.npy: an archive of scipy.sparse.save_npz was expected", file=path
                )
            for name in _MEMBERS[:2]:
                if archive.getinfo(f"{name}.npy").file_size > _SMALL:
                    raise BadInput("is too large for what it should be", file=path, place=f"{name}.npy")
            with np.load(path, allow_pickle=False) as arrays:
                kind, shape = arrays["format"], arrays["shape"]
    except FileNotFoundError as error:
        raise BadInput("no such file", file=path) from error
    except (*_DAMAGED, *_UNZIPPED) as error:
        raise BadInput(f"no .npz archive, or cut off ({error})", file=path) from error
    if not (isinstance(kind, np.ndarray) and isinstance(shape, np.ndarray)) or kind.shape != ():
        raise BadInput("does not say one format", file=path, place="format.npy")
    word = kind.item()
    word = word.decode(errors="replace") if isinstance(word, bytes) else str(word)
    if word != "csr":
        raise BadInput(f"is in the format {word!r}: save it as matrix.tocsr()", file=path)
    if shape.shape != (2,) or shape.dtype.kind not in "iu" or min(shape) < 0:
        raise BadInput("its shape is not two numbers", file=path, place="shape.npy")
    return int(shape[0]), int(shape[1])


def unpack(path: str, folder: Path) -> dict[str, Any]:
    """The arrays of a CSR, copied into files in a folder and mapped.

    Raises:
        BadInput: cut off, or arrays of other types and sizes.
    """
    found: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        for name in _MEMBERS[2:]:
            place = folder / f"{name}.npy"
            try:
                with archive.open(f"{name}.npy") as member, open(place, "wb") as copy:
                    shutil.copyfileobj(member, copy, 1 << 20)
                found[name] = _map(place)
            except (*_DAMAGED, *_UNZIPPED) as error:
                # What is no matter of a place before the beginning is the disk's fault, not the file's.
                if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                    raise
                raise BadInput(f"cut off or damaged ({error})", file=path, place=f"{name}.npy") from error
    return found


def _map(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        if not _holds_nothing(path):  # a header may claim any size: nothing is allocated for it
            raise
        return np.load(path, allow_pickle=False)  # it cannot be mapped


def _holds_nothing(path: Path) -> bool:
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        return 0 in read(file)[0]


def sparse_blocks(
    arrays: dict[str, Any], shape: tuple[int, int], path: str
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]]:
    """The rows of a CSR in chunks: (indptr, columns ascending, values of unit rows).

    Zeros are left out, and a column that a row has twice is summed up.

    Raises:
        BadInput: it is no CSR of this shape, or a value is not finite, naming the row.
    """
    from scipy.sparse import csr_array

    items, columns = shape
    indptr, indices, data = arrays["indptr"], arrays["indices"], arrays["data"]
    if indptr.shape != (items + 1,) or indptr.dtype.kind not in "iu" or indices.shape != data.shape:
        raise BadInput(
            f"{items} rows, indptr of shape {indptr.shape}, {indices.shape} indices and {data.shape} values "
            "are no CSR",
            file=path,
        )  # fmt: skip
    if data.dtype.kind not in "fiu" or indices.dtype.kind not in "iu":
        raise BadInput(f"holds {data.dtype} at {indices.dtype}, and numbers were expected", file=path)
    for start in range(0, items, _STEP):
        bounds = np.asarray(indptr[start : start + _STEP + 1], np.int64)
        if (np.diff(bounds) < 0).any() or bounds[0] < 0 or bounds[-1] > len(indices):
            raise BadInput(
                "its indptr does not ascend, or leads past its end", file=path, place=f"row {start}"
            )
        own = np.array(indices[bounds[0] : bounds[-1]], np.int64)
        values = np.array(data[bounds[0] : bounds[-1]], np.float64)
        wrong = np.flatnonzero((own < 0) | (own >= columns) | ~np.isfinite(values))
        if len(wrong):
            row = int(np.searchsorted(bounds, bounds[0] + wrong[0], "right")) - 1
            raise BadInput(
                f"column {own[wrong[0]]} of {columns} with the value {values[wrong[0]]}: values are finite, "
                "and columns within the shape",
                file=path, place=f"row {start + row}",
            )  # fmt: skip
        rows = csr_array((values, own, bounds - bounds[0]), shape=(len(bounds) - 1, columns))
        rows.sum_duplicates()
        rows.eliminate_zeros()
        yield rows.indptr.astype(np.int64), rows.indices.astype(np.int32), _unit(rows)


def _unit(rows: Any) -> NDArray[np.float64]:
    """The values of each row, divided by its length."""
    counts = np.diff(rows.indptr)
    number = np.repeat(np.arange(len(counts)), counts)
    largest = np.zeros(len(counts))
    np.maximum.at(largest, number, np.abs(rows.data))
    scaled = rows.data / largest[number]  # or squares overflow
    lengths = np.sqrt(np.bincount(number, np.square(scaled), len(counts)))
    unit: NDArray[np.float64] = scaled / lengths[number]
    return unit
