"""Counts what numba loads or compiles in workers, call by call."""

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from penstock.machine_code import Function
from penstock.runs.job import Job

REGISTRIES = "the registries"


def loaded():
    """All that numba has at hand in this process: its registries' entries, and our functions by signature."""
    found = {}
    kinds = ()
    if "numba" in sys.modules:
        from numba.core.dispatcher import Dispatcher
        from numba.core.registry import cpu_target

        kinds = (Dispatcher,)
        found[REGISTRIES] = len(cpu_target.typing_context._functions)  # empty before they are first asked
    for name, module in list(sys.modules.items()):
        if name.startswith("penstock.workloads."):
            for value in vars(module).values():
                if isinstance(value, kinds):
                    found[f"{value.py_func.__module__}.{value.py_func.__name__}"] = len(value.overloads)
                elif isinstance(value, Function):
                    found[repr(value)] = value.loaded
    return {name: count for name, count in found.items() if count}


@dataclass(frozen=True)
class Counted:
    """A function that notes what each of its calls loaded which the call before had not."""

    function: object
    notes: str

    def warm(self):
        warm = getattr(self.function, "warm", None)
        if callable(warm):
            warm()

    def __call__(self, *items, **inputs):
        before = loaded()
        result = self.function(*items, **inputs)
        more = {name: count for name, count in loaded().items() if count != before.get(name, 0)}
        note = {
            "function": repr(self.function)[:80],
            "used": len(loaded().keys() - {REGISTRIES}),
            "more": more,
            "pid": os.getpid(),
        }
        with open(self.notes, "a") as file:
            file.write(json.dumps(note) + "\n")
        return result


@contextmanager
def counted(notes):
    """Every job that is made in here counts; gives a function that reads the notes of its calls."""
    make = Job.__init__

    def wrapped(self, **options):
        make(self, **options | {"function": Counted(options["function"], str(notes))})

    with mock.patch.object(Job, "__init__", wrapped):
        yield lambda: [json.loads(line) for line in notes.read_text().splitlines()]


def check_warm(calls):
    """Whether workers loaded nothing, and at least one function that numba compiles was used."""
    assert os.getpid() not in {call["pid"] for call in calls}
    assert max(call["used"] for call in calls) > 0
    late = {call["function"]: call["more"] for call in calls if call["more"]}
    assert late == {}, json.dumps(late, indent=1)
