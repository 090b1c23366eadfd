"""The commands of the page and of the README run, one after the other, as whoever copies them has it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from ranking_tables import log
from shown_commands import shown_commands

from penstock.cli import main

PAGES = ("docs/recsys.md", "src/penstock/workloads/recsys/README.md")


@pytest.mark.usefixtures("worked_here")
def test_the_commands_of_the_pages_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANKER_ESTIMATORS", "3")
    monkeypatch.setenv("RANKER_NUM_LEAVES", "5")
    for name in ("exposures", "clicks", "runs"):
        (tmp_path / name).mkdir()
    log(tmp_path / "exposures/part-0.parquet", 150, seed=1)
    log(tmp_path / "clicks/part-0.parquet", 20, seed=2)
    rng = np.random.default_rng(3)
    items = {"dataset_id": np.arange(50), "description": ["red fish", "blue cat"] * 25}
    items |= {"tag": ["sea", "land"] * 25} | {f"image_embed_mean_{at}": rng.random(50) for at in (0, 1)}
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    pq.write_table(pa.table({"user_id": np.arange(30), "age": np.arange(30)}), tmp_path / "users.parquet")
    np.save(tmp_path / "vectors.npy", rng.normal(size=(60, 8)).astype(np.float32))
    # Each command once, and of the curve one point: every point is the same stages anew.
    commands = {tuple(words): list(words) for words in shown_commands(*PAGES)}.values()
    commands = [["50" if word == "5,10,25,50,100" else word for word in words] for words in commands]
    done = {}
    # A page shows what a reader wants first: a table is made before it is trained on.
    for words in sorted(commands, key=lambda words: words[2] == "runs/ranking"):
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0, (words, result.output)
        done[words[1]] = words
    assert {"ranking", "similar", "behavior", "rank-train"} <= set(done)
    assert len(json.loads((tmp_path / "runs/curve/metrics.json").read_text())["curve"]) == 2
