"""Films and their tables in an object store or behind a web server.

The tables are copied once, by a step of their own; films are read when their record is made, several of them
under way at once. Sizes and etags come from one listing; where a server has none, the plan asks for each film
once, and a run that goes on asks for none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import remote
from penstock.errors import BadInput
from penstock.workloads.multimodal.headers import MOST_BYTES, BadImage
from penstock.workloads.multimodal.layout import CXR_TABLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOUND = 64 << 20
"""Bytes of films that one worker has under way or holds."""
_FOLDER = "files"
_SUFFIXES = (".csv.gz", ".csv")


def is_address(text: str | None) -> bool:
    """Whether this is a remote address, not a local folder."""
    return text is not None and "://" in text


@dataclass(frozen=True)
class Elsewhere:
    """The remote folder of films, by address.

    Args:
        url, user_project, fetch: see ``penstock.remote.open``.
    """

    url: str
    user_project: str | None = None
    fetch: int = 4

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("url", "user_project", "fetch")}

    def __penstock_key__(self) -> dict[str, Any]:
        """What a resume compares: neither who pays, nor how many are fetched at once."""
        return {"url": self.url}

    @cached_property
    def store(self) -> remote.Store:
        """The opened store."""
        return remote.open(self.url, user_project=self.user_project, fetch=self.fetch)

    def tables(self) -> dict[str, str]:
        """The tables that exist, each with its fingerprint; by name."""
        names = [f"{name}{suffix}" for name in CXR_TABLES.values() for suffix in _SUFFIXES]
        found: dict[str, str] = {}
        for name in names:
            try:
                found[name] = self.store.stat(name).fingerprint()
            except FileNotFoundError:
                continue
        if not found:
            wanted = f"{CXR_TABLES['metadata']}.csv.gz"
            raise BadInput(f"holds no table of MIMIC-CXR-JPG; {wanted} was expected in it", file=self.url)
        return found

    @property
    def lists(self) -> bool:
        """Whether one listing covers all films; web servers cannot list."""
        return not self.url.startswith("http")

    def sizes(self, paths: Sequence[str]) -> dict[str, int]:
        """Bytes of the films that exist."""
        return {path: stat.size for path, stat in self.store.stats(paths, _FOLDER).items()}

    def marks(self, paths: Sequence[str]) -> Iterator[str]:
        """Each film's fingerprint from the listing; ``"gone"`` for a missing one."""
        keys, marks = self._listed
        for path in paths:
            key = _hash(path)
            at = int(np.searchsorted(keys, key))
            yield f"{int(marks[at]):016x}" if at < len(keys) and keys[at] == key else "gone"

    @cached_property
    def _listed(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Hashes of all films' paths and marks, 16 bytes a film; listed once for all splits."""
        pairs = ((_hash(each.path), _hash(each.fingerprint())) for each in self.store.listing(_FOLDER))
        found = np.fromiter(pairs, np.dtype([("key", np.uint64), ("mark", np.uint64)]))
        found = found[np.argsort(found["key"], kind="stable")]
        return found["key"], found["mark"]

    @cached_property
    def _ahead(self) -> remote.Prefetcher[str, bytes]:
        return remote.Prefetcher(self.store.read, fetch=self.fetch, bound=BOUND)

    def expect(self, films: Sequence[tuple[str, int]]) -> None:
        """Prefetch these films, in this worker."""
        self._ahead.expect([(path, size) for path, size in films if size <= MOST_BYTES])

    def film(self, path: str, size: int) -> bytes:
        """All bytes of a film.

        Raises:
            BadImage: it is not there, or is too large for a film.
            penstock.remote.ReadFailed: the network's fault.
        """
        if size > MOST_BYTES:
            raise BadImage("image_too_large")
        try:
            return self._ahead.get(path, size)
        except FileNotFoundError:
            raise BadImage("image_missing") from None


def copy_tables(folder: Path, *, elsewhere: Elsewhere, tables: Mapping[str, str]) -> dict[str, Any]:
    """Copy the tables into a folder; returns their sizes."""
    for name in tables:
        with open(folder / name, "wb") as out:
            elsewhere.store.copy(name, out)
    return {"bytes": {name: (folder / name).stat().st_size for name in tables}}


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
