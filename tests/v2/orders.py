"""Orders for a worker that is driven by hand."""

import mmap


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
