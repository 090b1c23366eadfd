"""Replaces the process pools that a script uses by ours, without changing the script.

``penstock exec --rescue -- python old.py`` puts ``rescue/site`` on the script's PYTHONPATH; its
``sitecustomize`` calls :func:`install`, which waits for the modules below to be imported and then
swaps their pools:

    concurrent.futures.ProcessPoolExecutor     -> process_pool.ProcessPool
    multiprocessing.Pool, its map family       -> pool.Pool
    joblib's loky and multiprocessing backends -> penstock.joblib.Backend

Nothing heavy is imported before the script asks for a pool. A pool that cannot be replaced (a thread's
lock among its arguments, a budget too small) stays what it was, and is told of on stderr. In the workers
themselves, and in programs that the script starts, nothing is replaced: the variable that asks for it
is taken out of their environment.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from penstock.rescue.unchanged import tell

VARIABLE = "PENSTOCK_RESCUE"
"""Set for a script whose pools are to be replaced; where we and what we need can be found."""
NEEDED = ("penstock", "cloudpickle", "threadpoolctl")
"""What the script's Python must be able to import: lent to it where it has none of its own."""


def environment(base: dict[str, str]) -> dict[str, str]:
    """The environment for such a script: ours first on PYTHONPATH, the previous entries after it."""
    site = os.path.join(os.path.dirname(__file__), "site")
    paths = [site, *filter(None, base.get("PYTHONPATH", "").split(os.pathsep))]
    return {**base, VARIABLE: os.pathsep.join(_places()), "PYTHONPATH": os.pathsep.join(paths)}


def _places() -> list[str]:
    """The packages, modules and metadata that are lent, by path."""
    import importlib.metadata
    import importlib.util

    places = []
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            places.append(os.path.dirname(spec.origin) if spec.submodule_search_locations else spec.origin)
    # Where our plug-ins are listed: found by way of the one file that every installation has.
    files = importlib.metadata.files("penstock") or ()
    return places + [os.path.dirname(str(each.locate())) for each in files if each.name == "METADATA"]


def install() -> None:
    """Replace the pools of modules imported from now on, and of those already imported."""
    waiting: dict[str, Callable[[Any], None]] = {
        "concurrent.futures.process": _futures,
        "multiprocessing.pool": _multiprocessing,
        "multiprocessing.synchronize": _synchronize,
        "joblib": _joblib,
    }
    for name, change in list(waiting.items()):
        if name in sys.modules:
            change(sys.modules[name])
            del waiting[name]
    sys.meta_path.insert(0, _AfterImport(waiting))


def _futures(module: Any) -> None:
    from penstock.rescue.process_pool import ProcessPool

    if module.ProcessPoolExecutor is ProcessPool:
        return
    ProcessPool.original = module.ProcessPoolExecutor
    module.ProcessPoolExecutor = ProcessPool
    futures = sys.modules.get("concurrent.futures")
    if "ProcessPoolExecutor" in vars(futures):
        futures.ProcessPoolExecutor = ProcessPool  # type: ignore[union-attr]


def _multiprocessing(module: Any) -> None:
    from penstock.rescue.pool import Pool

    module.Pool = Pool


def _synchronize(module: Any) -> None:
    """Locks keep their name in the system, by which workers, which are no forks of the script, open them."""
    from multiprocessing import get_context

    begin = module.SemLock.__init__

    def with_name(self: Any, kind: Any, value: Any, maxvalue: Any, *, ctx: Any = None) -> None:
        begin(self, kind, value, maxvalue, ctx=get_context("spawn"))

    module.SemLock.__init__ = with_name


def _joblib(module: Any) -> None:
    try:
        import penstock.joblib as ours
    except Exception as error:  # an old one
        tell("joblib", error)
        return
    for name in ("loky", "multiprocessing"):
        module.register_parallel_backend(name, ours.RESCUING[name], make_default=name == "loky")


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
        self._waiting[name] = change  # it may be there later
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
        # What the loader has made is its own again: other code looks at it.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:
            self._change(module)
        except Exception as error:  # the script goes on as it would without us
            tell(module.__name__, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
