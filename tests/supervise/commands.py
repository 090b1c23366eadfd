"""Ways to run ``penstock exec`` as a person would, and the programs that it supervises here."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from waiting import LIMIT

MAIN = [sys.executable, "-c", "from penstock.cli import main; main(prog_name='penstock')", "exec"]


def line(*words):
    """The command line of ``penstock exec`` with these arguments."""
    return [*MAIN, *map(str, words)]


def run(*words, **options):
    """Run it to its end."""
    options = {"capture_output": True, "text": True, "timeout": LIMIT} | options
    return subprocess.run(line(*words), **options)


def python(program):
    """A Python program as a command."""
    return [sys.executable, "-c", program]


WATCHED = """
import time

def until_read(times=2):
    "Go on when our supervisor has read our memory so often; a while later where there is none."
    def count():
        with open({events!r}, "rb") as file:
            return file.read().count(b'"memory_read"')
    try:
        goal = count() + times
        while count() < goal:
            time.sleep(0.02)
    except FileNotFoundError:
        time.sleep(0.3)

"""


def watched(folder, program):
    """A Python program that has ``until_read()``, supervised with this run folder.

    The first of two readings may have begun before the call; the second sees what is held in it.
    """
    return python(WATCHED.format(events=str(Path(folder) / ".penstock" / "events.jsonl")) + program)


def hold(mebibytes, seconds=0.3):
    """A program that holds memory for a while."""
    return python(f"import time; kept = bytearray(b'x') * ({mebibytes} << 20); time.sleep({seconds})")


def hold_until_read(mebibytes, folder, times=2):
    """A program that holds memory until its supervisor has read it so often."""
    return watched(folder, f"kept = bytearray(b'x') * ({mebibytes} << 20)\nuntil_read({times})\n")


def children(pid):
    """Children of a process."""
    return [
        int(pid) for task in Path(f"/proc/{pid}/task").glob("*/children") for pid in task.read_text().split()
    ]


def facts(folder):
    """What exec wrote at its end."""
    return json.loads((Path(folder) / ".penstock" / "exec.json").read_text())


@contextmanager
def started(*words, **options):
    """Start it, and leave nothing of it behind."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    process = subprocess.Popen(line(*words), **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return state[state.rindex(")") + 2] not in "ZX"
