"""Feed one reader for as long as is wanted: ``run.py TARGET SECONDS``; ``make fuzz`` does so with all.

By atheris, where it is installed, which finds its way by what of the code is reached; else by the same nearly
right files as the tests, only for longer. Ends with an error at the first file that is answered otherwise
than the reader says; that file is kept by atheris (``crash-*``).
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

_LARGEST = 1 << 16
_MEMORY = 2048
"""MiB from which atheris calls it growth."""
_HANG = 30
"""Seconds for one small file."""


def main(name: str, seconds: int) -> None:
    """Drive one target."""
    warnings.simplefilter("ignore")
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None:
        from mutating import drive, held
        from targets import TARGETS

        read, files = TARGETS[name]
        print(f"{name}: {drive(read, files(), seconds):,} files, {held() >> 20} MiB at most")
        return
    with atheris.instrument_imports(include=["penstock"]):
        from targets import TARGETS
    read, files = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, file in enumerate(files()):
            Path(corpus, f"{name}-{number}").write_bytes(file)
        options = [
            f"-max_total_time={seconds}", f"-max_len={_LARGEST}", f"-timeout={_HANG}",
            f"-rss_limit_mb={_MEMORY}",
            "-print_final_stats=1", corpus,
        ]  # fmt: skip
        atheris.Setup([sys.argv[0], *options], lambda data: read(data))
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
