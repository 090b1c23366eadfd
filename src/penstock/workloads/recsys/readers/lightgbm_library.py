"""Imports LightGBM without its optional imports, and merges its text models.

LightGBM's Python package imports pandas, scikit-learn, pyarrow, dask and matplotlib where they are there, for
inputs that are not used here: 46 MiB and more. They are hidden while it is imported, in the steps alone.
"""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from penstock.errors import MissingExtra, PluginError

_OPTIONAL = ("pandas", "sklearn", "pyarrow", "dask", "matplotlib")
_OPENMP = "libgomp.so.1"
_REFUSED = re.compile(r'[\s",:\[\]{}]')
"""Characters that LightGBM does not take in the name of a feature."""
_TREE = re.compile(r"(?=^Tree=\d+$)", re.MULTILINE)
_OF_ITS_RUN = re.compile(
    r"^\[(num_threads|bagging_seed|data|valid|verbosity|num_iterations): .*\]\n", re.MULTILINE
)
"""Parameters that differ between blocks or machines and change nothing in a model."""


def check_lightgbm() -> None:
    """Check that LightGBM is installed, without importing it.

    Raises:
        MissingExtra: the package is not installed.
        PluginError: the system's OpenMP library, which its wheel needs, is not.
    """
    found = find_spec("lightgbm")
    if found is None:
        raise MissingExtra("training a ranker", "lightgbm", "recsys")
    libraries = [
        path for at in found.submodule_search_locations or () for path in Path(at).rglob("lib_lightgbm.so")
    ]
    if any(_names(path, _OPENMP.encode()) for path in libraries):
        _need(_OPENMP)


def _need(library: str) -> None:
    try:
        ctypes.CDLL(library)
    except OSError:
        raise PluginError(
            f"LightGBM needs the system's {library} (OpenMP), which is not on this machine: install it with "
            "apt-get install libgomp1 (Debian, Ubuntu) or dnf install libgomp (Fedora, RHEL)"
        ) from None


def _names(path: Path, library: bytes) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(library) >= 0


@contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    """Let ``import`` say that these are not installed."""
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def lightgbm() -> Any:
    """The package, silenced. For a step's own process; elsewhere it is imported as usual."""
    if "lightgbm" not in sys.modules:
        with _hidden(_OPTIONAL):
            import lightgbm as package

        package.register_logger(_Quiet())
    return sys.modules["lightgbm"]


class _Quiet:
    """Takes what LightGBM prints; :func:`listening` says to whom it goes."""

    heard: list[str] | None = None

    def info(self, message: str) -> None:
        if self.heard is not None:
            self.heard.append(message)

    warning = info


@contextmanager
def listening() -> Iterator[list[str]]:
    """Context that collects the lines LightGBM prints."""
    logger = _Quiet()
    logger.heard = []
    lightgbm().register_logger(logger)
    try:
        yield logger.heard
    finally:
        lightgbm().register_logger(_Quiet())


def model_names(features: Sequence[str]) -> list[str]:
    """Feature names that LightGBM accepts: other characters become ``_``; duplicates get their number."""
    plain = [_REFUSED.sub("_", name) or "_" for name in features]
    often = Counter(plain)
    names = [name if often[name] == 1 else f"{name}_{at}" for at, name in enumerate(plain)]
    return names if len(set(names)) == len(names) else [f"{name}_{at}" for at, name in enumerate(plain)]


# ------------------------------------------------------------------ text models


def plain_model(text: str) -> str:
    """A text model without lines that differ between machines and blocks and have no effect."""
    return _OF_ITS_RUN.sub("", text)


def merge_models(texts: Sequence[str]) -> str:
    """Merge the trees of several text models, in order; they have the same features and options.

    The rest is the first one's. What the merged model predicts is the sum of what they do.
    """
    parts = [_split(text) for text in texts]
    trees: list[str] = []
    often: Counter[str] = Counter()
    for _, grown, tail in parts:
        trees += [re.sub(r"^Tree=\d+", f"Tree={len(trees) + at}", tree) for at, tree in enumerate(grown)]
        for name, count in re.findall(r"^(.+)=(\d+)$", _importances(tail), re.MULTILINE):
            often[name] += int(count)
    head, _, tail = parts[0]
    sizes = " ".join(str(len(tree.encode())) for tree in trees)
    head = re.sub(r"^tree_sizes=.*$", f"tree_sizes={sizes}", head, flags=re.MULTILINE)
    lines = "".join(
        f"{name}={count}\n" for name, count in sorted(often.items(), key=lambda each: (-each[1], each[0]))
    )
    tail = tail.replace(_importances(tail), lines, 1) if _importances(tail) else tail
    return head + "".join(trees) + tail


def _split(text: str) -> tuple[str, list[str], str]:
    """What comes before the trees, the trees, and what comes after them."""
    before, mark, tail = text.partition("end of trees")
    head, *trees = _TREE.split(before)
    return head, trees, mark + tail


def _importances(tail: str) -> str:
    found = re.search(r"^feature_importances:\n((?:.+=\d+\n)*)", tail, re.MULTILINE)
    return found[1] if found else ""
