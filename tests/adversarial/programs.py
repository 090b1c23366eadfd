"""Running jobs and whole programs that are going to be treated badly."""

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from waiting import LIMIT, read_bytes

import penstock
from penstock.budget import MiB
from penstock.proc import held
from penstock.testing.misfortune import answer

JOURNAL = Path(".penstock/job/journal")


def beside(mib):
    """A budget with so many MiB beside what this process holds already."""
    return held(os.getpid()) + mib * MiB


def answers(items, aside=()):
    """What the functions of ``misfortune`` give, without the items set aside."""
    return [answer(item) for item in range(items) if item not in aside]


class Told(list):
    """An observer: every event, and the events of one kind."""

    def __call__(self, event):
        self.append(event)

    def of(self, kind):
        return [event for event in self if event.kind == kind]


def run(function, items, *, mib=200, told=None, **options):
    """A temporary run; every item must be done or set aside, in order, with the right result."""
    budget = options.pop("budget", None) or beside(mib)
    report = penstock.run(
        function, items, budget=budget, observers=[told] if told is not None else [], **options
    )
    whole(report, items)
    if not any(each.reason == "memory" for each in report.set_aside):
        assert report.peak <= budget, f"{(report.peak - budget) / MiB:.1f} MiB over the budget"
    return report


def whole(report, items):
    """The promise: each item's own result, or its SetAside, in its place."""
    result = report.result
    assert len(result) == items
    aside = {each.item: each for each in report.set_aside}
    assert report.done + len(aside) == items
    for item, each in enumerate(result):
        if item in aside:
            assert isinstance(each, penstock.SetAside)
            assert each.item == item
            assert each.message
        else:
            assert each == answer(item), item


# ------------------------------------------------------------------ programs


def write(folder, name, text):
    path = Path(folder) / name
    path.write_text(textwrap.dedent(text))
    return path


def start(*command, cwd, **more):
    """A program of its own, marked as this test's."""
    more.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def python(script, *words, cwd, **more):
    return start(sys.executable, script, *words, cwd=cwd, **more)


def finished(program, code=0):
    """Its stdout and stderr, when it has ended with this exit code."""
    out, told = program.communicate(timeout=LIMIT)
    assert program.returncode == code, told
    return out, told


def lines(folder):
    """Lines in the journal so far."""
    return read_bytes(Path(folder) / JOURNAL).count(b"\n")


def descendants(pid):
    """Processes below ``pid``, the nearest first."""
    found, todo = [], [pid]
    while todo:
        try:
            tasks = list(Path(f"/proc/{todo.pop(0)}/task").iterdir())
        except OSError:
            continue
        for task in tasks:
            try:
                children = [int(child) for child in (task / "children").read_text().split()]
            except OSError:
                continue
            found += children
            todo += children
    return found


def server_of(pid=None):
    """The fork server of the run in that process."""
    children = descendants(pid or os.getpid())
    return children[0] if children else None


def workers_of(pid=None):
    """Its workers, without their own children."""
    server = server_of(pid)
    try:
        text = Path(f"/proc/{server}/task/{server}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def digest(folder):
    """One hash over the names and bytes of all result files; the state folder and the report apart."""
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(folder).rglob("*")):
        inside = path.relative_to(folder)
        kept = ".penstock" not in inside.parts or inside.name.startswith("result")
        if path.is_file() and kept and inside.name not in ("report.json", "report.html"):
            state.update(f"{inside}\0".encode() + path.read_bytes())
    return state.hexdigest()
