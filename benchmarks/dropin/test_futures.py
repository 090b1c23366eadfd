"""CPython's ``test_concurrent_futures``: one module, or a package of them in later versions."""

import pkgutil
from importlib import import_module

_suite = import_module("test.test_concurrent_futures")
_parts = [each.name for each in pkgutil.iter_modules(getattr(_suite, "__path__", []), f"{_suite.__name__}.")]
for _name in [_suite.__name__, *_parts]:
    _module = import_module(_name)
    globals().update({name: value for name, value in vars(_module).items() if not name.startswith("_")})
