"""The process pools that a script already uses, replaced by ours without touching it.

``penstock exec --rescue -- python old.py`` puts ``rescue/site`` on the script's PYTHONPATH; its
``sitecustomize`` calls :func:`install`, which waits for the modules below to be imported and then
swaps their pools:

    concurrent.futures.ProcessPoolExecutor     -> pools.ProcessPool
    multiprocessing.Pool, its map family       -> pools.Pool
    joblib's loky and multiprocessing backends -> penstock.joblib.Backend

Nothing heavy is imported before the script asks for a pool. In the workers themselves nothing is
replaced: the variable that asks for it is taken out of their environment.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

VARIABLE = "PENSTOCK_RESCUE"
"""Set for a script whose pools are to be replaced."""


def environment(base: dict[str, str]) -> dict[str, str]:
    """The environment for such a script: ours first on PYTHONPATH, what was there behind it."""
    site = os.path.join(os.path.dirname(__file__), "site")
    package = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    paths = [site, *filter(None, base.get("PYTHONPATH", "").split(os.pathsep))]
    return {**base, VARIABLE: package, "PYTHONPATH": os.pathsep.join(paths)}


def install() -> None:
    """Replace the pools of modules that are imported from now on, and of those that are already."""
    waiting: dict[str, Callable[[Any], None]] = {
        "concurrent.futures.process": _futures,
        "multiprocessing.pool": _multiprocessing,
        "joblib": _joblib,
    }
    for name, change in list(waiting.items()):
        if name in sys.modules:
            change(sys.modules[name])
            del waiting[name]
    sys.meta_path.insert(0, _AfterImport(waiting))


def _futures(module: Any) -> None:
    from penstock.rescue.pools import ProcessPool

    module.ProcessPoolExecutor = ProcessPool
    futures = sys.modules.get("concurrent.futures")
    if futures is not None:
        futures.ProcessPoolExecutor = ProcessPool  # type: ignore[attr-defined]


def _multiprocessing(module: Any) -> None:
    from penstock.rescue.pools import Pool

    module.Pool = Pool


def _joblib(module: Any) -> None:
    import penstock.joblib as ours

    for name in ("loky", "multiprocessing"):
        module.register_parallel_backend(name, ours.Backend, make_default=name == "loky")


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function with a module right after the module was imported."""

    def __init__(self, waiting: dict[str, Callable[[Any], None]]) -> None:
        self._waiting = waiting

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find it as it would be found without us, and wrap its loader."""
        change = self._waiting.pop(name, None)
        if change is None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if finder is not self and find is not None else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Changing(spec.loader, change)
                return spec  # type: ignore[no-any-return]
        return None


class _Changing(importlib.abc.Loader):
    """A loader, and a change to what it has loaded."""

    def __init__(self, loader: Any, change: Callable[[Any], None]) -> None:
        self._loader = loader
        self._change = change

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As the loader does."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """As the loader does; then the change."""
        self._loader.exec_module(module)
        self._change(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
