"""Warnings that never raise, whatever filters are set."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress


def warn(text: str, *, stacklevel: int = 2) -> None:
    """Issue a warning.

    Where a filter makes errors of warnings, or who shows them fails, the text goes to stderr: a job of hours
    must not end for a remark about it.

    Args:
        text: one line.
        stacklevel: as of :func:`warnings.warn`.
    """
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=stacklevel + 1)
    except Exception:
        with suppress(Exception):
            print(f"penstock: warning: {text}", file=sys.stderr)
