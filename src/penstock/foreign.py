"""Makes untrusted texts and files safe to parse and print: all of them pass through here.

Covers what an exception, an item's name or a line of a run folder says, on its way to a terminal, log
or page; JSON read in bounded depth and size; and names of parts, which may not lead out of their folder.
Nothing here raises anything but ValueError and OSError for what it is given.
"""

from __future__ import annotations

import errno
import json
import numbers
import operator
import os
import re
import stat
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeGuard, TypeVar

_Error = TypeVar("_Error", bound=BaseException)

LONGEST = 2_000
"""Letters of a message; what is longer loses its middle."""
DEEPEST = 200
"""Lists and objects within each other that are read or written."""
QUIET = "penstock.quiet"
"""What a command's context says of ``--quiet``."""
_GiB = 1 << 30

_WROTE_LESS = re.compile(r"\d+ requested and \d+ written")
"""What NumPy says of an array whose file could not take all of it."""
_LINES = "\t\n"
_HIDDEN = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters: ESC begins what moves the cursor, or fills the clipboard
    "\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # unseen, or turned round
    "\U000e0000-\U000e007f"  # tags
    "\ud800-\udfff"  # bytes of a file name that are no text: nobody can print these
    "]"
)


def line(text: str, most: int = LONGEST) -> str:
    """A text as one line with everything visible: ``\\x1b``, ``\\n``, ``\\u202e``.

    Args:
        text: anybody's.
        most: letters at most; of a longer text the beginning and the end are kept.
    """
    text = _bounded(text, most)
    return text if text.isascii() and text.isprintable() else _HIDDEN.sub(_seen, text)


def lines(text: str, most: int = 20 * LONGEST) -> str:
    """The same for a text of several lines: newlines and tabs stay."""
    return _HIDDEN.sub(lambda found: found[0] if found[0] in _LINES else _seen(found), _bounded(text, most))


def warn(text: str) -> None:
    """Print a one-line warning on stderr, unless ``--quiet`` was given."""
    import click

    context = click.get_current_context(silent=True)
    if context is None or not context.meta.get(QUIET):
        click.echo(f"warning: {line(text)}", err=True)


def as_cell(text: str, longest: int = 10_000) -> str:
    """A text made safe for terminals (no escapes) and spreadsheets (no formulas)."""
    text = line(text, longest)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def in_html(text: str, most: int = LONGEST) -> str:
    """The same for HTML: newlines stay, and all markup is escaped."""
    from html import escape

    return escape(lines(text, most))


def _seen(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] in "\t\n\r":
        return {"\t": "\\t", "\n": "\\n", "\r": "\\r"}[found[0]]
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _bounded(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end]} ... {text[-end:] if end else ''}"


# --------------------------------------------------------------------------- objects


def told(value: object, most: int = LONGEST) -> str:
    """``str(value)`` of any object, bounded; its ``__str__`` may raise or return anything."""
    return _said(value, str, most)


def shown(value: object, most: int = LONGEST) -> str:
    """``repr(value)``, with the same care."""
    return _said(value, repr, most)


def _said(value: object, say: Any, most: int) -> str:
    try:
        # Of a class of its own, even a str may do anything when it is cut or added.
        return str.__str__(_bounded(str.__str__(say(value)), most))
    except MemoryError:
        raise
    except BaseException as error:
        return f"<{kind_of(value)} whose {say.__name__}() raises {kind_of(error)}>"


def kind_of(value: object) -> str:
    """The name of an object's type."""
    return str.__str__(type.__dict__["__qualname__"].__get__(type(value)))


def name_of(function: object) -> str:
    """The bounded name of a function or class, or of the object's type if it has no name."""
    try:
        name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    except Exception:
        name = None
    return line(name, 200) if type(name) is str else kind_of(function)


def reason_of(error: BaseException, most: int = 500) -> str:
    """The type and message of an exception, in one line."""
    message = line(told(error, most), most)
    return f"{kind_of(error)}: {message}" if message else kind_of(error)


def home_of(value: object) -> str:
    """The module of an object's type."""
    return told(type.__dict__["__module__"].__get__(type(value)), 200)


def is_a(error: BaseException, kinds: type[_Error] | tuple[type[_Error], ...]) -> TypeGuard[_Error]:
    """Whether it is one of these, by its type: ``isinstance`` asks the object, which may raise or lie."""
    return issubclass(type(error), kinds)


def frames_of(error: BaseException) -> TracebackType | None:
    """Its traceback, without asking its class for it."""
    frames: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return frames


def number_of(error: BaseException) -> int:
    """The error number of an OSError; 0 where there is none.

    NumPy, which writes arrays by itself, tells none where less was written than was to be: it is that of a
    full disk.
    """
    number = OSError.__dict__["errno"].__get__(error) if is_a(error, OSError) else None
    if number is None and is_a(error, OSError):
        told = BaseException.__dict__["args"].__get__(error)
        if len(told) == 1 and type(told[0]) is str and _WROTE_LESS.fullmatch(told[0]):
            return errno.ENOSPC
    return number if type(number) is int else 0


def is_of_descriptors(error: BaseException) -> bool:
    """Whether no descriptor was left: :mod:`penstock.storage` tells it, it says nothing of who raised it."""
    return number_of(error) in (errno.EMFILE, errno.ENFILE)


