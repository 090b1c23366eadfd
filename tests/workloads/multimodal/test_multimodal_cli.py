"""The command line, and what a wheel of the package can do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from waiting import LIMIT

from penstock.cli import main
from penstock.workloads.multimodal import Multimodal, retriever, tokens

TOP = Path(__file__).resolve().parents[3]
SMALL = ["--split", "quota", "--image-size", "32", "--shard-size", "32kB"]


def penstock(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)


def test_run_verify_and_the_same_command_again(sample, tmp_path, monkeypatch):
    """From a folder of its own, with relative paths; resumed from elsewhere."""
    monkeypatch.chdir(sample.parent)
    own = ["--tokenizer", "own.json"]
    (sample.parent / "own.json").write_bytes(tokens.SHIPPED.read_bytes())
    command = [
        "run",
        "multimodal",
        sample.name,
        "--into",
        tmp_path / "run",
        *SMALL,
        *own,
        "--budget",
        "512MiB",
    ]
    assert penstock(*command).exit_code == 0
    verified = penstock("verify", tmp_path / "run")
    assert verified.exit_code == 0
    assert "not verified" not in verified.output, "what is published is the stage's own"
    assert penstock(*command).exit_code == 0
    monkeypatch.chdir(tmp_path)
    assert penstock("resume", tmp_path / "run").exit_code == 0
    monkeypatch.chdir(sample.parent)
    again = penstock(*command, "--compat", "upstream")
    assert again.exit_code != 0
    assert "compat was" in again.output


def test_a_plan_tells_records_by_reason_bytes_and_time(sample, oracle):
    done = penstock("plan", "multimodal", sample, *SMALL, "--window", "24h", "--budget", "512MiB", "--json")
    assert done.exit_code == 0, done.output
    whole, stage = json.loads(done.output)["plans"]
    counts = oracle["counts"]
    assert (whole["rows"], whole["frontal"]) == (counts["metadata_rows"], counts["frontal_rows"])
    assert whole["skipped"]["no_ed_stay"] == counts["no_ed_stay_for_subject"]
    assert whole["skipped"]["image_missing"] == 1
    assert sum(whole["records"].values()) == 100
    assert whole["shard_bytes"] > 100 * 32 * 32
    assert stage["items"] == max(whole["records"].values())
    text = penstock("plan", "multimodal", sample, *SMALL, "--budget", "512MiB").output
    assert "244 of the film table, 186 frontal" in text
    assert "records a second" in text


def test_every_option_has_help():
    for param in Multimodal.command.params:
        assert param.name == "root" or param.help, param.name


@pytest.mark.parametrize(
    "options", [["--ratios", "50,50"], ["--window", "1 year"], ["--shard-size", "3"], ["--views", ""]]
)
def test_options_are_refused_by_name(sample, tmp_path, options):
    done = penstock("run", "multimodal", sample, "--into", tmp_path / "run", *options)
    assert done.exit_code == 2
    assert options[0] in done.output


def test_shipped_data_are_what_they_should_be():
    entries = retriever.read_knowledge()
    assert len(entries) >= 190
    assert len({entry.text for entry in entries}) == len(entries)
    assert tokens.SHIPPED.stat().st_size < 200_000
    shipped = tokens.Tokens(None, 8192)
    assert shipped.size <= 4000
    ids = shipped.encode("[deid] year old man")
    assert (ids == shipped._tokenizer.token_to_id("[deid]")).sum() == 1
    assert len(tokens.Tokens(None, 3).encode("a longer text than that")) == 3


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import penstock
from penstock.workloads.multimodal import Multimodal
assert penstock.__file__.startswith(sys.argv[1]), penstock.__file__
with penstock.Run(sys.argv[3], private=True, budget="512MiB", workers=1) as run:
    Multimodal().run(run, root=sys.argv[2], split="quota", image_size=32, shard_size="32kB")
print(*(str(plan) for plan in Multimodal().plan("512MiB", root=sys.argv[2], split="quota", image_size=32)))
"""


def test_the_package_alone_has_what_a_run_needs(sample, tmp_path):
    """Away from the repository; that a wheel holds all of the package is tested with the repository."""
    shutil.copytree(
        TOP / "src/penstock", tmp_path / "installed/penstock", ignore=shutil.ignore_patterns("__pycache__")
    )
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "installed"), str(sample), str(tmp_path / "run")],
        cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "frontal" in done.stdout
    assert list((tmp_path / "run/train").glob("*.tar"))
