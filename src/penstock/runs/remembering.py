"""What a stage starts with from earlier runs, and what it saves for later ones.

In the run folder beside the journal, for a resume; and in the user's cache, for the next run of the same
function. Which runs are alike is told by the job's key: the function with its code and what it captures, the
kinds of source, sinks and reducers, the options, and the inputs, of files and stages no more than their size.
What is different in spite of that, the run notices: see :mod:`penstock.engine.decide.recall`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock import foreign, layout
from penstock.engine.decide.learnt import Learnt, from_json
from penstock.record import history
from penstock.record.job_key import digest_of
from penstock.record.listing import Listing
from penstock.runs.spec import JobSpec
from penstock.runs.stage_run import StageRun
from penstock.runs.step import Step


class Memory:
    """The measurements remembered of a stage.

    Args:
        stage: the stage.
        place: of the history; None where only the run folder remembers.
    """

    def __init__(self, stage: StageRun, place: Path | None) -> None:
        self._key = alike(stage.key, stage.job.threads)
        self._file = stage.state_dir / layout.LEARNT
        self._place = place
        self._last: Learnt | None = None

    def before(self) -> Learnt | None:
        """What earlier runs learnt: in this folder, else with the same function."""
        return in_file(self._file, self._key) or (
            in_history(self._place, self._key) if self._place is not None else None
        )

    def note(self, learnt: Learnt) -> None:
        """Save what was learnt so far in the run folder."""
        self._last = learnt
        history.write(self._file, {"key": self._key, **learnt.as_json()})

    def keep(self) -> None:
        """Save it in the history for later runs."""
        if self._place is not None and self._last is not None:
            history.keep(self._place, self._key, {"key": self._key, **self._last.as_json()})


def of_stage(stage: StageRun, *, wanted: bool, private: bool) -> Memory | None:
    """The memory of a stage; None if nothing is to be remembered.

    A step is one thing, which is not explored; and it may use what it is granted, so that what it took last
    would bound what it gets next.
    """
    if not wanted or isinstance(stage.job.function, Step):
        return None
    return Memory(stage, None if private or stage.job.private else history.folder())


def of_job(job: JobSpec) -> Learnt | None:
    """The history of a job that has not begun."""
    place = history.folder()
    if place is None or job.private:
        return None
    return in_history(place, alike(job.key(Listing()), job.threads))


def in_history(place: Path, key: str) -> Learnt | None:
    """The history's entry for a key, if it is valid."""
    return _believed(history.find(place, key), key)


def in_file(path: Path, key: str | None = None) -> Learnt | None:
    """The content of a run folder's file, for this key if one is given."""
    return _believed(history.read(path), key)


def _believed(told: Mapping[str, Any] | None, key: str | None) -> Learnt | None:
    if told is None or (key is not None and told.get("key") != key):
        return None
    try:
        return from_json(told)
    except ValueError:
        return None


def alike(key: Mapping[str, Any], threads: int | None) -> str:
    """A digest shared by jobs whose calls should take the same memory, whatever the number of items.

    Args:
        key: of the job.
        threads: that a call can make use of.
    """
    options = {name: value for name, value in key["options"].items() if name != "seed"}
    return digest_of(
        {
            "function": _by_size(key["function"]),
            "source": key["source"]["type"],
            "rooms": _by_size(key["rooms"]),
            "inputs": _by_size(key["inputs"]),
            "options": {**options, "threads": threads},
        }
    )


def _by_size(value: Any) -> Any:
    """The same with files by the power of two of their size, and stages by none of what they hold."""
    if isinstance(value, Mapping):
        if "stage" in value:
            return "a stage"
        if "file" in value and "is" in value:
            size = foreign.whole(str(value["is"]).partition(":")[0])
            return "a folder" if size is None else f"a file of 2^{size.bit_length()}"
        return {name: _by_size(each) for name, each in value.items()}
    return [_by_size(each) for each in value] if isinstance(value, list | tuple) else value
