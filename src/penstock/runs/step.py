"""A step: a stage of one item, whose function writes into a folder that is kept whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from penstock import layout, values
from penstock.abc import Batch, Part, Receipt
from penstock.files import atomic, discard, proof, settle
from penstock.sharing import share


@dataclass(frozen=True)
class Step:
    """A step's function in the form of a function of one item."""

    is_step: ClassVar[bool] = True
    """What goes wrong is told of the step, and of no item."""

    function: Callable[..., Any]

    def warm(self) -> None:
        """Let the function preload what it needs; see :class:`penstock.Job`."""
        warm = getattr(self.function, "warm", None)
        if callable(warm):
            warm()

    def warming(self) -> str:
        """What to say before that; see :class:`penstock.Job`."""
        warming = getattr(self.function, "warming", None)
        return warming() if callable(warming) else ""

    def __call__(self, item: int, **inputs: Any) -> tuple[str, Any]:
        folder = share().folder
        facts = self.function(folder, **inputs)
        return str(folder), facts if isinstance(facts, dict) else {}


@dataclass(frozen=True)
class StepFolder:
    """Moves a step's folder to its final name."""

    grain: int | None = 1

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Move the folder into place, replacing what an earlier attempt left there."""
        for result in results:
            if isinstance(result, Exception):
                return Receipt()
            made, facts = result
            (Path(made) / layout.FACTS).write_text(values.dumps(facts))
            settle(Path(made))
            with atomic(folder) as draft:
                Path(made).rename(draft)
                discard(folder)
            return Receipt((Part(".", *proof(folder)),))  # whose facts lie in it
        return Receipt()

    def close(self, receipts: Any, folder: Path) -> None:
        """Nothing to finish."""

    def result(self, folder: Path) -> Path:
        """The folder."""
        return folder
