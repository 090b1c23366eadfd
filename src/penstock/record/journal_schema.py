"""The schema of the journal's lines. Pure.

A checksum only tells that a line is as it was written, not who wrote it. What passes here can be
worked with anywhere: items are numbers in order, parts and outputs have plain names, and every text
and size is one. Keys that are not known are left to whoever added them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from penstock import foreign

_MOST = 1 << 53
"""Items and bytes are less than this: what JSON numbers hold exactly everywhere."""
_ASIDE = {
    "item": int, "name": str, "reason": str, "message": str, "error": str, "traceback": str, "needed": int,
}  # fmt: skip


def check(entry: Any) -> None:
    """Check that a line has a valid form.

    Raises:
        ValueError: it does not; the message names the key.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"a {foreign.kind_of(entry)}, where an object was expected")  # noqa: TRY004
    for key, value in entry.items():
        known = _CHECKS.get(key)
        if known is not None and not known(value):
            raise ValueError(f"what {key!r} may not be: {foreign.shown(value, 200)}")
    if "kept" in entry:
        start, stop = entry["kept"]
        for output in entry.get("receipts", {}).values():
            if not all(start <= a and b <= stop for a, b, *_ in output):
                raise ValueError(f"receipts outside of the items {start} to {stop - 1}")
    for name, times in entry.get("touched", {}).items():
        if len(times) != len(entry.get("receipts", {}).get(name, ())):
            raise ValueError(f"{len(times):,} times of other receipts than there are")


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _span(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_count, value)) and value[0] <= value[1]


def _items(value: Any) -> bool:
    return _span(value) and value[0] < value[1]


def _each(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(of, value))


def _named(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(_output, value)) and all(map(of, value.values()))


def _output(name: Any) -> bool:
    """An output's name is a folder's: empty where there is only one."""
    return isinstance(name, str) and (
        name == "" or ("/" not in name and name != "." and foreign.is_plain(name))
    )


def is_part(value: Any) -> bool:
    """Whether this is name, size and digest of a part."""
    if not isinstance(value, list) or len(value) != 3:
        return False
    name, size, digest = value
    return foreign.is_plain(name) and _count(size) and isinstance(digest, str)


def _grain(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and _items(value[:2]) and _each(is_part)(value[2])


def _aside(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() <= _ASIDE.keys() or "item" not in value:
        return False
    if not {"item", "name", "reason", "message"} <= value.keys():
        return False
    return all(
        _count(each) if _ASIDE[key] is int else isinstance(each, _ASIDE[key]) for key, each in value.items()
    )


def _closed(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, list) or len(value) != 3:
        return False
    parts, replaced, pattern = value
    return _each(is_part)(parts) and type(replaced) is bool and isinstance(pattern, str)


def _job(value: Any) -> bool:
    """The parts of a key that are looked into; that they are the same as ours is told elsewhere."""
    if value == {}:
        return True
    if not isinstance(value, dict) or not _objects(value, "source", "rooms", "inputs", "options"):
        return False
    source = value.get("source", {})
    if not _count(source.get("items", 0)) or not _objects(source, "files", "spans"):
        return False
    return all(map(_output, value.get("rooms", {}))) and all(map(_span, source.get("spans", {}).values()))


def _objects(value: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(value.get(name, {}), dict) for name in names)


def _published(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name and _output(name) and foreign.is_plain(path) for name, path in value.items()
    )


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "owner": _count,
    "job": _job,
    "change": _job,
    "budget": _count,
    "kept": _items,
    "receipts": _named(_each(_grain)),
    "touched": _named(_each(_count)),
    "aside": _each(_aside),
    "back": _each(_span),
    "opened": lambda value: type(value) is bool,
    "reducers": _each(_output),
    "closed": lambda value: type(value) is bool,
    "rooms": _named(_closed),
    "published": _published,
}
