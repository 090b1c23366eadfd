"""The user's options, and the times and paths in them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import penstock
from penstock.durations import parse_duration
from penstock.errors import UsageError
from penstock.workloads.recsys.ranking.survey import SPAN


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of a run; see ``Ranking.run``."""

    samples: str | Sequence[str]
    items: str | Sequence[str]
    users: str | Sequence[str] | None = None
    page_items: str | Sequence[str] | None = None
    max_samples: int | str = 0
    seed: int | str = 42
    sample_by: str = "request"
    stratify: str | None = None
    negatives: float | None = None
    duplicates: str = "first"
    sort: bool = False
    fast: bool = False
    lossy_float32: bool = False
    null_label: str = "drop"
    clicks: str | Sequence[str] | None = None
    attribution: str = "24h"
    repeats: str | None = None
    as_of: str | None = None
    log_features: str = "leave-out"
    compat: str = "none"
    span: int = SPAN

    @property
    def upstream(self) -> bool:
        """Whether the rules are those of the original."""
        return self.compat == "upstream"

    @property
    def keeps_repeats(self) -> bool:
        """Whether repeated rows of one request and item are all kept: if they are labelled already."""
        if self.upstream:
            return True
        return self.repeats == "keep" if self.repeats else not self.clicks

    @property
    def window(self) -> int | None:
        """Microseconds within which a click counts; None for any time after the impression.

        Raises:
            UsageError: it is no duration.
        """
        if self.attribution == "any":
            return None
        return int(parse_duration(self.attribution, "--attribution") * 1e6)


def microseconds(text: str | None) -> int | None:
    """A time as microseconds since 1970; without a zone it is UTC.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--as-of {text}: a time was expected, such as 2025-12-01T00:00:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)


def path_of(rows: penstock.sources.ParquetRows) -> str:
    """The first file, for messages."""
    return next(iter(rows.fingerprint_by("stat")))


def paths_of(rows: penstock.sources.ParquetRows) -> list[Path]:
    """The files, fingerprinted by content in the key of a step."""
    return [Path(path) for path in rows.fingerprint_by("stat")]
