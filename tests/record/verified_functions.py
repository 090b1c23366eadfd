"""What the verified runs call: their fork servers import this, and neither pytest nor what the tests need."""

from dataclasses import dataclass

import penstock
from penstock.abc import Part, Receipt
from penstock.files import digest


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """A stranger's sink, which says nothing when it is closed."""

    grain: int = 5

    def open(self, folder, items):
        """Nothing to prepare."""

    def write(self, batch, results, folder):
        path = folder / f"lines-{batch.start}.txt"
        path.write_text("".join(f"{result}\n" for result in results))
        return Receipt(parts=(Part(path.name, path.stat().st_size, digest(path)),))

    def close(self, receipts, folder):
        (folder / "index.txt").write_text("made at close, not told")
        return "whatever"

    def result(self, folder):
        return folder


def number(item):
    return item


def row(item):
    return {"item": item, "half": item / 2}


def array(item):
    import numpy as np

    return np.full(3, item, np.int16)


def file(item):
    path = penstock.share().folder / f"{item}.txt"
    path.write_text("x" * item)
    return path


def tree(item):
    folder = penstock.share().folder / "tree"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text(str(item))
    (folder / "b.txt").write_text("b")
    return folder


def large(item):
    import numpy as np

    return np.full(20_000, item)


def both(item):
    return {"rows": {"item": item}, "sum": item}


def nearly(item):
    if item in (3, 4, 17):
        raise ValueError("not this one")
    return item


def none_of_the_first(item):
    if item < 10:
        raise ValueError("not these")
    return {"item": item}


def sort(folder, rows):
    (folder / "deep").mkdir()
    (folder / "deep" / "order.txt").write_text("\n".join(map(str, rows.to_table()["item"].to_pylist())))
    (folder / "first.txt").write_text("0")
    return {"first": 0}


def plus(item, first):
    return item + int((first / "first.txt").read_text())
