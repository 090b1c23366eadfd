"""A source's files in a job's key: one digest per 1,000 of them, with the full list in a file beside it.

Of a few files the key holds all there is to tell. Of many, that would make each journal large and each
start slow: what tells each file, and which items come from it, is then kept in one compact file beside the
journal, which is only read when the digests differ, to say which file it was.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from penstock import asking, foreign
from penstock.abc import Fingerprinted, Source
from penstock.files import atomic, discard

_FEW = 100
"""So many files are told in the key itself."""
_BLOCK = 1000
"""Files for one digest."""
_quoted = json.encoder.encode_basestring_ascii
_LONGEST = 1 << 30
"""Bytes that such a file may have, and its content."""


@dataclass
class Listing:
    """The fingerprint of each file of a source, and the items that come from it."""

    how: str = ""
    """``"content"``, ``"stat"`` or a source's own word for it; empty where the source does not choose."""
    files: dict[str, str] = field(default_factory=dict)
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Source, before: Mapping[str, Any] | None = None) -> Listing:
        """A source's listing, of the same kind as before, so that one more file does not change all.

        Args:
            source: it.
            before: the ``source`` of the key that the journal holds.
        """
        how = cls.way_of(source, before)
        files = asking.fingerprint(source, how)
        return cls("" if how == "sample" else how, files, asking.spans(source))

    @staticmethod
    def way_of(source: Source, before: Mapping[str, Any] | None = None) -> str:
        """The kind of a source's fingerprints; empty if it has no choice."""
        if not isinstance(source, Fingerprinted):
            return ""
        # Without a word for it: a folder of a version that had but one way.
        return str(before.get("how", "sample")) if before else asking.fingerprint_kind(source)

    @property
    def is_long(self) -> bool:
        """Whether the key holds digests only."""
        return bool(self.how) and len(self.files) > _FEW

    def in_key(self) -> dict[str, Any]:
        """The listing's form in the key."""
        how = {"how": self.how} if self.how else {}
        if not self.is_long:
            return {**how, **self._all()}
        return {**how, "count": len(self.files), "digests": [_digest(block) for block in self._blocks()]}

    def as_source(self, key: Mapping[str, Any]) -> dict[str, Any]:
        """The ``source`` of a key, completed with all file fingerprints."""
        return {**key, **self._all()}

    def _all(self) -> dict[str, Any]:
        return {"files": self.files, "spans": {name: list(span) for name, span in self.spans.items()}}

    def _blocks(self) -> list[bytes]:
        # As json.dumps would write them; put together here, as there may be 10^5.
        rows = [
            f"[{_quoted(name)}, {_quoted(text)}, {span[0]}, {span[1]}]"
            if (span := self.spans.get(name))
            else f"[{_quoted(name)}, {_quoted(text)}]"
            for name, text in self.files.items()
        ]
        return [f"[{', '.join(rows[at : at + _BLOCK])}]".encode() for at in range(0, len(rows), _BLOCK)]

    # ------------------------------------------------------------------ beside the key

    def keep(self, state_dir: Path) -> None:
        """Write the file beside the journal, before the key is journaled; nothing where it is there.

        Raises:
            OSError: it cannot be written.
        """
        if not self.is_long:
            return
        path = _path(state_dir, self.in_key()["digests"])
        if not path.is_file():
            with atomic(path) as draft:
                draft.write_bytes(zlib.compress(b"\n".join(self._blocks()), 1))

    def clear(self, state_dir: Path) -> None:
        """Remove the lists of earlier keys."""
        ours = _path(state_dir, self.in_key()["digests"]).name if self.is_long else ""
        for path in state_dir.glob("files-*.z"):
            if path.name != ours:
                with suppress(OSError):
                    discard(path)


def whole(state_dir: Path, source: Mapping[str, Any]) -> dict[str, Any] | None:
    """The ``source`` of a journaled key, completed with all file fingerprints.

    Returns:
        None where the file beside the journal is gone or is not what it was.
    """
    if "digests" not in source:
        return dict(source)
    path = _path(state_dir, source["digests"])
    files: dict[str, str] = {}
    spans: dict[str, list[int]] = {}
    try:
        with foreign.opened(path) as file:
            inflater = zlib.decompressobj()
            blocks = inflater.decompress(file.read(_LONGEST), _LONGEST).split(b"\n")
        if [_digest(block) for block in blocks] != source["digests"]:
            return None
        for name, text, *span in chain.from_iterable(map(foreign.parse, blocks)):
            files[str(name)] = str(text)
            if span:
                spans[name] = [int(span[0]), int(span[1])]
    except (OSError, ValueError, TypeError, IndexError, zlib.error):
        return None
    return {**source, "files": files, "spans": spans}


def _digest(block: bytes) -> str:
    return hashlib.blake2b(block, digest_size=16).hexdigest()


def _path(state_dir: Path, digests: list[str]) -> Path:
    return state_dir / f"files-{_digest(' '.join(map(str, digests)).encode())}.z"
