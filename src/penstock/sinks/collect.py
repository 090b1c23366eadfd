"""Results as a list, for what fits in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from penstock import files, values
from penstock.abc import Batch, Closed, Receipt, SetAside
from penstock.budget import format_size, parse_size
from penstock.errors import CannotKeep, UsageError
from penstock.sinks.parts import check, kept, sweep

_INLINE = 64 << 10
_HOLE = '{"__set_aside__":'
_WHOLE = "results.jsonl"
_NAMES = "part-*.jsonl"
_SAFE = frozenset({type(None), bool, int, float, str, bytes})


@dataclass(frozen=True, kw_only=True)
class Collect:
    """Keeps every result; the result is a list in item order.

    Results are JSON values and NumPy arrays (``penstock.values``). Up to 64 KiB of them travel in
    the receipt, more become a part file, and ``close`` puts all into ``results.jsonl``, one line
    for each item. The place of an item that was set aside holds its :class:`SetAside`.

    Args:
        cap: the most that all results together may take as text: ``"1GiB"``, bytes, or None for
            no cap of its own.
        anything: take any result that can be pickled, as it is, inline, whatever its size; only
            for temporary runs, as nothing is written and ``close`` and ``result`` have nothing to
            do: the engine puts the lists of the receipts together.

    Raises:
        UsageError: a cap that is no size.
        TypeError: from ``write``: a result of another type, naming its item.
        CannotKeep: from ``close``: the results are over the cap.
    """

    cap: int | str | None = None
    anything: bool = False
    grain: None = None

    def __post_init__(self) -> None:
        if self.cap is not None:
            object.__setattr__(self, "cap", parse_size(self.cap))
        if self.grain is not None:
            raise UsageError("Collect has no grain: its list does not depend on how items are grouped")

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Keep the results inline while they are small, else in a part named after its first item.

        Not by its last: that is known only when the results end.
        """
        if self.anything:
            return Receipt(value=_picklable(batch, results))
        lines: list[str] = []
        size = 0
        with ExitStack() as stack:
            file: BinaryIO | None = None
            path = folder / f"part-{batch.start:09d}.jsonl"
            for item, result in enumerate(results, batch.start):
                line = _line(result, item)
                if file is None:
                    lines.append(line)
                    size += len(json.dumps(line)) + 1
                    if size <= _INLINE:
                        continue
                    # Under `stack`, so that a failure further on leaves no draft.
                    file = stack.enter_context(open(stack.enter_context(files.atomic(path)), "wb"))
                    file.writelines(f"{kept_line}\n".encode() for kept_line in lines)
                else:
                    file.write(f"{line}\n".encode())
        return Receipt(value=lines) if file is None else Receipt(parts=(kept(path, folder),))

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed | None:
        """Write all results to ``results.jsonl``, receipt by receipt.

        Raises:
            CannotKeep: they are over the cap.
        """
        if self.anything:
            return None
        size = 0
        names: set[str] = set()
        sweep(folder, _WHOLE)
        with files.atomic(folder / _WHOLE) as draft, open(draft, "wb") as whole:
            for _, receipt in receipts:
                names.update(part.name for part in receipt.parts)
                for line in _lines(receipt, folder):
                    size += whole.write(line)
                    if self.cap is not None and size > int(self.cap):
                        raise CannotKeep(
                            f"the results take more than the {format_size(int(self.cap))} that "
                            "Collect(cap=) allows: raise it, or keep them in files with "
                            "into=penstock.sinks.Parquet() or into=penstock.sinks.Arrays()"
                        )
        sweep(folder, _NAMES, names)
        return Closed((kept(folder / _WHOLE, folder),), pattern=_NAMES)

    def result(self, folder: Path) -> list[Any]:
        """The results in item order; a SetAside for each item that was set aside."""
        with open(folder / _WHOLE, encoding="utf-8") as whole:
            return [_value(line) for line in whole]


def _line(result: Any, item: int) -> str:
    if isinstance(result, SetAside):
        return f"{_HOLE}{json.dumps(dict(zip(_FIELDS, result.args, strict=True)))}}}"
    try:
        line = values.dumps(result)
    except TypeError as error:
        raise TypeError(f"item {item}: the result cannot be collected: {error}") from None
    # A dict of the user's own that begins like a set-aside item is marked as a dict.
    return f'{{"__dict__":{line}}}' if line.startswith(_HOLE) else line


def _value(line: str) -> Any:
    if line.startswith(_HOLE):
        return SetAside(**json.loads(line)["__set_aside__"])
    return values.loads(line)


_FIELDS = ("item", "name", "reason", "message", "error", "traceback", "needed")


def _lines(receipt: Receipt, folder: Path) -> Iterator[bytes]:
    for line in receipt.value or ():
        yield f"{line}\n".encode()
    for part in receipt.parts:
        with open(check(part, folder), "rb") as file:
            yield from file


def _picklable(batch: Batch, results: Iterator[Any]) -> list[Any]:
    import cloudpickle

    collected = []
    for item, result in enumerate(results, batch.start):
        if type(result) not in _SAFE:
            try:
                cloudpickle.dumps(result, protocol=5)
            except Exception as error:
                raise TypeError(
                    f"item {item}: the result is a {type(result).__qualname__} that cannot be pickled "
                    f"({error}): return a value that can"
                ) from None
        collected.append(result)
    return collected
