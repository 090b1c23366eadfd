"""Framed messages over a stream socket: a length, then a pickle.

Only between a parent and the workers that it started itself, over a socket that no other process
can open. A worker that is killed while it writes leaves a torn frame, which is dropped.
"""

from __future__ import annotations

import pickle
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

from penstock import foreign, forks
from penstock.errors import CannotKeep

_LENGTH = struct.Struct("<Q")


def packed(message: Any) -> bytes:
    """Pickle a message; what plain pickle refuses (a class from a notebook) goes by value."""
    try:
        return pickle.dumps(message, protocol=5)
    except Exception:
        import cloudpickle

        body: bytes = cloudpickle.dumps(message, protocol=5)
        return body


class _Counter:
    """A file that only counts what is written."""

    size = 0

    def write(self, data: Any) -> None:
        self.size += len(memoryview(data).cast("B"))


def packed_size(message: Any) -> int:
    """Bytes of a message once it is pickled, which is not kept."""
    counter = _Counter()
    try:
        pickle.dump(message, counter, protocol=5)
    except Exception:
        return len(packed(message))
    return counter.size


def head(body: bytes) -> bytes:
    """What goes before a pickled message in its frame."""
    return _LENGTH.pack(len(body))


def pack(message: Any) -> bytes:
    """A message as a frame."""
    body = packed(message)
    return head(body) + body


class Unpacker:
    """Reassembles messages from a stream of bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Take some bytes; yield the messages that are now complete."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            with memoryview(self._buffer) as view:
                message = _loaded(view[_LENGTH.size : end])
            del self._buffer[:end]
            yield message


def _loaded(body: memoryview) -> Any:
    """A worker's message. Only the result of a function, in a temporary run, may fail to be loaded.

    Raises:
        CannotKeep: it did.
    """
    try:
        return pickle.loads(body)
    except MemoryError:
        raise
    except BaseException as error:
        if not foreign.is_a(error, (Exception, SystemExit, GeneratorExit)):
            raise  # Ctrl-C
        raise CannotKeep(
            f"what the function returned was pickled in its worker and cannot be loaded here: "
            f"{foreign.reason_of(error)}. Return values of types that can, or give the run a folder"
        ) from error


class Channel:
    """The worker's end: blocking, one message at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._here = forks.Here()
        self._modules = {name: sys.modules[name] for name in sys.modules if name.split(".")[0] == "penstock"}
        """Ours: a function may unload modules, and classes of messages are found by their names."""

    def fileno(self) -> int:
        """The descriptor of the socket."""
        return self._connection.fileno()

    def send(self, message: Any) -> None:
        """Send a whole message; in a forked child of this process it exits instead."""
        self._here.stay()
        sys.modules.update(self._modules)
        body = packed(message)
        self._connection.sendall(head(body))
        self._connection.sendall(body)  # by itself: put together it would be there twice

    def detach(self) -> None:
        """Let go of the descriptor without closing it: the number may be another file's by now."""
        self._connection.detach()

    def receive(self) -> Any:
        """Wait for a message.

        Raises:
            EOFError: the parent is gone.
        """
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return pickle.loads(self._exactly(length))

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            block = self._connection.recv(min(size - len(data), 1 << 20))
            if not block:
                raise EOFError
            data += block
        return bytes(data)
