"""Whether numba's cache on this machine has a function's compiled code, found without importing numba.

Covers numba's folders and index files (``numba.core.caching``); what an index holds is searched as bytes and
never unpickled. Code kept by another processor's numba in the same folder counts as kept.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ONCE = "compiling this stage's kernel once; later runs on this machine start at once"
"""What is said before it is."""


def note(source: str | Path, *functions: str) -> str:
    """A note to print before functions compiled with ``cache=True`` are first called; empty if they are kept.

    For ``warming()`` of a job's function, which is asked before each stage.

    Args:
        source: the file that they are defined in.
        functions: their names.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return ""
    return "" if all(is_kept(source, function) for function in functions) else ONCE


def is_kept(source: str | Path, function: str) -> bool:
    """Whether compiled code of the function is on disk for this Python, numba and source file.

    Args:
        source: the file that it is defined in.
        function: its name, qualified within its module.
    """
    file = Path(source).absolute()  # as numba has it: links are not followed
    try:
        stamps = _stamps(file)
        version = version_of("numba").encode()
        places = folders(file)
    except (OSError, ModuleNotFoundError, RuntimeError):  # the last: nobody's home
        return False
    python = f"py{sys.version_info[0]}{sys.version_info[1]}{sys.abiflags}"
    name = f"{file.stem}.{function}-"
    for folder in places:
        for index in _indices(folder, name, f".{python}.nbi"):
            kept = index.with_name(f"{index.name.removesuffix('.nbi')}.1.nbc")
            try:
                held = index.read_bytes()
            except OSError:
                continue
            if version in held and any(stamp in held for stamp in stamps) and kept.is_file():
                return True
    return False


def version_of(package: str) -> str:
    """The version of an installed package, from the name of the folder that its metadata lie in.

    ``importlib.metadata``, which is asked where there is no such folder beside it, takes as long to import as
    compiled code to load.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    found = find_spec(package)
    if found is not None and found.origin is not None:
        begins, ends = f"{package}-", ".dist-info"
        names = [name for name in os.listdir(Path(found.origin).parents[1]) if name.endswith(ends)]
        versions = [name[len(begins) : -len(ends)] for name in names if name.startswith(begins)]
        if len(versions) == 1:
            return versions[0]
    from importlib import metadata

    return metadata.version(package)


def _stamps(file: Path) -> tuple[bytes, ...]:
    """How an index may say which text of the file it is of: by a hash, or by its date in earlier numbas."""
    digest = hashlib.sha256(file.read_bytes())
    return digest.digest(), digest.hexdigest().encode(), struct.pack(">d", file.stat().st_mtime)


def folders(file: Path) -> tuple[Path, ...]:
    """Where numba may keep the code of a file."""
    parent = hashlib.sha1(str(file.parent).encode(), usedforsecurity=False).hexdigest()
    hashed = f"{file.parent.name}_{parent}"
    if asked := os.environ.get("NUMBA_CACHE_DIR"):
        return (Path(asked) / hashed,)
    if sys.platform == "darwin":
        ours = Path.home() / "Library" / "Caches"
    else:
        ours = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return file.parent / "__pycache__", ours / "numba" / hashed


def _indices(folder: Path, begins: str, ends: str) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if name.startswith(begins) and name.endswith(ends):
            yield folder / name
