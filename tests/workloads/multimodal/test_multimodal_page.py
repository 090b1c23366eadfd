"""The commands of the page and of the README run, one after the other, as whoever copies them has it."""

import json

import pytest
from click.testing import CliRunner
from shown_commands import shown_commands

import penstock
from penstock.cli import main

PAGES = ("docs/multimodal.md", "src/penstock/workloads/multimodal/README.md")


@pytest.mark.usefixtures("worked_here")
def test_the_commands_of_the_pages_run(sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "physionet.org").mkdir()
    (tmp_path / "physionet.org/files").symlink_to(sample)
    commands = shown_commands(*PAGES)
    assert [words[0] for words in commands].count("run") >= 5
    for words in commands:
        done = CliRunner().invoke(main, words, catch_exceptions=False)
        assert done.exit_code == 0, (words, done.output)
    manifest = json.loads((tmp_path / "runs/mimic/manifest.json").read_text())
    assert manifest["records"]["train"]["written"] > 30
    assert penstock.verify(tmp_path / "runs/mimic").ok
