"""For authors of plug-ins: conformance suites, functions that misbehave on schedule, a fake machine,
and a fake backend and clock that run the real engine without a process.

A suite is a class of pytest tests: subclass it in a test module, give what it asks for, and every
promise that the engine relies on is tested. Names are imported when they are first used; the suites
need pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.testing.backends import BackendSuite
    from penstock.testing.clusters import ClusterSuite
    from penstock.testing.deeds import Deed
    from penstock.testing.fake import FakeBackend
    from penstock.testing.fakeclock import FakeClock
    from penstock.testing.fakecluster import FakeCluster, FakeNode, Led, lead
    from penstock.testing.fakerun import FakeLimit, Simulated, simulate, simulation
    from penstock.testing.limits import LimitSuite
    from penstock.testing.machine import FakeMachine
    from penstock.testing.reducer import ReducerSuite
    from penstock.testing.sink import SinkSuite
    from penstock.testing.source import SourceSuite

__all__ = [
    "BackendSuite",
    "ClusterSuite",
    "Deed",
    "FakeBackend",
    "FakeClock",
    "FakeCluster",
    "FakeLimit",
    "FakeMachine",
    "FakeNode",
    "Led",
    "LimitSuite",
    "ReducerSuite",
    "Simulated",
    "SinkSuite",
    "SourceSuite",
    "lead",
    "misfortune",
    "simulate",
    "simulation",
]

_HOMES = {
    "BackendSuite": "backends",
    "ClusterSuite": "clusters",
    "Deed": "deeds",
    "FakeBackend": "fake",
    "FakeClock": "fakeclock",
    "FakeCluster": "fakecluster",
    "FakeLimit": "fakerun",
    "FakeMachine": "machine",
    "FakeNode": "fakecluster",
    "Led": "fakecluster",
    "LimitSuite": "limits",
    "ReducerSuite": "reducer",
    "Simulated": "fakerun",
    "SinkSuite": "sink",
    "SourceSuite": "source",
    "lead": "fakecluster",
    "misfortune": "misfortune",
    "simulate": "fakerun",
    "simulation": "fakerun",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    module = import_module(f"{__name__}.{_HOMES[name]}")
    return module if name == _HOMES[name] else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
