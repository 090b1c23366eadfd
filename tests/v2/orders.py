"""Orders for a worker that is driven by hand."""

import mmap
import os
import tempfile
from pathlib import Path


class Spike:
    """Take memory and give it back at once."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, words: object) -> bool:
        pages = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE)
        for at in range(0, self.size, mmap.PAGESIZE):
            pages[at] = 1
        pages.close()
        return True


_kept: list[int] = []


class Unlinked:
    """Write and keep files in memory that have no name: half in a folder, half as a memfd."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, words: object) -> bool:
        named, name = tempfile.mkstemp(dir="/dev/shm")
        Path(name).unlink()
        for file in (named, os.memfd_create("orders")):
            for _ in range(self.size >> 21):
                os.write(file, bytes(1 << 20))
            _kept.append(file)
        return True
