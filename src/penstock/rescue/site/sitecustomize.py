"""Runs at the start of a script under ``penstock exec --rescue``; then gives way to the next one."""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != _here]
_package = os.environ.pop("PENSTOCK_RESCUE", "")
os.environ["PYTHONPATH"] = os.pathsep.join(
    path
    for path in os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if os.path.abspath(path or ".") != _here
)

if _package:
    if importlib.util.find_spec("penstock") is None:
        sys.path.append(_package)  # a script of another environment: behind all its own packages
    try:
        from penstock.rescue import install
    except Exception as _error:
        print(f"penstock: cannot replace the pools of this script: {_error}", file=sys.stderr)
    else:
        install()

# A sitecustomize of the user's own, which ours has hidden.
_spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
if _spec is not None and _spec.loader is not None:
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["sitecustomize"] = _module
    _spec.loader.exec_module(_module)
