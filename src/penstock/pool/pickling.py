"""Packs a call or a result: by reference where possible, by value where only the main script defines it.

Large arrays among the arguments of calls are kept once, as files that the workers map: the same
50 MB array for a thousand calls takes 50 MB of disk, and no memory but the system's file cache.
"""

from __future__ import annotations

import copyreg
import errno
import functools
import mmap
import os
import pickle
import sys
import tempfile
import threading
import weakref
import zlib
from collections import ChainMap
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from penstock import handing, script, storage
from penstock.pool import inherited
from penstock.pool.spool import File, Folder, Spool

if TYPE_CHECKING:
    from penstock.pool.by_value import Bindings

MAPPED = 1 << 20
"""Arrays of at least so many bytes are mapped."""
_SMALL_FUNCTION = 4 << 10
_BLOCK = 16 << 20


def pack(value: Any, folder: Path, sent: Sender | None = None) -> bytes | File:
    """Pickle ``value``; into a file inside ``folder`` if it is large.

    Args:
        value: anything.
        folder: for the file.
        sent: what was sent before; None in a worker.

    Raises:
        Exception: what pickle, and then cloudpickle, say of something that cannot be pickled.
        OSError: no room on the disk.
    """
    if sent is None:
        return _pack(value, folder, None)
    with handing.spawning() as lender:
        packed = _pack(value, folder, sent)
    if lender.lends:
        sent.use(lender)
    return packed


def _pack(value: Any, folder: Path, sent: Sender | None) -> bytes | File:
    plain, spool = None, Spool(folder)
    try:
        try:
            pickler = pickle.Pickler(spool, protocol=5)
            pickler.dispatch_table = _table(copyreg.dispatch_table, sent)
            pickler.dump(value)
            if not spool.names_main:
                return spool.close()
            plain, spool = spool, Spool(folder)
        except (MemoryError, inherited.Unreachable):
            raise
        except Exception as error:  # a lambda, a closure, a class of the main script: by value
            if storage.is_full(error):
                raise
            spool.drop()
            spool = Spool(folder)
        _by_value(spool, sent).dump(value)
    except Exception as error:
        spool.drop()
        # A function over a lock, say, by its name alone: workers have the script, where it has a main guard.
        if plain is None or not _is_of_the_call(error) or not script.is_run():
            raise
        if not inherited.go_by_name(value, error):
            raise
        spool, plain = plain, None
    except BaseException:
        spool.drop()
        raise
    finally:
        if plain is not None:
            plain.drop()
    return spool.close()


def _is_of_the_call(error: Exception) -> bool:
    """Whether it is what is pickled that cannot be."""
    return not (isinstance(error, MemoryError) or storage.is_full(error))


def _table(table: Any, sent: Sender | None) -> Any:
    if sent is not None:
        return sent.table(table)
    return ChainMap(dict(refused), table) if (refused := handing.refusals()) else table


def _by_value(spool: Spool, sent: Sender | None) -> Any:
    from penstock.pool import by_value

    table = functools.partial(_table, sent=sent)
    if sent is None:
        return by_value.Tabled(spool, table)
    if sent.bindings is None:
        sent.bindings = by_value.Bindings()
    return by_value.Pickler(spool, table, sent.bindings, sent.inheriting)


class Sent:
    """A function that was packed once for many calls."""

    def __init__(self, fn: Any, file: File, arrays: list[Any]) -> None:
        self._file = file
        self._arrays = arrays  # held as long as this
        self._load = _function if isinstance(fn, FunctionType) else _callable

    def __reduce__(self) -> tuple[Any, ...]:
        return self._load, (self._file.name,)


def _callable(name: str) -> Any:
    """A fresh one for each call: an object may change when it is called."""
    with open(name, "rb") as file:
        return pickle.load(file)


@functools.lru_cache(maxsize=16)
def _function(name: str) -> Any:
    return _callable(name)


def send_once(fn: Any, folder: Folder, sent: Sender) -> Any:
    """``fn`` in the form to pack with each of many calls: itself if it pickles to a name."""
    packed = pack(fn, folder.path, sent)
    files = sent.used()
    if isinstance(packed, bytes):
        if len(packed) <= _SMALL_FUNCTION and b"__main__" not in packed and b"cloudpickle" not in packed:
            return fn
        descriptor, name = tempfile.mkstemp(dir=folder.path)
        with open(descriptor, "wb") as file:
            file.write(packed)
        packed = File(name, len(packed))
    return Sent(fn, packed.own(folder), files)


