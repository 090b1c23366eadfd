"""The manifest of a K-fold experiment: each patient's files, and the training and test patients of each fold.

{"folds": [{"train": {PATIENT: ENTRY}, "test": {PATIENT: ENTRY}}, ...]}
ENTRY = {EXPERT: {SPACING: {PULSE: PATH}}, ..., "HR": {SPACING: {PULSE: PATH}}}
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock import foreign
from penstock.errors import BadInput, UsageError
from penstock.files import is_file, is_folder
from penstock.plurals import plural
from penstock.workloads.superres.headers import read_header
from penstock.workloads.superres.volumes import compare_grids

TRUTH = "HR"
_NOT_EXPERTS = (TRUTH, "LR")
_SHOWN = 20
_WANTED = '{"folds": [...]} was expected, as penstock run superres-manifest writes it'

Paths = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold.

    Attributes:
        number: from 1.
        train, test: patients, sorted.
    """

    number: int
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A run's input.

    Attributes:
        models: the experts, sorted: the order of all weights.
        folds: those that were asked for.
        patients: the paths of each: experts in the order of ``models``, then the truth where it is known.
        missing: what is not there, one sentence each, of patients that were left out.
        masks: the mask of each patient, where they were given.
    """

    models: tuple[str, ...]
    folds: tuple[Fold, ...]
    patients: Mapping[str, Paths]
    missing: tuple[str, ...] = ()
    masks: Mapping[str, str] = field(default_factory=dict)


def read_manifest(
    path: str | Path, *, root: str | Path, spacing: str, pulse: str, fold: str = "all",
    models: Sequence[str] = (), allow_missing: bool = False, truth: bool = True, mask: str | None = None,
) -> Manifest:  # fmt: skip
    """Read a manifest and check that every file in it exists.

    Args:
        path: of the manifest.
        root: where relative paths in it begin.
        spacing, pulse: which volumes.
        fold: its number, from 1, or ``"all"``.
        models: the experts and their order; none: all that the manifest names, sorted.
        allow_missing: leave patients out whose files are not all there.
        truth: whether the truth is needed too.
        mask: where masks lie, with ``{patient}`` in it; None for none.

    Raises:
        BadInput: it is no manifest; a patient is in it twice, or in both halves of a fold, or has
            other experts than the others; files are missing (all of them are named).
        UsageError: there is no such fold.
    """
    content = _load(path)
    halves = [_halves(each, number, path) for number, each in enumerate(content, 1)]
    chosen = _choose(halves, fold, path)
    entries: dict[str, Any] = {}
    for half in (half for _, *both in chosen for half in both):
        for pid, entry in half.items():
            if entries.setdefault(pid, entry) != entry:
                raise BadInput(f"patient {pid} has other files in one fold than in another", file=path)
    names = tuple(models) or _experts(entries, path)
    wanted = (*names, TRUTH) if truth else names
    patients: dict[str, Paths] = {}
    masks: dict[str, str] = {}
    missing: list[str] = []
    for pid in sorted(entries):
        found = [_find(entries[pid], pid, name, spacing, pulse, Path(root)) for name in wanted]
        if mask is not None:
            found.append(_there(Path(root) / mask.replace("{patient}", pid), pid))
        absent = [each.removeprefix("!") for each in found if each.startswith("!")]
        missing += absent
        if not absent:
            patients[pid] = tuple(found[: len(wanted)])
            masks |= {pid: found[-1]} if mask is not None else {}
    if missing and not allow_missing:
        advice = (
            f" (relative paths begin in {Path(root).absolute()}, see --root); --allow-missing goes on without"
        )
        raise listed("missing", missing, path, f"{advice} their patients")
    if not patients:
        raise BadInput("no patient is complete", file=path)
    folds = tuple(
        Fold(number, *(tuple(sorted(pid for pid in half if pid in patients)) for half in (train, test)))
        for number, train, test in chosen
    )
    return Manifest(names, folds, patients, tuple(missing), masks)


def build_manifest(
    hr_root: Path, models_root: Path, *, models: Sequence[str], spacings: Sequence[str],
    pulses: Sequence[str], folds: int, seed: int, allow_missing: bool = False, group: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The manifest of the patients in ``HR_ROOT/PATIENT/PATIENT-PULSE.nii.gz``.

    Experts lie in ``MODELS_ROOT/MODEL/SPACING/output_volumes/PATIENT-PULSE.nii.gz``. The header of every
    file is read, and its grid compared with the truth's.

    Raises:
        BadInput: files are missing or do not fit (all of them are named).
        UsageError: fewer complete patients than folds.
    """
    if not is_folder(hr_root):
        raise BadInput("no such folder", file=hr_root)
    entries: dict[str, Any] = {}
    wrong: list[str] = []
    for pid in sorted(each.name for each in hr_root.iterdir() if each.is_dir()):
        entry: dict[str, Any] = {name: {s: {} for s in spacings} for name in (*models, TRUTH)}
        said = len(wrong)
        for pulse in pulses:
            truth = hr_root / pid / f"{pid}-{pulse}.nii.gz"
            wrong += _wrong(truth, None)
            for spacing in spacings:
                entry[TRUTH][spacing][pulse] = str(truth)
                for model in models:
                    volume = models_root / model / spacing / "output_volumes" / truth.name
                    wrong += _wrong(volume, truth)
                    entry[model][spacing][pulse] = str(volume)
        if len(wrong) == said:
            entries[pid] = entry
    if wrong and not allow_missing:
        raise listed("missing or wrong", wrong, hr_root, "; --allow-missing goes on without their patients")
    return {
        "folds": [
            {half: {pid: entries[pid] for pid in pids} for half, pids in (("train", train), ("test", test))}
            for train, test in split(list(entries), folds, seed, groups_of(list(entries), group))
        ]
    }


