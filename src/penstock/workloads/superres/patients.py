"""Patients as items: the paths of their volumes, which the function reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.errors import BadInput
from penstock.sources.telling import Telling
from penstock.workloads.superres.headers import files_of


@dataclass(frozen=True, slots=True)
class Patient:
    """One item.

    Attributes:
        pid: its name.
        paths: the experts' volumes, then the truth where it is known.
        number: its place in the stage whose files of it are read: that of the sums, or of the blends.
        fold: in which it is tested; 0 where that does not matter.
        mask: the volume of its mask, where one is given.
    """

    pid: str
    paths: tuple[str, ...]
    number: int = 0
    fold: int = 0
    mask: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read for this patient."""
        volumes = self.paths if self.mask is None else (*self.paths, self.mask)
        return tuple(file for path in volumes for file in files_of(path))


class Patients:
    """Patients, one per item.

    Args:
        patients: in order.
    """

    def __init__(self, patients: Sequence[Patient]) -> None:
        self._patients = tuple(patients)
        self._sizes = [sum(map(_size, each.files)) for each in self._patients]
        self._telling = Telling([file for each in self._patients for file in each.files], "auto", "Patients")

    def __len__(self) -> int:
        return len(self._patients)

    def read(self, start: int, stop: int) -> Sequence[Patient]:
        """The patients of one call; the function opens their files."""
        return self._patients[start:stop]

    def sizes(self, start: int, stop: int) -> list[int]:
        """Bytes of each patient's files."""
        return self._sizes[start:stop]

    def name(self, item: int) -> str:
        """The patient's name."""
        return self._patients[item].pid

    def fingerprint(self) -> Mapping[str, str]:
        """A fingerprint of each patient: its index, and the fingerprints of its files."""
        return self.fingerprint_by("")

    def fingerprint_kind(self) -> str:
        """``"content"`` or ``"stat"``."""
        return self._telling.choose()

    def fingerprint_by(self, kind: str) -> Mapping[str, str]:
        """The fingerprint of this kind."""
        fingerprints = self._telling.tell(kind)
        return {
            _key(each): " ".join(
                [f"number {each.number}", *(f"{file}={fingerprints[file]}" for file in each.files)]
            )
            for each in self._patients
        }

    def spans(self) -> Mapping[str, tuple[int, int]]:
        """Each patient is one item."""
        return {_key(each): (item, item + 1) for item, each in enumerate(self._patients)}


def _key(patient: Patient) -> str:
    return f"{patient.pid}, fold {patient.fold}" if patient.fold else patient.pid


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", file=path) from error


def by_number(paths: Sequence[Path]) -> dict[int, Path]:
    """The files of a stage, by patient number; a set-aside patient has none."""
    # The sink names files by the numbers of their items.
    return {int(path.name.partition("-")[0]): path for path in paths}
