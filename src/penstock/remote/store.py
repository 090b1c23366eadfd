"""A folder in an object store or behind a web server, and how its files are read.

Requests are tried again with growing waits by ``obstore`` (server errors, broken connections, timeouts), and
by us where a server gives fewer bytes than it was asked for. A file that changes while it is read is told by
its etag. Nothing waits without an end.
"""

from __future__ import annotations

import errno
import io
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, BinaryIO

from penstock import foreign, forks
from penstock.budget import MiB
from penstock.errors import BadInput, MissingExtra, UsageError

PART = 8 * MiB
"""Bytes of a request at most."""
_SCHEMES = ("gs", "s3", "http", "https", "file", "memory")
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 15.0
_PATIENCE = 180.0
"""Seconds after which a request is not tried again."""
_REQUEST = "120s"
"""The most that one request may take."""
_LISTED = 1000
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_NO_RANGE = re.compile(r"\b416\b|[Ii]nvalid range|range was invalid")


class ReadFailed(OSError):
    """A file that exists could not be read after retries: the network's or the server's fault.

    Attributes:
        filename: its address.
    """

    def __str__(self) -> str:
        return foreign.line(f"{self.filename}: {self.strerror}", 600)


@dataclass(frozen=True, slots=True)
class Stat:
    """A file's metadata in a listing.

    Attributes:
        path: below the store's folder.
        size: bytes.
        mark: changes with the content: the etag, or where there is none the time of writing.
    """

    path: str
    size: int
    mark: str

    def fingerprint(self) -> str:
        """A text that changes when the file does."""
        return f"{self.size}:{self.mark}"


def open(  # noqa: A001
    url: str, *, user_project: str | None = None, fetch: int = 4, retries: int = 8,
    options: Mapping[str, Any] | None = None,
) -> Store:  # fmt: skip
    """Open a folder in an object store or behind a web server, without any request yet.

    Args:
        url: ``gs://bucket/prefix``, ``s3://bucket/prefix``, ``https://host/path``, ``file:///folder``; and
            ``memory:///NAME``, a store of this process, for tests.
        user_project: who pays, for a bucket whose readers pay: sent as ``x-goog-user-project``.
        fetch: requests that may be under way at once where many files are asked for.
        retries: how often a request is tried again.
        options: settings of the store, as ``obstore`` names them: ``{"skip_signature": True}`` for a bucket
            that is open to all, ``{"region": "eu-west-1"}``.

    Raises:
        UsageError: an address that is none of these.
        MissingExtra: ``obstore`` is not installed.
    """
    scheme = url.partition("://")[0].lower()
    if "://" not in url or scheme not in _SCHEMES:
        raise UsageError(
            f"{foreign.line(url)}: an address was expected, as gs://BUCKET/PREFIX, s3://BUCKET/PREFIX, "
            "https://HOST/PATH or file:///FOLDER"
        )
    if fetch < 1 or retries < 0:
        raise UsageError(f"remote.open(fetch={fetch}, retries={retries}): at least 1, and 0 or more")
    try:
        import obstore  # noqa: F401
    except ImportError as error:
        raise MissingExtra("a remote input", "obstore", "remote") from error
    return Store(url.rstrip("/"), user_project, fetch, retries, tuple((options or {}).items()))


