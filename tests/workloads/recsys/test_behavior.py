"""The workload behavior: a plain Counter over pairs is the oracle."""

import itertools
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from waiting import LIMIT, until

import penstock
from penstock.cli import main
from penstock.errors import BadInput, UsageError
from penstock.workloads.recsys import Behavior
from penstock.workloads.recsys.behavior import pairs
from penstock.workloads.recsys.behavior.pairs import Baskets, add_up, count_pairs, most_frequent


def made_up(seed, rows=1200, users=150, items=60):
    """Interactions in which few items and few users are most of all, with repeats."""
    rng = np.random.default_rng(seed)
    user = (users * rng.random(rows) ** 2).astype(np.int64)
    item = (items * rng.random(rows) ** 3).astype(np.int64)
    return pa.table({"user_id": user + 2**60, "dataset_id": item * 3, "weight": rng.random(rows)})


def by_counter(table, most):
    """{(item, other): (rank, users, score)}, as the original counts, with ties by id."""
    baskets = defaultdict(set)
    for user, item in zip(table["user_id"].to_pylist(), table["dataset_id"].to_pylist(), strict=True):
        if user is not None and item is not None:
            baskets[user].add(item)
    counted = defaultdict(Counter)
    for basket in baskets.values():
        for one, other in itertools.permutations(basket, 2):
            counted[one][other] += 1
    found = {}
    for one, counts in counted.items():
        kept = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
        whole = sum(count for _, count in kept)
        found |= {(one, o): (rank, c, c / whole) for rank, (o, c) in enumerate(kept, 1)}
    return found


def run_behavior(folder, table, *, backend="inline", **options):
    """What a whole run makes of a table: {(item, other): (rank, users, score)}."""
    path = Path(folder).with_suffix(".parquet")
    if not path.exists():
        pq.write_table(table, path, row_group_size=700)
    with penstock.Run(folder, budget="1GiB", backend=backend) as run:
        Behavior().run(run, interactions=[str(path)], **options)
    found = pq.read_table(Path(folder) / "behavior.parquet")
    assert found.equals(found.sort_by([("item_id", "ascending"), ("rank", "ascending")]))
    rows = (found[name].to_pylist() for name in found.column_names)
    return {
        (one, other): rest for one, rank, other, *rest in zip(*rows, strict=True) for rest in [(rank, *rest)]
    }


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_neighbours_are_those_of_a_counter(tmp_path, most):
    table = made_up(1)
    found, expected = run_behavior(tmp_path / "run", table, top_k=most), by_counter(table, most)
    assert {key: value[:2] for key, value in found.items()} == {k: v[:2] for k, v in expected.items()}
    for key, (_, _, score) in found.items():
        assert score == pytest.approx(expected[key][2], rel=1e-15)


def test_texts_are_ids_too_and_rows_without_one_are_left_out(tmp_path, capsys):
    table = pa.table(
        {
            "user_id": ["a", "a", "b", "b", None, "b", "a"],
            "dataset_id": ["007", "7", "7", "007", "7", None, "x"],
        }
    )
    assert run_behavior(tmp_path / "run", table) == by_counter(table, 200)
    assert "without a user or an item: 2 of 7 rows" in capsys.readouterr().err


def test_ids_above_2_to_53_stay_apart(tmp_path):
    table = pa.table({"user_id": [1, 1, 2, 2], "dataset_id": [2**53, 2**53 + 1, 2**53 + 1, 2**53 + 2]})
    assert set(run_behavior(tmp_path / "run", table)) == {
        (2**53, 2**53 + 1), (2**53 + 1, 2**53), (2**53 + 1, 2**53 + 2), (2**53 + 2, 2**53 + 1),
    }  # fmt: skip


def test_any_number_of_pairs_at_once_gives_the_same_counts(monkeypatch):
    rng = np.random.default_rng(2)
    baskets = Baskets.of(rng.integers(0, 40, 900), rng.integers(0, 50, 900), 50)
    expected = add_up(count_pairs(baskets, 50))
    assert expected[1].sum() == baskets.pairs
    for at_once in (1, 17, 500):
        monkeypatch.setattr(pairs, "AT_ONCE", at_once)
        for one, other in zip(add_up(count_pairs(baskets, 50)), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_of_equal_counts_the_first_ids_are_kept():
    keys, counts = np.array([0 * 9 + 3, 0 * 9 + 5, 0 * 9 + 7, 2 * 9 + 1]), np.array([4, 6, 4, 1])
    item, rank, other, count = most_frequent(keys, counts, 9, 2)
    assert (item.tolist(), rank.tolist(), other.tolist(), count.tolist()) == (
        [0, 0, 2], [1, 2, 1], [5, 3, 1], [6, 4, 1],
    )  # fmt: skip


def test_the_same_bytes_for_any_order_workers_and_calls(tmp_path):
    table = made_up(3, rows=1000)
    mixed = table.take(np.random.default_rng(4).permutation(table.num_rows))
    options = {"top_k": 9, "max_user_items": 12}
    run_behavior(tmp_path / "one", table, **options)
    run_behavior(tmp_path / "mixed", mixed, **options)
    pq.write_table(table, tmp_path / "two.parquet")
    with penstock.Run(tmp_path / "two", budget="2GiB", workers=2, call=1) as run:
        Behavior().run(run, interactions=[str(tmp_path / "two.parquet")], **options)
    expected = (tmp_path / "one" / "behavior.parquet").read_bytes()
    for other in ("mixed", "two"):
        assert (tmp_path / other / "behavior.parquet").read_bytes() == expected
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "two")]).exit_code == 0


