"""What killed workers leave, and what sinks do about it."""

import pytest

from penstock.abc import Batch
from penstock.sharing import Share, set_share, share
from penstock.sinks import Arrays, Collect, Files, Parquet


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory):
    set_share(Share(memory=1 << 20, threads=1, attempt=0, scratch=tmp_path_factory.mktemp("state_dir")))
    yield
    set_share(None)


def written():
    share().next_item()
    path = share().folder / "out"
    path.write_text("content")
    return path


@pytest.mark.parametrize(
    ("sink", "results", "stale"),
    [
        (Collect(), ["x" * 100_000], ["part-000000007.jsonl"]),
        (Parquet(grain=1), [{"a": 1}], []),
        (Arrays(grain=1), [1], []),
        (Files(), None, ["000000000-other-name", "000000005-out"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_drafts_and_parts_without_a_receipt_are_gone_after_close(tmp_path, sink, results, stale):
    batch = Batch(0, 1)
    receipt = sink.write(batch, iter(results or [written()]), tmp_path)
    (part,) = receipt.parts
    (tmp_path / f".{part.name}.999999.tmp").write_text("half a part")
    folder = tmp_path / f".{part.name}.999998.tmp"
    folder.mkdir()
    (folder / "inner").write_text("half a folder")
    for name in stale:
        (tmp_path / name).write_text("of an attempt that was killed")
    (tmp_path / "notes.txt").write_text("not ours")
    closed = sink.close(iter([(batch, receipt)]), tmp_path)
    for made in closed.parts:  # a close that was killed, and is done again
        (tmp_path / f".{made.name}.999999.tmp").write_text("half of it")
    assert sink.close(iter([(batch, receipt)]), tmp_path) == closed
    names = {path.name for path in tmp_path.iterdir()}
    assert {part.name, "notes.txt"} <= names
    assert not names & set(stale)
    assert not any(name.endswith(".tmp") for name in names)