@dataclass(frozen=True)
class Store:
    """A remote folder of files; made by :func:`open`, and pickled as its address."""

    url: str
    user_project: str | None = None
    fetch: int = 4
    retries: int = 8
    options: tuple[tuple[str, Any], ...] = field(default=(), repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_client"}

    # ------------------------------------------------------------------ what is there

    def stat(self, path: str) -> Stat:
        """Size and etag of one file.

        Raises:
            FileNotFoundError: it is not there.
            PermissionError: it may not be read with these credentials.
            ReadFailed: it could not be asked for.
        """
        import obstore

        with self._telling(path):
            return _stat(obstore.head(self._store, path))

    def listing(self, prefix: str = "") -> Iterator[Stat]:
        """All files below a prefix (whole folder names), page by page.

        Raises:
            BadInput: the server does not list its files, as most web servers.
            PermissionError: it may not be listed with these credentials.
            ReadFailed: it could not be asked for.
        """
        import obstore

        with self._telling(prefix):
            try:
                for page in obstore.list(self._store, prefix or None, chunk_size=_LISTED):
                    yield from map(_stat, page)
            except obstore.exceptions.BaseError as error:
                if self.url.startswith("http") and "PROPFIND" in str(error):
                    raise BadInput(
                        "this server does not list its files (it knows no PROPFIND): name them one by one",
                        file=self.address(prefix),
                    ) from None
                raise

    def stats(self, paths: Iterable[str], prefix: str = "") -> dict[str, Stat]:
        """Size and etag of these files: from one listing, or one by one where a server cannot list.

        Args:
            paths: of the files.
            prefix: below which they all are.

        Returns:
            By path, in the order given; without those that are not there.

        Raises:
            PermissionError, ReadFailed: as ``listing``.
        """
        wanted = list(paths)
        if self.url.startswith("http"):
            found = self._one_by_one(wanted)
        else:
            known = set(wanted)
            found = {each.path: each for each in self.listing(prefix) if each.path in known}
        return {path: found[path] for path in wanted if path in found}

    def fingerprint(self, paths: Iterable[str], prefix: str = "") -> dict[str, str]:
        """For a source: each file's address, and a text that changes when it does; ``"gone"`` if missing."""
        wanted = list(paths)
        found = self.stats(wanted, prefix)
        return {self.address(path): found[path].fingerprint() if path in found else "gone" for path in wanted}

    # ------------------------------------------------------------------ reading

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes of a file, all or a range, in requests of at most 8 MiB.

        Args:
            path: of the file.
            start, stop: the first byte, and the one behind the last; to the end without it.

        Raises:
            FileNotFoundError: it is not there.
            PermissionError: it may not be read with these credentials.
            ReadFailed: it could not be read whole, or changed meanwhile.
            BadInput: the server gives no parts of files.
        """
        out = io.BytesIO()
        self._write(path, start, stop, out)
        return out.getvalue()

    def copy(self, path: str, out: BinaryIO) -> None:
        """Copy a whole file, part by part, into one that is open for writing and seeking.

        Raises:
            FileNotFoundError, PermissionError, ReadFailed, BadInput: as ``read``.
        """
        self._write(path, 0, None, out)

    def _write(self, path: str, start: int, stop: int | None, out: BinaryIO) -> None:
        etag, at = None, start
        while stop is None or at < stop:
            end = at + PART if stop is None else min(at + PART, stop)
            size, etag = self._part(path, at, end, out, etag)
            if stop is not None and stop > size:
                raise self._failed(path, f"ends at byte {size}, where {stop} bytes were expected")
            at, stop = end, size if stop is None else stop

    def address(self, path: str) -> str:
        """A file's address, for people."""
        return f"{self.url}/{path}" if path else self.url

    def _part(
        self, path: str, start: int, end: int, out: BinaryIO, etag: str | None
    ) -> tuple[int, str | None]:
        """Write one part; the bytes of the whole file, and its etag."""
        place = out.tell()
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(wait_before(attempt))
            out.seek(place)
            out.truncate()
            size, found, expected = self._request(path, start, end, out)
            if etag is not None and found != etag:
                raise self._failed(path, "changed while it was read")
            got = out.tell() - place
            if got == expected:
                return size, found
        raise self._failed(
            path,
            f"the server gave {got} of the {expected} bytes from byte {start} that it was asked for, "
            f"{self.retries + 1} times",
        )

    def _request(self, path: str, start: int, end: int, out: BinaryIO) -> tuple[int, str | None, int]:
        """Bytes of the file, its etag, and how many bytes were to come."""
        import obstore

        with self._telling(path):
            try:
                result = obstore.get(self._store, path, options={"range": (start, end)})
            except obstore.exceptions.BaseError as error:
                # No range of an empty file can be had: not from a store, and not from a server.
                if (
                    start == 0
                    and _NO_RANGE.search(str(error))
                    and obstore.head(self._store, path)["size"] == 0
                ):
                    return 0, None, 0
                raise
            meta = result.meta
            for chunk in result.stream(min_chunk_size=1 * MiB):
                out.write(chunk)
        return meta["size"], meta["e_tag"], max(min(end, meta["size"]) - start, 0)

    def _one_by_one(self, paths: list[str]) -> dict[str, Stat]:
        def look(path: str) -> Stat | None:
            try:
                return self.stat(path)
            except FileNotFoundError:
                return None

        self._store  # noqa: B018 - made before there are threads
        with ThreadPoolExecutor(self.fetch) as pool:
            return {stat.path: stat for stat in pool.map(look, paths) if stat is not None}

    # ------------------------------------------------------------------ the store itself

    @property
    def _store(self) -> Any:
        """The store of ``obstore``, of this process."""
        refusal = _HERE.refusal()
        if refusal is not None:
            raise UsageError(refusal)
        client = self.__dict__.get("_client")
        if client is None:
            client = self._connected()
            object.__setattr__(self, "_client", client)
        return client

    def _connected(self) -> Any:
        from obstore import store

        if self.url.startswith("memory:"):
            return _MEMORY.setdefault(self.url, store.MemoryStore())
        if self.url.startswith("file:"):
            try:
                return store.from_url(self.url)
            except Exception as error:
                raise BadInput(f"no such folder ({_first_line(error)})", file=self.url) from None
        settings: dict[str, Any] = {
            "client_options": {
                "allow_http": self._is_plain,
                "default_headers": {"x-goog-user-project": self.user_project} if self.user_project else {},
                "timeout": _REQUEST,
            },
            "retry_config": {
                "max_retries": self.retries,
                "backoff": {
                    "init_backoff": timedelta(seconds=_FIRST_WAIT),
                    "max_backoff": timedelta(seconds=_LONGEST_WAIT),
                    "base": 2,
                },
                "retry_timeout": timedelta(seconds=_PATIENCE),
            },
        }
        if self.options:
            settings["config"] = dict(self.options)
        try:
            return store.from_url(self.url, **settings)
        except Exception as error:
            raise UsageError(f"{foreign.line(self.url)}: {_first_line(error)}") from None

    @property
    def _is_plain(self) -> bool:
        """Whether the address, or the endpoint that was named, is one without TLS, as of a store at home."""
        ends = [str(value) for name, value in self.options if "endpoint" in name.lower()]
        if self.url.startswith("s3:"):
            ends += [os.environ.get(name, "") for name in _ENDPOINTS]
        return any(each.startswith("http:") for each in (self.url, *ends))

    def _telling(self, path: str) -> _Telling:
        return _Telling(self, path)

    def _failed(self, path: str, why: str) -> ReadFailed:
        return ReadFailed(errno.EIO, why, self.address(path))


def wait_before(attempt: int) -> float:
    """Backoff in seconds before a try, counted from 1: doubles each time, up to 15."""
    return min(_FIRST_WAIT * 2.0 ** (attempt - 1), _LONGEST_WAIT)


def memory_store(url: str) -> Any:
    """The ``obstore`` store behind ``memory:///NAME``, for tests to fill."""
    return open(url)._store


_MEMORY: dict[str, Any] = {}


class _Here:
    """The process whose threads answer for ``obstore``, from its first use on; a fork of it has none."""

    def __init__(self) -> None:
        self._here: forks.Here | None = None

    def refusal(self) -> str | None:
        if self._here is None:
            self._here = forks.Here()
        return self._here.refusal("the connection to a remote store")


_HERE = _Here()


class _Telling:
    """Errors of ``obstore`` as the system's own ones, with the address and one line of reason."""

    def __init__(self, store: Store, path: str) -> None:
        self._store, self._path = store, path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, ReadFailed | BadInput | UsageError):
            return
        import obstore

        address = self._store.address(self._path)
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, "No such file", address) from None
        known = obstore.exceptions
        if isinstance(error, PermissionError | known.PermissionDeniedError | known.UnauthenticatedError):
            raise PermissionError(errno.EACCES, f"Permission denied: {_first_line(error)}", address) from None
        if isinstance(error, known.NotSupportedError) and "Range" in str(error):
            raise BadInput(
                "this server gives no parts of files (it knows no ranges): copy them to a disk first",
                file=address,
            ) from None
        if isinstance(error, known.BaseError | OSError):
            raise ReadFailed(errno.EIO, _first_line(error), address) from None


def _stat(meta: Mapping[str, Any]) -> Stat:
    mark = meta["e_tag"] or f"{meta['last_modified'].timestamp():.6f}"
    return Stat(meta["path"], meta["size"], mark)


def _first_line(error: BaseException) -> str:
    """What is wrong, without the debugging that follows, and without any secret of an address."""
    text = str(error).split("\n\nDebug source", 1)[0]
    return foreign.line(re.sub(r"\?[^\s)]*", "?...", text), 300)
