"""A private run on nodes: what is told and kept of it quotes nothing, as on one machine."""

import sys

import jobs
import pytest

import penstock
from penstock import events as ev
from penstock.errors import RunFailed

BUDGET = "700MiB"


def quoted(folder):
    secret = jobs.SECRET.encode()
    return [path for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_nothing_of_items_messages_and_prints_is_told_or_kept(tmp_path):
    told = []
    report = penstock.run(
        jobs.read_note, jobs.Patients(8), tmp_path / "run", private=True, set_aside=True, workers=1,
        budget=BUDGET, cluster="local:1", observers=[told.append],
    )  # fmt: skip
    assert any(isinstance(event, ev.NodeJoined) for event in told)
    assert [(each.item, each.name) for each in report.set_aside] == [(3, "3"), (5, "5")]
    assert jobs.SECRET not in f"{told!r}{report!r}{report.to_json()}"
    assert not quoted(tmp_path / "run")
    assert not list((tmp_path / "run").rglob("workers*.log"))
    assert not [path for path in (tmp_path / "run").rglob("*") if path.lstat().st_mode & 0o077]


def test_what_a_module_says_when_a_node_imports_it_is_told_of_no_private_run(tmp_path, monkeypatch):
    (tmp_path / "strict.py").write_text(
        "import sys\nif 'penstock.clusters.node' in sys.modules:\n"
        f"    raise ValueError('{jobs.SECRET} is missing')\ndef function(item):\n    return item\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "penstock.clusters.node", raising=False)  # of another test
    import strict

    for private in (False, True):
        told, folder = [], tmp_path / str(private)
        with pytest.raises(RunFailed, match="ValueError, whose message is" if private else jobs.SECRET):
            penstock.run(
                strict.function, 3, folder, private=private, budget=BUDGET, cluster="local:1",
                observers=[told.append],
            )  # fmt: skip
        # Of each that left: on a crowded machine two were seen to.
        left = " ".join(event.why for event in told if isinstance(event, ev.NodeLeft))
        assert (jobs.SECRET in left) != private
        assert "ValueError" in left
        assert bool(quoted(folder)) != private


def test_that_a_node_compiles_first_is_said_once_and_never_of_a_private_run(tmp_path):
    for private in (False, True):
        told = []
        penstock.run(
            jobs.Compiled(), 3, tmp_path / str(private), private=private, budget=BUDGET, cluster="local:2",
            observers=[told.append],
        )  # fmt: skip
        said = [event.message for event in told if isinstance(event, ev.Looking)]
        said = [message.partition(": ")[2] for message in said if message.startswith("n1 on ")]
        assert said == ([] if private else [jobs.SECRET])
