"""Inputs in an object store or behind a web server, read in parts and in bounded memory.

    store = penstock.remote.open("gs://bucket/folder", user_project="my-project")
    data = store.read("a/b.jpg")

``gs://``, ``s3://``, ``http(s)://`` and ``file://`` are read by the package ``obstore`` (extra ``remote``),
with the credentials that it finds. Files are told by size and etag, which one listing of a prefix gives. A
:class:`Prefetcher` has several files under way at once, for a source's ``expect``.
"""

from __future__ import annotations

from penstock.remote.ahead import Prefetcher
from penstock.remote.store import ReadFailed, Stat, Store, open  # noqa: A004

__all__ = ["Prefetcher", "ReadFailed", "Stat", "Store", "open"]
