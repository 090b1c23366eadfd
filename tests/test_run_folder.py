"""The folder of a run: what is left of it when a run is refused, or ends in an unusual way."""

import json
import tempfile

import pytest

import penstock
from penstock.errors import UsageError
from penstock.events import StageEnded


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"call": 0}])
def test_a_run_that_is_refused_leaves_no_temporary_folder(tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UsageError):
        penstock.Run(None, **wrong)
    assert not list(tmp_path.iterdir())


def test_an_observer_that_fails_at_the_end_does_not_turn_the_report_into_another(tmp_path):
    def fail(item):
        raise ValueError(item)

    def observe(event):
        if isinstance(event, StageEnded):
            raise KeyError("observer")

    into = tmp_path / "run"
    with pytest.raises(penstock.RunFailed):
        penstock.run(fail, 3, into, backend="inline")
    before = json.loads((into / "report.json").read_text())
    assert before["outcome"] == "failed"
    with pytest.raises(KeyError, match="observer"):
        penstock.run(fail, 3, into, backend="inline", observers=[observe])
    assert json.loads((into / "report.json").read_text()) == before


def test_drafts_of_a_killed_run_are_gone_with_the_next_and_nothing_else_is(tmp_path):
    into = tmp_path / "run"
    penstock.run(abs, 3, into, backend="inline")
    before = set(into.iterdir())
    for name in (".results.jsonl.4711.tmp", ".summary.json.1.tmp"):
        (into / name).write_text("half")
    folder = into / ".000000001-out.4711.tmp"
    folder.mkdir()
    (folder / "inner").write_text("half")
    (into / ".notes.tmp").write_text("not ours")
    assert penstock.run(abs, 3, into, backend="inline").done == 3
    assert set(into.iterdir()) == before | {into / ".notes.tmp"}
