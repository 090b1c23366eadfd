"""Threads of numeric libraries: limited where they are not so already, and not looked for where they are."""

import json
import os
import subprocess
import sys

import pytest

from penstock.engine.worker.process import THREAD_VARIABLES

LIMIT = """
import json, sys, numpy
from penstock.engine.worker.process import limit_threads
limit_threads(int(sys.argv[1]))
looked = "threadpoolctl" in sys.modules
import threadpoolctl
print(json.dumps([looked, [each["num_threads"] for each in threadpoolctl.threadpool_info()]]))
"""


@pytest.mark.parametrize(("told", "limit", "looks"), [("1", 1, False), ("2", 1, True), ("", 1, True)])
def test_numpy_is_looked_for_only_where_its_variables_say_something_else(told, limit, looks):
    environ = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES}
    environ |= dict.fromkeys(THREAD_VARIABLES, told) if told else {}
    done = subprocess.run(
        [sys.executable, "-c", LIMIT, str(limit)], env=environ, capture_output=True, text=True, check=True
    )
    looked, threads = json.loads(done.stdout)
    assert looked is looks
    assert set(threads) == {limit}
