"""A workload of a stranger's package, and a Run that only tells the events of a made-up run."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import penstock
from penstock import event_lines, registry
from penstock.report.tally import Tally

WORKLOAD = '''
"""A stranger's workload."""
from pathlib import Path
import click

class Fake:
    @click.command("fake")
    @click.argument("files", nargs=-1, type=click.Path(exists=True))
    @click.option("--table", type=click.Path(path_type=Path))
    @click.option("--code", type=int, default=11, help="A number.")
    @click.option("--strand", type=click.Choice(["both", "plus"]), default="both")
    def command():
        """Count what is in FILES."""

    def run(self, run, **options):
        run.fake(options)

    def plan(self, budget, **options):
        import fake_plan
        return [fake_plan.make(budget)]
'''

PLAN = """
from penstock.engine.decide.plan import Plan, Reserved
from penstock.budget import parse_size

def make(budget):
    reserved = Reserved(parent=200 << 20, backend=20 << 20, worker=50 << 20)
    return Plan(budget=parse_size(budget), origin="you", reserved=reserved, footprint=100 << 20,
        median=60 << 20, tried=24, declared=False, workers=4, call=64, batch=640,
        seconds_per_item=0.01, items=10_000, cores=4)
"""


@pytest.fixture
def runner():
    return CliRunner()


@pytest.fixture
def stranger(tmp_path_factory, monkeypatch):
    """A package with one workload, ``fake``; gives the folder that it is installed in."""
    site = tmp_path_factory.mktemp("site")
    info = site / "penstock_fake-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: penstock-fake\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[penstock.workloads]\nfake = fake_workload:Fake\n")
    (site / "fake_workload.py").write_text(WORKLOAD)
    (site / "fake_plan.py").write_text(PLAN)
    for name in ("fake_workload", "fake_plan"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(site)
    registry._scan.cache_clear()
    yield site
    registry._scan.cache_clear()


@pytest.fixture
def told(stranger, monkeypatch):
    """A Run that tells the events put into ``told.events`` and remembers what it was asked."""

    class Told:
        events = ()
        asked = options = error = None
        times = 0

    class Run:
        def __init__(self, folder, *, observers=(), **asked):
            Told.asked = asked
            self.folder, self.observers, self.reports = Path(folder), observers, ()

        def __enter__(self):
            (self.folder / ".penstock").mkdir(parents=True, exist_ok=True)
            return self

        def __exit__(self, *failure):
            return None

        def fake(self, options):
            Told.options = options
            Told.times += 1
            tally = Tally()
            with open(self.folder / ".penstock" / "events.jsonl", "a") as file:
                for event in Told.events:
                    tally(event)
                    file.write(event_lines.to_line(event) + "\n")
                    for observer in self.observers:
                        observer(event)
            self.reports = (tally.report(folder=self.folder),)
            (self.folder / "usage.parquet").write_text("x")
            if Told.error is not None:
                raise Told.error

        def report(self):
            return self.reports[0]

    monkeypatch.setattr(penstock, "Run", Run)
    return Told
