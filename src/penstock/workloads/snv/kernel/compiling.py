"""Compiler options of this package.

numba keeps the compiled code of a function by the date of its own file: after a change in an ``inner``
one, touch the files that call it.
"""

from typing import Any

from numba import njit

_jit: Any = njit
compiled = _jit(cache=True, error_model="numpy", nogil=True)
"""For what Python calls: kept on disk, without the interpreter's lock."""
inner = _jit(no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")
"""Without the wrappers that Python would call: never call these from Python."""
