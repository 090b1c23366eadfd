"""Ways to run ``penstock exec`` as a person would, and the programs that it supervises here."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

MAIN = [sys.executable, "-c", "from penstock.cli import main; main(prog_name='penstock')", "exec"]


def line(*words):
    """The command line of ``penstock exec`` with these arguments."""
    return [*MAIN, *map(str, words)]


def run(*words, **options):
    """Run it to its end."""
    options = {"capture_output": True, "text": True, "timeout": 60} | options
    return subprocess.run(line(*words), **options)


def python(program):
    """A Python program as a command."""
    return [sys.executable, "-c", program]


def hold(mebibytes, seconds=0.3):
    """A program that holds memory for a while."""
    return python(f"import time; kept = bytearray(b'x') * ({mebibytes} << 20); time.sleep({seconds})")


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
