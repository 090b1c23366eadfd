"""Reads NumPy's files from outside: no object in them is unpickled, and no size that they tell relied on."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from penstock import foreign


def load_npz(
    path: str | os.PathLike[str], most: int = 1 << 30, *, needed: Collection[str] = ()
) -> dict[str, Any]:
    """The arrays of an ``.npz`` file, none of them larger than its data in the file.

    Python objects are never read: what holds them and is not needed is left out.

    Args:
        path: the file.
        most: bytes of all arrays together.
        needed: names of arrays that are refused when they hold Python objects.

    Raises:
        OSError: it is not there or not readable.
        ValueError: anything else that is wrong with it, whatever NumPy or zipfile say.
    """
    import zipfile
    from math import prod

    import numpy as np

    found = {}
    with foreign.opened(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
                if sum(entry.file_size for entry in entries) > most:
                    raise ValueError(f"its arrays have more than {most:,} bytes")
                for entry in entries:
                    with archive.open(entry) as member:
                        shape, _, dtype = npy_header(member)
                    name = entry.filename.removesuffix(".npy")
                    if dtype.hasobject and name in needed:
                        raise ValueError(f"{name} holds Python objects, which are never read")
                    if dtype.hasobject:
                        continue
                    if prod(shape) * dtype.itemsize > entry.file_size:
                        raise ValueError(f"{foreign.line(entry.filename, 100)} is shorter than it says")
                    with archive.open(entry) as member:
                        found[name] = np.lib.format.read_array(member)
        except (MemoryError, ValueError):
            raise
        except Exception as error:  # each library, and each compression, has its own
            raise ValueError(foreign.told(error, 200)) from error
    return found


def npy_header(file: Any) -> tuple[tuple[int, ...], bool, Any]:
    """Shape, Fortran order and dtype of the ``.npy`` that begins here.

    Raises:
        ValueError: none begins here.
    """
    import numpy as np

    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            found = np.lib.format.read_array_header_1_0(file)
        else:
            found = np.lib.format.read_array_header_2_0(file)
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # its header is Python text, which may fail to be read in many ways
        raise ValueError(foreign.told(error, 200)) from error
    if any(size < 0 for size in found[0]):
        raise ValueError(f"a shape of {found[0]}")
    return found
