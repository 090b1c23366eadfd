"""The bench of the decisions: it loses nothing, plays the same way twice, and knows its bounds."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benchmarks" / "line"


@pytest.fixture
def bench(monkeypatch):
    """Its modules, whose names are no package's."""
    monkeypatch.syspath_prepend(str(BENCH))
    import clairvoyant
    import policies
    import traces
    import world

    yield clairvoyant, policies, traces, world
    for module in (clairvoyant, policies, traces, world):
        sys.modules.pop(module.__name__)


def test_every_decider_does_everything_and_the_same_twice(bench):
    _, policies, traces, world = bench
    for name in ("hinted", "poison"):
        trace = traces.family(name, 3, "instant", items=20)
        for policy in policies.POLICIES.values():
            runs = [world.World(trace, policy.admission, decide=policy.decide).run() for _ in range(2)]
            assert runs[0].aside == trace.never, (name, policy.name)
            assert runs[0].done == frozenset(range(20)) - trace.never, (name, policy.name)
            assert runs[0].worked > runs[0].useful * (1 - 1e-9) > 0
            assert runs[0] == runs[1], (name, policy.name)


def test_what_takes_no_memory_takes_the_clairvoyants_time(bench):
    clairvoyant, policies, traces, world = bench
    trace = traces.family("uniform", 3, "instant", items=40, pressure=0.01, seconds=2.0)
    best = clairvoyant.clairvoyant(trace)
    assert best <= world.best_fixed(trace, policies.fixed) < 1.1 * best
    assert best <= world.World(trace).run().seconds < 1.3 * best


def test_the_kernel_kills_where_nobody_governs(bench):
    _, policies, traces, world = bench
    trace = traces.family("uniform", 3, "instant", items=40, pressure=4.0)
    out = world.World(trace, policies.fixed(8), governs=False).run()
    assert out.crossings > 0
    assert out.kernel_kills > 0
    assert out.repeated > 0


def test_its_tables(tmp_path):
    command = [sys.executable, str(BENCH / "run.py"), "--families", "uniform", "--seeds", "1", "--jobs", "1"]
    command += ["--items", "20", "--pressure", "0.5"]
    told = subprocess.run(
        [*command, "--policies", "now", "--json", str(tmp_path / "rows")],
        capture_output=True, text=True, check=True, timeout=600,
    ).stdout  # fmt: skip
    assert "| instant, over clairvoyant |" in told
    assert len((tmp_path / "rows").read_text().splitlines()) == 3
