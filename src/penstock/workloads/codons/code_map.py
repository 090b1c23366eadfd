"""The genetic code of each record: one number for all, or a table of names and patterns.

The table has two columns with a tab between them, an id or a pattern (``*``, ``?``, ``[...]``) and the number
of a code; the first line that fits a record's id counts. Empty lines and those with ``#`` first say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from penstock import foreign
from penstock.errors import BadInput, UsageError
from penstock.workloads.codons import genetic_codes

_MOST = 1 << 20
"""Bytes of a table that is read whole."""
_MAGIC = frozenset("*?[")


@dataclass(frozen=True)
class CodeMap:
    """The genetic code of each id.

    Attributes:
        lines: id or pattern and number, in the order of the file.
        default: of ids that no line fits; 0 for none.
    """

    lines: tuple[tuple[str, int], ...] = ()
    default: int = 0

    @property
    def codes(self) -> list[int]:
        """All codes that an id may have, ascending."""
        return sorted({code for _, code in self.lines} | ({self.default} if self.default else set()))

    def of(self, ids: Sequence[str]) -> list[int]:
        """The code of each id."""
        return [_code_of(self, each) for each in ids] if self.lines else [self.default] * len(ids)


@lru_cache(maxsize=8)
def _exact(codes: CodeMap) -> tuple[dict[str, tuple[int, int]], list[tuple[int, str, int]]]:
    """The lines without a pattern by their id, and those with one, with their places."""
    names: dict[str, tuple[int, int]] = {}
    patterns = []
    for at, (pattern, code) in enumerate(codes.lines):
        if _MAGIC & set(pattern):
            patterns.append((at, pattern, code))
        names.setdefault(pattern, (at, code))
    return names, patterns


def _code_of(codes: CodeMap, name: str) -> int:
    names, patterns = _exact(codes)
    at, code = names.get(name, (len(codes.lines), codes.default))
    before = (number for place, pattern, number in patterns if place < at and fnmatchcase(name, pattern))
    return next(before, code)


def parse(option: str) -> CodeMap:
    """Parse ``--genetic-code``: a number, or the path of a table.

    Raises:
        UsageError: no code has that number.
        BadInput: a file that is no such table, with the line.
    """
    if re.fullmatch(r"\s*[+-]?[0-9]{1,9}\s*", option):
        number = int(option)
        genetic_codes.translation(number)
        return CodeMap(default=number)
    try:
        with foreign.opened(option) as file:  # no pipe: it is read again by a run that goes on
            raw = file.read(_MOST + 1)
    except OSError as error:
        raise UsageError(
            f"--genetic-code {option!r} is neither a number of the NCBI's tables nor a file that can be "
            f"read: {error.strerror}"
        ) from None
    if len(raw) > _MOST:
        raise BadInput(f"over {_MOST} bytes, too many for a table of genetic codes", file=option)
    return CodeMap(tuple(_lines(raw, option)))


def _lines(raw: bytes, path: str) -> list[tuple[str, int]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"no UTF-8 text: {error.reason}", file=path, place=f"byte {error.start}") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, tab, code = line.rstrip().rpartition("\t")
        if not tab or not re.fullmatch(r"\s*[0-9]{1,9}", code) or not name.strip():
            raise BadInput(
                f"{line[:60]!r} is no id (or pattern), tab and number of a genetic code",
                file=path,
                place=f"line {number}",
            )
        try:
            genetic_codes.translation(int(code))
        except UsageError as error:
            raise BadInput(str(error), file=path, place=f"line {number}") from None
        found.append((name.strip(), int(code)))
    if not found:
        raise BadInput("no line of it names a genetic code", file=path)
    return found
