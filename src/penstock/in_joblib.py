"""Imported where the joblib backend's workers are forked: registers the backend's name without loading it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import joblib.parallel

NAME = "penstock"


def _backend(**options: Any) -> Any:
    """What joblib takes for the backend's class, until it is first asked for one."""
    return import_module("penstock.joblib").PenstockBackend(**options)


if NAME not in joblib.parallel.BACKENDS:
    joblib.register_parallel_backend(NAME, _backend)