def test_users_with_too_many_items_are_capped_and_told(tmp_path, capsys):
    heavy = pa.table({"user_id": [1] * 300, "dataset_id": list(range(300))})
    few = pa.table({"user_id": [2, 2, 3, 3], "dataset_id": [5, 6, 5, 6]})
    found = run_behavior(tmp_path / "run", pa.concat_tables([heavy, few]), max_user_items=20)
    assert "with more than 20 items, of which so many count: 1 of 3 users" in capsys.readouterr().err
    told = penstock.sinks.Parquet().result(tmp_path / "run" / "behavior-pairs" / "capped").to_table()
    assert told.to_pylist() == [{"user": 1, "items": 300}]
    kept = {one for one, _ in found} - {5, 6}
    assert 18 <= len(kept) <= 20
    assert max(kept) > 100  # drawn, not the first ones


def test_a_cap_draws_by_user_and_item():
    baskets = Baskets(np.array([0, 100, 200]), np.tile(np.arange(100), 2))
    draws = np.random.default_rng(5).integers(0, 2**63, 100).astype(np.uint64)
    capped = baskets.capped(30, draws, np.array([1, 2], np.uint64))
    first, second = capped.items[:30], capped.items[30:]
    assert capped.starts.tolist() == [0, 30, 60]
    assert (np.diff(first) > 0).all()
    assert set(first.tolist()) != set(second.tolist())


KILLED = """
import sys
import penstock
from penstock.workloads.recsys import Behavior
with penstock.Run(sys.argv[1], budget="1GiB", workers=1, call=50) as run:
    Behavior().run(run, interactions=[sys.argv[2]], top_k=7, max_user_items=15)
"""


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    """Killed after each stage in turn."""
    path = tmp_path / "t.parquet"
    pq.write_table(made_up(8), path, row_group_size=500)
    with penstock.Run(tmp_path / "whole", budget="1GiB", backend="inline") as run:
        Behavior().run(run, interactions=[str(path)], top_k=7, max_user_items=15)
    folder = tmp_path / "killed"
    for stage in ("behavior-users", "behavior-pairs", "behavior-best", None):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder), str(path)], start_new_session=True,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        if stage is not None:
            until(lambda: (folder / ".penstock" / stage / "report.json").exists(), program=process)  # noqa: B023
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(LIMIT) in (0, -signal.SIGKILL if stage is not None else 0)
    found, expected = ((tmp_path / name / "behavior.parquet").read_bytes() for name in ("killed", "whole"))
    assert found == expected
    assert penstock.verify(folder).ok


def test_nothing_in_common_and_nothing_at_all(tmp_path):
    empty = pa.table({"user_id": pa.array([], pa.int64()), "dataset_id": pa.array([], pa.int64())})
    assert run_behavior(tmp_path / "empty", empty) == {}
    nobody = pa.table({"user_id": pa.nulls(3, pa.int64()), "dataset_id": [1, 2, 3]})
    with pytest.raises(BadInput, match=r"each of its 3 rows lacks a user \(user_id\) or an item"):
        run_behavior(tmp_path / "nobody", nobody)
    assert run_behavior(tmp_path / "alone", pa.table({"user_id": [1, 2], "dataset_id": [1, 2]})) == {}


def test_off_does_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BEHAVIOR_SIMILARITY_TOP_K", "0")
    with penstock.Run(tmp_path / "run", budget="1GiB", backend="inline") as run:
        Behavior().run(run, interactions=["nowhere.parquet"])
    assert "neighbours by behavior are off" in capsys.readouterr().err


def test_the_variable_of_similar_is_the_second_choice(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMILARITY_TOP_K", "2")
    table = made_up(6, rows=500)
    assert run_behavior(tmp_path / "run", table) == by_counter(table, 2)


def test_bad_input_is_named(tmp_path):
    def refused(message, **columns):
        path = tmp_path / "bad.parquet"
        pq.write_table(pa.table(columns), path)
        with (
            pytest.raises((BadInput, UsageError), match=message),
            penstock.Run(tmp_path / "run", budget="1GiB", backend="inline") as run,
        ):
            Behavior().run(run, interactions=[str(path)])

    refused("column dataset_id: no such column", user_id=[1])
    refused("column user_id: holds bool", user_id=[True], dataset_id=[1])
    refused("holds the id 9007199254740992; from 2\\^53 on", user_id=[2.0**53, None], dataset_id=[1, 2])
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(BadInput, match="not a Parquet file, or cut off"):
        run_behavior(tmp_path / "cut", None)