def file_of(error: BaseException) -> str:
    """The file that an OSError names."""
    name = OSError.__dict__["filename"].__get__(error) if is_a(error, OSError) else None
    return name if type(name) is str else "" if name is None else told(name)


def trace_of(error: BaseException, frames: TracebackType | None, most: int = 10 * LONGEST) -> str:
    """A traceback as lines; of a long one, the end.

    Args:
        error: the exception.
        frames: of its traceback, those to be told.
        most: letters at most.
    """
    import traceback

    try:
        text = "".join(traceback.format_exception(type(error), error, frames))
    except MemoryError:
        raise
    except BaseException as broken:  # it asks the exception for more than its message
        text = f"{kind_of(error)}, whose traceback cannot be told: {kind_of(broken)}\n"
    return lines(text[-most:])


_FRAME = re.compile(r'^( *)File "([^"\n]+)", line (\d+)(?:, in .*)?\n(?!\1  )', re.MULTILINE)


def with_sources(text: str) -> str:
    """A traceback from another process, with source lines that only this one has: a notebook's cells."""
    import linecache

    def with_line(found: re.Match[str]) -> str:
        # Only what lies there already: a name in a text leads to no file.
        known = found[2] in linecache.cache
        source = linecache.getline(found[2], int(found[3])).strip() if known else ""
        return f"{found[0]}{found[1]}  {line(source)}\n" if source else found[0]

    return _FRAME.sub(with_line, text)


# --------------------------------------------------------------------------- JSON


def parse(text: str | bytes) -> Any:
    """Parse JSON text, in bounded depth.

    Raises:
        ValueError: it is none, or nested deeper than 200.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST}") from None
    if _too_deep(value):
        raise ValueError(f"nested deeper than {DEEPEST}")
    return value


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def is_count(value: object) -> bool:
    """Whether a JSON value is an integer in a sane range."""
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def whole(text: str) -> int | None:
    """The number that a text of digits means; None for any other text, and for one of 19 digits or more.

    ``int()`` refuses what ``isdigit()`` takes for a digit, and texts of more than 4,300.
    """
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def as_int(value: Any) -> Any:
    """A whole number of NumPy's, or of another library, as Python's own; anything else as it is."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return operator.index(value) if whole else value


def listed(value: Any) -> tuple[Any, ...] | None:
    """What can be iterated over and is no text, as a tuple; None for anything else.

    Arrays without a dimension have the method, and raise.
    """
    if isinstance(value, str | bytes):
        return None
    try:
        return tuple(value)
    except TypeError:
        return None


def is_number(value: object) -> bool:
    """Whether it is a finite number."""
    return is_count(value) or (type(value) is float and -(2.0**63) < value < 2.0**63)


def read_json(path: Path, most: int = _GiB) -> Any:
    """The JSON value in a regular file.

    Raises:
        OSError: it is not there, not readable, or no regular file.
        ValueError: larger than ``most`` bytes, or no JSON.
    """
    return parse(read_text(path, most))


def read_text(path: Path, most: int = _GiB) -> str:
    """The text in a regular file; raises as :func:`read_json`."""
    return read_bytes(path, most).decode(errors="replace")


def read_bytes(path: Path, most: int = _GiB) -> bytes:
    """The content of a regular file; raises as :func:`read_json`."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"{size:,} bytes, where at most {most:,} are read")
        return file.read(most)


# --------------------------------------------------------------------------- files


def opened(path: str | os.PathLike[str], *, buffering: int = -1) -> BinaryIO:
    """Open a regular file for reading; refuses devices and pipes, which could block.

    Raises:
        OSError: it is not there, not readable, or something else.
    """
    # Without waiting: a pipe would have us wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no regular file", os.fspath(path))
        return open(descriptor, "rb", buffering=buffering)
    except BaseException:
        os.close(descriptor)
        raise


def read_start(path: str | os.PathLike[str], most: int) -> tuple[int, bytes]:
    """The size of a regular file and its first bytes, in as few system calls as there can be.

    Args:
        path: the file.
        most: how many bytes; fewer where the file is shorter.

    Raises:
        OSError: it is not there, not readable, or something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "no regular file", os.fspath(path))
        return about.st_size, os.read(descriptor, most)
    finally:
        os.close(descriptor)


def is_plain(name: object) -> bool:
    """Whether this is a valid name of a part: one or more plain names, ``a/b``, or ``.`` for the folder."""
    if not isinstance(name, str) or "\0" in name:
        return False
    return name == "." or all(each not in ("", ".", "..") for each in name.split("/"))


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a file lies in a folder after links are resolved; circular links lead nowhere."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # of Python before 3.13
        return False


def within(folder: Path, name: str) -> Path:
    """The path of a part, checked to lie inside its folder.

    Args:
        folder: of its sink.
        name: as its receipt tells.

    Raises:
        OSError: the name, or a link on the way, leads out of the folder.
    """
    if not is_plain(name):
        raise OSError(errno.EINVAL, "no plain name", shown(name, 200))
    path = folder / name
    if not is_inside(path, folder):
        raise OSError(errno.EINVAL, "a link that leads out of the folder", os.fspath(path))
    return path
