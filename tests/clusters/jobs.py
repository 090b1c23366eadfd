"""Jobs of these tests; a module, so that nodes import it as they would a user's."""

import os
import time

import numpy as np

import penstock
from penstock.reducers import Count, Fold, Sum
from penstock.sinks import Arrays, Collect, Files, Parquet
from penstock.sources import Items, Range

WORDS = [f"word-{n}" for n in range(120)]
POISON = (17, 64)


def add(state, value):
    return [state[0] + 1, state[1] + value]


def join(left, right):
    return [left[0] + right[0], left[1] + right[1]]


def everything(word):
    number = int(word.removeprefix("word-"))
    if number in POISON:
        raise ValueError(f"no {word}")
    time.sleep(0.01)
    value = ((number * 7919) % 101) / 7.0
    out = penstock.share().folder / "out.txt"
    out.write_text(f"{value}\n" * 50)
    return {
        "list": {"item": number, "value": value},
        "table": {"item": [number] * (number % 4), "value": [value] * (number % 4)},
        "stack": np.arange(60, dtype=np.float32) * np.float32(value),
        "files": out,
        "total": value,
        "mean": value,
        "kinds": [str(number % 7)],
    }


def several():
    """Every kind of sink and reducer at once, of a list that lives in the parent, with items that fail."""
    return penstock.Job(
        source=Items(WORDS),
        function=everything,
        into={
            "list": Collect(),
            "table": Parquet(grain=10),
            "stack": Arrays(grain=5),
            "files": Files(),
            "total": Sum(grain=10),
            "mean": Fold(add, lambda: [0, 0.0], join, grain=10),
            "kinds": Count(),
        },
    )


def slow_third(item):
    time.sleep(0.05)
    return item / 3


def needs_much(item):
    held = bytearray(b"x") * ((300 << 20) if item == 7 else 1)
    time.sleep(0.2)
    return len(held) and item


def with_names(row, *, names):
    return names[row % len(names)]


def make_table(folder):
    (folder / "table.txt").write_text("a table\n")
    return {"rows": 1}


class Unprepared:
    def prepare(self):
        raise ValueError("no licence on this host")

    def __call__(self, item):
        return item


def refuses(item):
    raise ValueError(f"never {item}")


SECRET = "Agnes Doe"


class Patients(Range):
    """A source whose items are called after people."""

    def name(self, item):
        return f"{SECRET} {item}"


def read_note(item):
    print(f"working on {SECRET}", flush=True)
    if item == 3:
        raise ValueError(f"{SECRET} has no note")
    if item == 5:
        os.abort()
    return item


class Compiled:
    """Says that its first call takes a while."""

    def warming(self):
        return SECRET

    def __call__(self, item):
        time.sleep(0.05)
        return item
