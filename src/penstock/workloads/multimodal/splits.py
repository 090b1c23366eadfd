"""Assigns splits by people, never by films.

``official`` is the table that comes with the films; ``hash`` puts a person by a keyed hash, so that new
people never move old ones; ``quota`` takes people in the order of that hash until a split has its share of
records, exact to one person. Within a split records come in the order of a keyed hash of their name: a random
order without a generator's state.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import BadInput, UsageError
from penstock.plurals import plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLITS = ("train", "val", "test")
_ID_BITS = 27
"""Of the numbers of people and studies of films: at most eight digits."""


def keyed(seed: int, key: object) -> int:
    """64 bits of SHA-256 of ``SEED:KEY``."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big")


def keyed_all(seed: int, keys: Iterable[object]) -> NDArray[np.uint64]:
    """``keyed`` of each of these."""
    start = hashlib.sha256(f"{seed}:".encode())
    digests = bytearray()
    for key in keys:
        each = start.copy()
        each.update(f"{key}".encode())
        digests += each.digest()[:8]
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def parse_ratios(text: str) -> tuple[float, float, float]:
    """``"70,15,15"`` as percents of train, val and test.

    Raises:
        UsageError: not three numbers that sum to 100.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != 3 or not all(0 <= each <= 100 for each in found) or abs(sum(found) - 100) > 1e-9:
        raise UsageError(
            f"--ratios {text!r}: three percents of train, val and test that sum to 100 were expected, as "
            f"in 70,15,15"
        )
    return found[0], found[1], found[2]


def plan_splits(
    subjects: Sequence[int], method: str = "quota", *, ratios: tuple[float, float, float] = (70, 15, 15),
    seed: int = 42, official: Mapping[int, str] | None = None, unmatched: str = "exclude",
) -> dict[int, str | None]:  # fmt: skip
    """The split of each person; None for one that is excluded.

    Args:
        subjects: the person of each record, as often as they have records.
        method: ``"official"``, ``"hash"`` or ``"quota"``.
        ratios: percents of train, val and test, for hash and quota.
        seed: of the hash.
        official: the split of people, for ``"official"``, see ``official_people``.
        unmatched: what becomes of people whom ``official`` does not name: ``"exclude"`` or ``"hash"``.

    Raises:
        UsageError: another method or word, ratios that do not sum to 100, or no official split.
    """
    if unmatched not in ("exclude", "hash"):
        raise UsageError(f"unmatched={unmatched!r}: exclude or hash was expected")
    parse_ratios(",".join(map(str, ratios)))
    if method == "official":
        if official is None:
            raise UsageError("the official split needs its table")
        other = _by_hash(subjects, ratios, seed) if unmatched == "hash" else {}
        return {person: official.get(person, other.get(person)) for person in dict.fromkeys(subjects)}
    if method == "hash":
        return dict(_by_hash(subjects, ratios, seed))
    if method == "quota":
        return dict(_by_quota(subjects, ratios, seed))
    raise UsageError(f"no such split: {method!r}; known are official, hash, quota")


def official_people(
    rows: Iterable[tuple[int, int, str]],
) -> tuple[dict[int, str], NDArray[np.int64]]:
    """The official split of people, and the ``study_keys`` of all studies in it.

    Args:
        rows: (subject_id, study_id, split) of the table; ``validate`` is val.

    Raises:
        BadInput: a word that names no split, or people in two splits (their number is told).
    """
    people: dict[int, str] = {}
    studies = array("q")
    torn: set[int] = set()
    for subject, study, word in rows:
        split = {"train": "train", "validate": "val", "val": "val", "test": "test"}.get(word.strip().lower())
        if split is None:
            raise BadInput(
                "the table of the official split holds another word than train, validate and test",
                quotes_nothing=True,
            )
        if people.setdefault(subject, split) != split:
            torn.add(subject)
        if 0 < subject < 1 << _ID_BITS and 0 < study < 1 << _ID_BITS:  # others are no film's
            studies.append(subject << _ID_BITS | study)
    if torn:
        raise BadInput(
            f"the table of the official split has {plural(len(torn), 'person', 'people')} in two splits: use "
            "--split quota",
            quotes_nothing=True,
        )
    return people, np.unique(np.frombuffer(studies, np.int64))


def study_keys(subject: NDArray[np.int64], study: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number per person and study."""
    return (subject << _ID_BITS) | study


def _by_hash(subjects: Iterable[int], ratios: tuple[float, float, float], seed: int) -> dict[int, str]:
    return {person: _cut(keyed(seed, person) / 2**64, ratios) for person in dict.fromkeys(subjects)}


def _by_quota(subjects: Sequence[int], ratios: tuple[float, float, float], seed: int) -> dict[int, str]:
    """A person goes where the middle of their records lies, people in the order of the hash."""
    people, records = np.unique(np.asarray(subjects, np.int64), return_counts=True)
    keys = keyed_all(seed, people.tolist())
    order = np.argsort(keys, kind="stable")
    middle = (np.cumsum(records[order]) - records[order] / 2) / max(len(subjects), 1)
    pairs = zip(people[order].tolist(), middle.tolist(), strict=True)
    return {person: _cut(share, ratios) for person, share in pairs}


def _cut(share: float, ratios: tuple[float, float, float]) -> str:
    train, val, _ = ratios
    return "train" if share < train / 100 else "val" if share < (train + val) / 100 else "test"
