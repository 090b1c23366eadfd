"""Reports what the rescue had to leave as it is."""

from __future__ import annotations

import sys


def tell(what: str, why: BaseException) -> None:
    """Report that something stays as it is."""
    sentence = " ".join(str(why).split())
    print(f"penstock: {what} stays as it is: {sentence or type(why).__name__}", file=sys.stderr)
