"""CPython's ``_TestPool``, as its ``test_multiprocessing_fork`` makes it."""

from test import _test_multiprocessing

_test_multiprocessing.install_tests_in_module_dict(globals(), "fork")