class Sender:
    """What an executor has already sent: large NumPy arrays, and the main script's globals.

    An array is a file, kept as long as the array or a call that needs it.

    Args:
        folder: for the files.
        least: bytes from which an array is large; None: none is.
        unchanged: whether an array is taken to stay as it is (joblib's rule); else its checksum says
            whether it is still what was written.
        mode: what workers may do with their view of it: ``"r"`` read, ``"c"`` write to a copy of their own,
            ``"r+"`` write for all that have this call's arrays.
        files_as_they_are: whether a ``numpy.memmap`` of a file is opened by workers as it is, shared
            where it may be written to (joblib's rule); else it is an array like others.
    """

    def __init__(
        self,
        folder: Folder,
        least: int | None = MAPPED,
        *,
        unchanged: bool = False,
        mode: str = "c",
        files_as_they_are: bool = False,
    ) -> None:
        self._folder = folder
        self._least = sys.maxsize if least is None else least
        self._unchanged = unchanged
        self._mode = mode
        self._as_they_are = files_as_they_are
        self.bindings: Bindings | None = None
        """Of the main script; made when it is first needed."""
        self._kept: dict[int, tuple[File, int]] = {}
        self._lock = threading.RLock()
        self._using = threading.local()
        self._tables: dict[int, tuple[Any, Any]] = {}
        """What each pickler's table became, and of what."""
        self.inheriting = inherited.Inheriting()
        """Whether a global is being pickled."""

    def renew(self) -> None:
        """Send everything again: the objects may have changed since."""
        with self._lock:
            self._kept.clear()
            if self.bindings is not None:
                self.bindings.renew()

    def renew_globals(self) -> None:
        """Send the main script's globals again: they may have been mutated."""
        with self._lock:
            if self.bindings is not None:
                self.bindings.renew()

    def table(self, table: Any) -> Any:
        """A pickler's dispatch table, preceded by ours."""
        handed, numpy = handing.reducers(), sys.modules.get("numpy")
        made_of = handed, numpy if hasattr(numpy, "memmap") else None
        known, made = self._tables.get(id(table), (None, None))
        if known is None or known[0] is not made_of[0] or known[1] is not made_of[1]:
            ours = {**handed, **inherited.reducers()}
            if numpy is not None and made_of[1] is not None:
                ours |= {numpy.ndarray: self._reduce, numpy.memmap: self._reduce}
            made = ChainMap(ours, table)
            self._tables[id(table)] = made_of, made
        return made

    def used(self) -> list[Any]:
        """Files and loans used on this thread since the last call, to be kept alive with their user."""
        files: list[Any] = getattr(self._using, "files", [])
        self._using.files = []
        return files

    def use(self, what: Any) -> None:
        """Record something for :meth:`used`."""
        self._using.files = [*getattr(self._using, "files", []), what]

    def _reduce(self, array: Any) -> Any:
        if self.inheriting and (shared := inherited.array(array)) is not None:
            return shared
        if array.dtype.hasobject or not array.size:
            return array.__reduce_ex__(5)
        if self._as_they_are and (opened := _opened_file(array)) is not None:
            return opened  # of any size: it may be what calls write into
        if array.nbytes < self._least:
            return array.__reduce_ex__(5)
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        file = self._file(array, order)
        self.use(file)
        stays = self._as_they_are or type(array).__name__ == "memmap"
        return map_array, (file.name, array.dtype, array.shape, order, self._mode, stays)

    def _file(self, array: Any, order: str) -> File:
        with self._lock:
            known = self._kept.get(id(array))
            if known is not None and (self._unchanged or known[1] == _checksum(array)):
                return known[0]
            descriptor, name = tempfile.mkstemp(dir=self._folder.path)
            with open(descriptor, "wb") as file:
                for block in _blocks(array, order):
                    file.write(block)
            kept = File(name, array.nbytes).own(self._folder)
            if known is None:
                weakref.finalize(array, self._kept.pop, id(array), None).atexit = False
            self._kept[id(array)] = kept, 0 if self._unchanged else _checksum(array)
            return kept


def _blocks(array: Any, order: str) -> Any:
    """The bytes of an array in its order, some 16 MiB at a time: no second copy of it in memory."""
    flat = array.T if order == "F" else array
    if flat.flags.c_contiguous:
        yield flat.reshape(-1).view("u1").data
        return
    rows = max(_BLOCK // max(flat.nbytes // max(len(flat), 1), 1), 1)
    for at in range(0, len(flat), rows):
        yield flat[at : at + rows].tobytes()


def _checksum(array: Any) -> int:
    state = 0
    for block in _blocks(array, "F" if array.flags.f_contiguous else "C"):
        state = zlib.crc32(block, state)
    return state


def map_array(
    name: str, dtype: Any, shape: tuple[int, ...], order: Any, mode: Any, stays: bool = False
) -> Any:
    """An array mapped from a file, in a worker. Writes are private to the worker.

    Args:
        name: the file.
        dtype, shape, order, mode: as for ``numpy.memmap``.
        stays: whether it is a ``numpy.memmap``, as the caller's was, or as joblib's functions expect.
    """
    import numpy

    try:
        mapped = numpy.memmap(name, dtype, mode, shape=shape, order=order)
    except OSError as error:
        # A private, writable map counts against the worker's fence as if it were memory.
        if error.errno != errno.ENOMEM or mode != "c":
            raise
        mapped = numpy.memmap(name, dtype, "r", shape=shape, order=order)
    return mapped if stays else numpy.asarray(mapped)


def _opened_file(array: Any) -> Any:
    """How to open an array's own file again, where it lies in one and is whole rows of it; else None."""
    import numpy

    base = array
    while isinstance(getattr(base, "base", None), numpy.ndarray):
        base = base.base
    name = getattr(base, "filename", None)
    if name is None or not isinstance(base.base, mmap.mmap) or getattr(base, "mode", "c") == "c":
        return None
    order = "C" if array.flags.c_contiguous else "F" if array.flags.f_contiguous else None
    if order is None:
        return None
    offset = base.offset + array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    mode = "r" if base.mode == "r" else "r+"
    return numpy.memmap, (os.fspath(name), array.dtype, mode, offset, array.shape, order)