def split(
    patients: Iterable[str], folds: int, seed: int, groups: Mapping[str, str] | None = None
) -> list[tuple[list[str], list[str]]]:
    """(train, test) of each fold, sorted: shuffled by ``random.Random(seed)``, the later folds larger.

    Args:
        patients: names, each of a scan.
        folds: how many.
        seed: of the shuffle.
        groups: name -> person; scans of a person are in one fold. Each is a person's own without it.

    Raises:
        UsageError: fewer people than folds.
    """
    of_person: dict[str, list[str]] = {}
    for pid in sorted(patients):
        of_person.setdefault(groups[pid] if groups else pid, []).append(pid)
    people = sorted(of_person)
    count = len(people)
    if not 1 <= folds <= count:
        whom = ("person", "people") if groups else ("complete patient",)
        raise UsageError(f"{plural(folds, 'fold')} of {plural(count, *whom)}: each fold needs at least one")
    random.Random(seed).shuffle(people)
    made, start = [], 0
    for fold in range(folds):
        size = (count + fold) // folds
        chosen = people[start : start + size]
        start += size
        test = sorted(pid for person in chosen for pid in of_person[person])
        others = set(people) - set(chosen)
        made.append((sorted(pid for person in others for pid in of_person[person]), test))
    return made


def groups_of(patients: Sequence[str], group: str | None) -> dict[str, str] | None:
    """The person of each scan; None if every scan is taken for a person of its own.

    Args:
        patients: names of the scans.
        group: a file with lines ``SCAN,PERSON``, or a regular expression of which the first group (or the
            whole match) is the person.

    Raises:
        BadInput: a scan that the file does not have, or in which the expression finds nobody.
        UsageError: no such file, and no regular expression.
    """
    if group is None:
        return None
    if is_file(group):
        people = _people_in(group)
    else:
        try:
            pattern = re.compile(group)
        except re.error as error:
            raise UsageError(
                f"--group {group!r} is neither a file nor a regular expression: {error}"
            ) from None
        found = {pid: pattern.search(pid) for pid in patients}
        people = {pid: match[1 if pattern.groups else 0] for pid, match in found.items() if match is not None}
    if strangers := [pid for pid in patients if not people.get(pid)]:
        raise BadInput(
            f"says of {len(strangers)} of {plural(len(patients), 'scan')} not whose they are, {strangers[0]} "
            f"among them",
            file=f"--group {group}",
        )
    return {pid: people[pid] for pid in patients}


def _people_in(file: str) -> dict[str, str]:
    """The person of each scan in a file of lines ``SCAN,PERSON``."""
    try:
        text = foreign.read_bytes(Path(file)).decode("utf-8-sig")
        return {row[0].strip(): row[1].strip() for row in csv.reader(io.StringIO(text, "")) if len(row) >= 2}
    except (OSError, ValueError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"cannot be read as lines of SCAN,PERSON: {why}", file=file) from error


_VISIT = re.compile(
    r"(.+?)(?:[-_]\d{1,4}|[-_]ses[-_]?\w+|[-_](?:visit|tp|timepoint)[-_]?\w+)$", re.IGNORECASE
)


