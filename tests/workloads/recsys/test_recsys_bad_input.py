"""Texts that are no texts, a full disk, a draw that there is no room for: told, and nothing is lost."""

import errno

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from ranking_tables import items, log, ranked, write

import penstock
from penstock.cli import main
from penstock.errors import BadInput, CannotFit, DiskFull
from penstock.workloads.recsys import Behavior, Similar
from penstock.workloads.recsys.ranking import drawing, table


def not_utf8(values):
    """Texts as other programs may have written them: bytes that are no UTF-8 in a column of texts."""
    raw = pa.array([value if isinstance(value, bytes) else value.encode() for value in values], pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())


def with_column(path, name, change):
    found = pq.read_table(path)
    values = found[name].to_pylist()
    found = found.set_column(found.schema.names.index(name), name, change(values))
    pq.write_table(found, path)
    return str(path)


def latin(values):
    return not_utf8([*values[:3], b"caf\xe9", *values[4:]])


def test_a_category_that_is_not_utf8_is_named(tmp_path):
    samples = with_column(log(tmp_path / "s.parquet", 20), "channel", latin)
    with pytest.raises(BadInput, match=r"not UTF-8: b'caf\\xe9'") as caught:
        ranked(tmp_path / "r", samples=samples, items=items(tmp_path / "i.parquet"))
    assert "column channel" in str(caught.value)


def test_a_text_of_an_item_that_is_not_utf8_is_named(tmp_path):
    texts = not_utf8(["one word", "two words", b"caf\xe9 words", "more words"])
    pq.write_table(pa.table({"dataset_id": [1, 2, 3, 4], "tag": texts}), tmp_path / "i.parquet")
    with (
        pytest.raises(BadInput, match="column tag: holds a text that is not UTF-8"),
        penstock.Run(tmp_path / "r", backend="inline", budget="1GiB") as run,
    ):
        Similar().run(run, items=str(tmp_path / "i.parquet"), text="tag")


def test_ids_may_be_any_bytes(tmp_path):
    """They are compared, and never read as a text; DuckDB refuses them by name, where it has to sort."""

    def first(values):
        return not_utf8([b"caf\xe9" if value == values[0] else value for value in values])

    samples = with_column(log(tmp_path / "s.parquet", 20), "request_id", first)
    folder = ranked(tmp_path / "r", samples=samples, items=items(tmp_path / "i.parquet"))
    ids = pq.read_table(folder / "table")["request_id"].cast(pa.binary()).to_pylist()
    assert b"caf\xe9" in ids
    with pytest.raises(BadInput, match=r"cannot be sorted: .*not valid UTF8"):
        ranked(tmp_path / "sorted", samples=samples, items=str(tmp_path / "i.parquet"), sort=True)
    pq.write_table(
        pa.table({"user_id": [1, 1, 2, 2], "dataset_id": not_utf8(["a", b"\xff", b"\xff", "a"])}),
        tmp_path / "t.parquet",
    )
    with penstock.Run(tmp_path / "b", backend="inline", budget="1GiB") as run:
        Behavior().run(run, interactions=[str(tmp_path / "t.parquet")])
    found = pq.read_table(tmp_path / "b" / "behavior.parquet")["item_id"].cast(pa.binary()).to_pylist()
    assert found == [b"a", b"\xff"]


def test_a_disk_that_is_full_loses_no_span(tmp_path, monkeypatch):
    given = {"samples": log(tmp_path / "s.parquet", 60), "items": items(tmp_path / "i.parquet"), "span": 100}
    whole = ranked(tmp_path / "whole", **given)
    parts = sorted(path.name for path in (whole / "table").glob("part-*"))
    write_part, begun = table.write_part, []

    def full(path, *rest):
        begun.append(path)
        if len(begun) > 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_part(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(table, "write_part", full)
        with pytest.raises(DiskFull):
            ranked(tmp_path / "r", **given)
    assert len(list((tmp_path / "r" / "table").glob("part-*"))) == 2
    again = ranked(tmp_path / "r", **given)
    assert sorted(path.name for path in (again / "table").glob("part-*")) == parts
    for name in parts:
        assert (again / "table" / name).read_bytes() == (whole / "table" / name).read_bytes()
    assert penstock.verify(again).ok


@pytest.mark.parametrize("by", ["row", "pandas"])
def test_a_draw_of_rows_that_there_is_no_room_for_is_refused(tmp_path, monkeypatch, by):
    samples = log(tmp_path / "s.parquet", 60)
    share = penstock.share()
    monkeypatch.setattr(drawing.penstock, "share", lambda: type(share)(memory=1000, threads=1, attempt=0))
    with pytest.raises(CannotFit, match=r"there are 1,?000 B.*--sample-by request"):
        ranked(
            tmp_path / "r", samples=samples, items=items(tmp_path / "i.parquet"), sample_by=by, max_samples=50
        )


def test_samples_that_say_nothing_of_clicks_are_refused(tmp_path):
    """A column of another name would be a table without a click, and nobody would see it before training."""
    keys = {"request_id": ["a", "a"], "dataset_id": [1, 2]}
    samples = write(tmp_path / "s.parquet", **keys, clicked=[1, 0])
    given = {"samples": samples, "items": items(tmp_path / "i.parquet")}
    with pytest.raises(BadInput, match=r"no column label.*it has request_id, dataset_id, clicked"):
        ranked(tmp_path / "r", **given)
    table = pq.read_table(ranked(tmp_path / "zero", **given, null_label="zero") / "table")
    assert table["label"].to_pylist() == [0, 0]


def test_two_features_of_one_name_are_told_with_their_tables(tmp_path):
    samples = log(tmp_path / "s.parquet", 20)
    table = items(tmp_path / "i.parquet", score=list(range(50)), item_found=[1] * 50)
    with pytest.raises(BadInput, match="--items give two features that would be called item_found"):
        ranked(tmp_path / "r", samples=samples, items=table)


@pytest.mark.parametrize(
    "command", ["similar --threshold", "similar --recall", "ranking --negatives", "rank-train --valid",
                "rank-train --bagging"],
)  # fmt: skip
def test_nan_is_in_no_range(tmp_path, command):
    name, option = command.split()
    for verb in (["run", name, "--into", str(tmp_path / "r")], ["plan", name]):
        done = CliRunner().invoke(main, [*verb, option, "nan"])
        assert done.exit_code == 2
        assert f"Invalid value for '{option}'" in done.output
        assert not (tmp_path / "r").exists()
