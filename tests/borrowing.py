"""A child in the very memory of its parent (vfork), for as long as a test wants it there."""

import os
import subprocess
import sys
from contextlib import contextmanager

from waiting import until

from penstock.proc import descendants

PROGRAM = """
import os, sys
kept = bytearray(b"x") * (int(sys.argv[2]) << 20)
actions = [(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)]
os.waitpid(os.posix_spawn("/bin/cat", ["cat"], {}, file_actions=actions), 0)
"""


@contextmanager
def borrower(folder, mebibytes):
    """(The parent, which holds so much; the child; the pipe that it waits for.)

    The pipe opened for writing, the child runs a program of its own until the pipe is closed.
    """
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, pipe, str(mebibytes)]
    with subprocess.Popen(command) as parent:
        try:
            (child,) = until(lambda: list(descendants(parent.pid)), program=parent)
            yield parent.pid, child, pipe
        finally:
            parent.kill()