def shared_people(train: Iterable[str], test: Iterable[str]) -> list[str]:
    """Apparent people, by name, with scans in both halves: sorted stems.

    A stem that all names have is that of the cohort ("SYN-0001"), and says nothing of people.
    """
    halves = [{match[1] if (match := _VISIT.match(pid)) else pid for pid in half} for half in (train, test)]
    return sorted(halves[0] & halves[1]) if len(halves[0] | halves[1]) > 1 else []


def listed(what: str, sentences: Sequence[str], file: object, advice: str = "") -> BadInput:
    """One error for several findings."""
    shown = "".join(f"\n  {each}" for each in sentences[:_SHOWN])
    more = f"\n  and {len(sentences) - _SHOWN} more" if len(sentences) > _SHOWN else ""
    return BadInput(f"{len(sentences)} {what}{advice}:{shown}{more}", file=file)


# ------------------------------------------------------------------ what a manifest may say


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _load(path: str | Path) -> list[Any]:
    try:
        content = json.loads(foreign.read_bytes(Path(path)), object_pairs_hook=_once)
    except FileNotFoundError:
        raise BadInput("no such file", file=path) from None
    except OSError as error:  # a pipe or a device among them: a run that goes on reads it again
        raise BadInput(f"cannot be read: {error.strerror}", file=path) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise BadInput(
            f"is no manifest, as it is no JSON ({error.msg}): {_WANTED}", file=path, place=place
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"is no manifest ({error}): {_WANTED}", file=path) from error
    folds = content.get("folds") if isinstance(content, dict) else None
    if not isinstance(folds, list) or not folds:
        raise BadInput(f"is no manifest: {_WANTED}", file=path)
    return folds


def _halves(fold: Any, number: int, path: object) -> tuple[int, dict[str, Any], dict[str, Any]]:
    halves: list[Any] = [fold.get(half) if isinstance(fold, dict) else None for half in ("train", "test")]
    for half in halves:
        if not isinstance(half, dict) or not all(isinstance(entry, dict) for entry in half.values()):
            raise BadInput(
                'needs "train" and "test", each {PATIENT: {EXPERT: {SPACING: {PULSE: PATH}}}}',
                file=path, place=f"fold {number}",
            )  # fmt: skip
    train, test = halves
    if both := sorted(train.keys() & test.keys()):
        raise BadInput(
            f"{both[0]} is in train and in test: it would be measured on what it taught",
            file=path, place=f"fold {number}",
        )  # fmt: skip
    return number, train, test


def _choose(halves: list[Any], fold: str, path: object) -> list[Any]:
    if fold != "all":
        if not fold.isdigit() or not 1 <= int(fold) <= len(halves):
            raise UsageError(f"fold {fold!r}: the manifest has folds 1 to {len(halves)}, or write all")
        return [halves[int(fold) - 1]]
    tested = [pid for _, _, test in halves for pid in test]
    if twice := sorted({pid for pid in tested if tested.count(pid) > 1}):
        raise BadInput(f"{twice[0]} is tested in two folds", file=path)
    return halves


def _experts(entries: Mapping[str, Any], path: object) -> tuple[str, ...]:
    first, *others = ((pid, sorted(set(entry) - set(_NOT_EXPERTS))) for pid, entry in entries.items())
    for pid, experts in others:
        if experts != first[1]:
            raise BadInput(
                f"patient {pid} has the experts {', '.join(experts)}, and {first[0]} has "
                f"{', '.join(first[1])}; choose some with --models",
                file=path,
            )
    if not first[1]:
        raise BadInput("names no expert", file=path)
    return tuple(first[1])


def _find(entry: Any, pid: str, name: str, spacing: str, pulse: str, root: Path) -> str:
    """A file's path; what is wrong with it, after ``!``."""
    found = entry
    for key in (name, spacing, pulse):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, str):
        return f"!{pid}: the manifest names no {name} of {spacing}, {pulse}"
    return _there(root / found, pid)


def _there(path: Path, pid: str) -> str:
    path = path.absolute()
    return str(path) if is_file(path) else f"!{pid}: no such file: {path}"


def _wrong(path: Path, truth: Path | None) -> list[str]:
    try:
        header = read_header(path)
        if truth is not None and truth.is_file():
            compare_grids(header, path, read_header(truth), truth)
    except BadInput as error:
        return [str(error)]
    return []
