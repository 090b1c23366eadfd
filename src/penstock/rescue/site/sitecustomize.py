"""Runs at the start of a script under ``penstock exec --rescue``, then runs the next ``sitecustomize``.

Written for any Python 3: the script's may be another than ours.
"""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != _here]
_places = os.environ.pop("PENSTOCK_RESCUE", "")
_paths = [
    path
    for path in os.environ.pop("PYTHONPATH", "").split(os.pathsep)
    if path and os.path.abspath(path) != _here
]
if _paths:
    os.environ["PYTHONPATH"] = os.pathsep.join(_paths)


def _lend(places: "list[str]") -> None:
    """Packages of another environment, and nothing else of it, behind all that this one has.

    Links in a folder on sys.path: so workers, which get sys.path, find them too.
    """
    import atexit
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="penstock-lent-")
    owner = os.getpid()

    def give_back() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(give_back)
    for place in places:
        os.symlink(place, os.path.join(folder, os.path.basename(place)))
    sys.path.append(folder)

    from pathlib import Path

    from penstock.temporary import own

    own(Path(folder))


if _places:
    try:
        if sys.version_info < (3, 11):  # noqa: UP036
            raise ImportError("needs Python 3.11 or later")
        if importlib.util.find_spec("penstock") is None:
            _lend(_places.split(os.pathsep))
        from penstock.rescue import install

        install()
    except Exception as _error:
        print(f"penstock: the pools of this script stay as they are: {_error}", file=sys.stderr)

# A sitecustomize of the user's own, which ours has hidden.
_spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
if _spec is not None and _spec.loader is not None:
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["sitecustomize"] = _module
    _spec.loader.exec_module(_module)
