"""Reading a table: layouts, streams, copies, Zarr; the same answers from all of them."""

import shutil
import warnings
import zlib
from unittest import mock

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from snv_runs import coverage, digests, positions, rows_of, run, small_table, tensor
from test_snv_kernel import random_weights

import penstock
from penstock.errors import BadInput
from penstock.testing import ReducerSuite, SourceSuite
from penstock.workloads.snv import jobs
from penstock.workloads.snv.coverage_unit import Cover
from penstock.workloads.snv.members import GatherFacts, Members
from penstock.workloads.snv.network.weights import load_weights
from penstock.workloads.snv.reading import arrays, chunked, copying, inflating
from penstock.workloads.snv.reading.arrays import open_arrays
from penstock.workloads.snv.reading.rows import open_rows
from penstock.workloads.snv.results import final
from penstock.workloads.snv.table import Blocks, open_table


@pytest.mark.parametrize("scratch", ["auto", "never"])
def test_every_layout_gives_the_same(scratch, small, tmp_path, model):
    options = small()
    rows, _ = run(tmp_path / "first", tensor=True, model=model, **options)
    assert rows["kept"].sum() > 3
    expected = digests(tmp_path / "first")
    assert len(expected) >= 5

    def check(name, **given):
        run(tmp_path / name, tensor=True, model=model, scratch=scratch, **given)
        assert digests(tmp_path / name) == expected, name

    whole = small_table()
    c_order = {name: np.ascontiguousarray(whole[name]) for name in ("counts", "quals", "indel_counter")}
    check("f-order", **options)
    check("c-order", **small(**c_order))
    check("stored", **small(save=np.savez))
    check("stored-c-order", **small(save=np.savez, **c_order))
    eight = np.asfortranarray(whole["counts"][:, :, :8])
    check("narrow", **small(counts=eight.astype(np.uint16), quals=whole["quals"].astype(">i2")))
    check(
        "signed",
        **small(counts=np.ascontiguousarray(eight.astype(">i4")), in_outgroup=whole["in_outgroup"][None]),
    )
    folder = tmp_path / "arrays"
    folder.mkdir()
    for name, array in whole.items():
        np.save(folder / f"{name}.npy", array)
    with np.load(options["coverage"]) as cover:
        np.save(tmp_path / "cov.npy", cover["all_coverage_per_bp"])
    check("npy", table=str(folder), coverage=str(tmp_path / "cov.npy"))


def test_without_room_for_copies_members_are_streamed(small, tmp_path, model, monkeypatch, capsys):
    options = small()
    run(tmp_path / "first", tensor=True, model=model, **options)
    seen = []

    def full(path):
        seen.append(path)
        return shutil._ntuple_diskusage(1 << 40, 1 << 40, 5000)  # positions fit, nothing else does

    monkeypatch.setattr(copying.shutil, "disk_usage", full)
    run(tmp_path / "streamed", tensor=True, model=model, **options)
    assert len(seen) == 4
    assert "no room on the disk" in capsys.readouterr().err
    assert digests(tmp_path / "streamed") == digests(tmp_path / "first")
    assert not (tmp_path / "streamed" / "read").exists()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), feed=st.integers(1, 40), takes=st.lists(st.integers(1, 900), min_size=40),
    copies=st.booleans(), level=st.sampled_from([0, 1, 9]),
)  # fmt: skip
def test_a_stream_is_read_whole_however_it_is_fed(tmp_path_factory, seed, feed, takes, copies, level):
    rng = np.random.default_rng(seed)
    data = np.repeat(rng.integers(0, 50, 400), rng.integers(1, 30, 400)).astype(np.uint16).tobytes()
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    # Blocks, some of them empty, so that what is fed often gives nothing.
    pieces = [data[at : at + 700] for at in range(0, len(data), 700)]
    packed = b"".join(packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH) for piece in pieces)
    packed += packer.flush()
    path = tmp_path_factory.mktemp("stream") / "packed"
    path.write_bytes(b"before" + packed)
    with open(path, "rb") as file, mock.patch.multiple(inflating, _FEED=feed, _FEED_OF_MANY=feed):
        stream = inflating.Inflater(file.fileno(), 6, len(packed), "packed", copies=copies)
        at = 0
        for take in [*takes, len(data)]:
            take = min(take, len(data) - at)
            assert stream.count_in(stream.read(take)) == data[at : at + take]
            at += take
        stream.check(zlib.crc32(data))
        with pytest.raises(BadInput, match="cut off"):
            stream.read(1)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32), shape=st.tuples(st.integers(1, 9), st.integers(1, 70), st.integers(8, 11)),
    order=st.sampled_from("CF"), dtype=st.sampled_from(["<u2", ">i4", "<u8"]),
)  # fmt: skip
def test_streams_in_lockstep_give_any_rows_in_any_order(tmp_path_factory, seed, shape, order, dtype):
    rng = np.random.default_rng(seed)
    values = np.asarray(rng.integers(0, 999, shape), dtype, order=order)
    path = tmp_path_factory.mktemp("lockstep") / "counts.npz"
    np.savez_compressed(path, counts=values, quals=values[:, :, 0].copy(order=order))
    members = open_arrays(str(path))
    counts, quals = open_rows(members["counts"], 8), open_rows(members["quals"], 1)
    for _ in range(6):  # forwards, backwards, scattered
        wanted = np.sort(rng.choice(shape[1], rng.integers(1, shape[1] + 1), replace=False))
        assert np.array_equal(counts.read(wanted), values[:, wanted, :8].transpose(2, 1, 0))
        assert np.array_equal(quals.read(wanted), values[:, wanted, 0].T[None])


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run over the small table as it is usually saved, to which others are compared; its folder."""
    folder = tmp_path_factory.mktemp("first")
    np.savez_compressed(folder / "cmt.npz", **small_table())
    given = {"table": str(folder / "cmt.npz"), "coverage": coverage(folder / "cov.npz", (40,) * 12)}
    run(folder / "run", tensor=True, **given)
    return folder / "run"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("scratch", ["auto", "never"])
def test_zarr_is_read(version, scratch, first, tmp_path):
    rows = rows_of(first)
    group = zarr.open_group(tmp_path / "cmt.zarr", mode="w", zarr_format=version)
    for name, values in small_table().items():
        chunks = tuple(min(n, c) for n, c in zip(values.shape, (5, 17, 7), strict=False))
        # Text of any length is what the package suggests, of a fixed one what NumPy has.
        dtype = str if name == "sample_names" and scratch == "auto" else values.dtype
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fixed length is not part of the standard
            group.create_array(name, shape=values.shape, chunks=chunks, dtype=dtype)[...] = values
    cover = zarr.create_array(tmp_path / "cov.zarr", shape=(12, 7), chunks=(7, 5), dtype="u8")
    cover[...] = 40
    given = {"table": str(tmp_path / "cmt.zarr"), "coverage": str(tmp_path / "cov.zarr"), "scratch": scratch}
    # Where it is not copied first, workers open it for themselves.
    backend = "local" if scratch == "never" else "inline"
    again, _ = run(tmp_path / "zarr", backend=backend, tensor=True, **given)
    assert positions(again, again["kept"]) == positions(rows, rows["kept"])
    assert np.array_equal(tensor(tmp_path / "zarr"), tensor(first))
    assert digests(tmp_path / "zarr") == digests(first)


class Trap:
    """Shows whether it was unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("layout", ["npz", "stored", "npy", "zarr"])
def test_python_objects_that_nobody_needs_are_let_be(layout, first, tmp_path):
    expected = rows_of(first)
    table, trap = tmp_path / f"odd.{layout}", tmp_path / "unpickled"
    members = small_table() | {"notes": np.array([Trap(trap)], object)}
    if layout == "npy":
        table.mkdir()
        for name, values in members.items():
            np.save(table / name, values)
    elif layout == "zarr":
        group = zarr.open_group(table, mode="w", zarr_format=2)
        for name, values in members.items():
            notes = name == "notes"
            filters, dtype = ([numcodecs.Pickle()], int) if notes else (None, values.dtype)
            made = group.create_array(name, shape=values.shape, dtype=dtype, filters=filters)
            if not notes:
                made[...] = values
        (table / "unknown").mkdir()  # an array that this zarr cannot open
        (table / "unknown" / ".zarray").write_text("{}")
    else:
        (np.savez_compressed if layout == "npz" else np.savez)(table, **members)
        table = next(tmp_path.glob("odd.*"))
    trap.unlink(missing_ok=True)
    rows, _ = run(tmp_path / "run", table=str(table), coverage=coverage(tmp_path / "cov.npz", (40,) * 12))
    assert positions(rows, rows["kept"]) == positions(expected, expected["kept"])
    assert not trap.exists()


def test_python_objects_in_a_member_that_is_needed_are_refused_by_its_name(small, tmp_path):
    trap = tmp_path / "unpickled"
    given = small(quals=np.full((12, 60), Trap(trap), object))
    with pytest.raises(BadInput, match=r"cmt\.npz, quals: holds Python objects, which are never read"):
        run(tmp_path / "run", **given)
    small()
    np.savez(tmp_path / "cov.npz", all_coverage_per_bp=np.array([[Trap(trap)]] * 12), more=np.zeros(1))
    with pytest.raises(BadInput, match=r"cov\.npz, all_coverage_per_bp: holds Python objects"):
        run(tmp_path / "cover", **given | {"table": str(tmp_path / "cmt.npz")})
    assert not trap.exists()


@pytest.mark.parametrize(("name", "refused"), [("notes", False), (None, True)])
def test_weights_with_python_objects(name, refused, tmp_path):
    trap, weights = tmp_path / "unpickled", random_weights(6)
    known = next(iter(weights)) if refused else name
    np.savez(tmp_path / "w.npz", **weights | {known: np.array([Trap(trap)], object)})
    trap.unlink(missing_ok=True)
    if refused:
        with pytest.raises(BadInput, match=f"{known} holds Python objects, which are never read"):
            load_weights(str(tmp_path / "w.npz"))
    else:
        assert all(
            np.array_equal(read, weights[key]) for key, read in load_weights(str(tmp_path / "w.npz")).items()
        )
    assert not trap.exists()


def test_a_zarr_filter_that_unpickles_is_refused(small, tmp_path):
    given = small()
    group = zarr.open_group(tmp_path / "cmt.zarr", mode="w", zarr_format=2)
    for name, values in small_table().items():
        filters = [numcodecs.Pickle()] if name == "quals" else None
        made = group.create_array(name, shape=values.shape, dtype=values.dtype, filters=filters)
        if filters is None:
            made[...] = values
    with pytest.raises(BadInput, match=r"cmt\.zarr.*(cannot be read|Python objects)"):
        run(tmp_path / "run", **given | {"table": str(tmp_path / "cmt.zarr")})


def test_zarr_in_chunks_of_samples_is_read_sample_by_sample(first, tmp_path, monkeypatch):
    group = zarr.open_group(tmp_path / "cmt.zarr", mode="w", zarr_format=2)
    for name, values in small_table().items():
        chunks = (2, *values.shape[1:]) if values.ndim > 1 else values.shape
        group.create_array(name, shape=values.shape, chunks=chunks, dtype=values.dtype)[...] = values
    cover = zarr.create_array(tmp_path / "cov.zarr", shape=(12, 7), chunks=(1, 7), dtype="u8")
    cover[...] = 40
    given = {"table": str(tmp_path / "cmt.zarr"), "coverage": str(tmp_path / "cov.zarr")}
    monkeypatch.setattr(chunked, "_AT_ONCE", 4000)  # so that a chunk holds more positions than a step
    assert chunked.Chunked(str(tmp_path / "cmt.zarr" / "counts")).by_sample
    run(tmp_path / "zarr", tensor=True, **given)
    assert digests(tmp_path / "zarr") == digests(first)
    group["quals"][7, 8] = 3
    with pytest.raises(penstock.PenstockError, match=r"sample 7, position 8.*holds 3.*signs"):
        run(tmp_path / "bad", **given)


def test_damaged_zarr_is_told_with_its_path(small, tmp_path):
    options = small()
    group = zarr.open_group(tmp_path / "cmt.zarr", mode="w", zarr_format=3)
    for name, values in small_table().items():
        dtype = str if name == "sample_names" else values.dtype
        group.create_array(name, shape=values.shape, chunks=values.shape, dtype=dtype)[...] = values
    (chunk,) = [path for path in (tmp_path / "cmt.zarr" / "counts" / "c").rglob("*") if path.is_file()]
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    with pytest.raises(penstock.PenstockError, match=r"cmt\.zarr/counts: cannot be read as Zarr"):
        run(tmp_path / "run", **options | {"table": str(tmp_path / "cmt.zarr")})


def test_zarr_that_is_none(small, tmp_path):
    options = small()
    (tmp_path / "cmt.zarr").mkdir()
    (tmp_path / "cmt.zarr" / "zarr.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read as Zarr"):
        run(tmp_path / "run", **options | {"table": str(tmp_path / "cmt.zarr")})


def test_values_over_16_bits_are_kept(small, tmp_path):
    counts = small_table()["counts"].copy(order="F")
    counts[2, 3, :8] += 100_000
    found = {}
    for name, save in (("deflated", np.savez_compressed), ("stored", np.savez)):
        run(tmp_path / name, tensor=True, **small(save=save, counts=counts))
        found[name] = tensor(tmp_path / name)
    assert np.array_equal(found["deflated"], found["stored"])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    places=st.dictionaries(st.integers(0, 959), st.sampled_from([255, 256, 65535, 65536, 10**6])),
    order=st.sampled_from("CF"), piece=st.integers(8, 999), step=st.integers(1, 99),
)  # fmt: skip
def test_a_copy_is_as_wide_as_its_largest_value(tmp_path_factory, seed, places, order, piece, step):
    values = np.random.default_rng(seed).integers(0, 200, (5, 24, 8)).astype(np.uint64)
    for place, value in places.items():
        values.flat[place] = value
    folder = tmp_path_factory.mktemp("copy")
    np.savez_compressed(folder / "t.npz", counts=np.asarray(values, order=order))
    array = open_arrays(str(folder / "t.npz"))["counts"]
    with mock.patch.object(arrays, "_PIECE", piece), mock.patch.object(copying, "_STEP", step):
        told = copying.copy("counts", array, folder / "copy.npy")
    copied = np.load(folder / "copy.npy", allow_pickle=False)
    most = max([0, *places.values()])
    assert told["dtype"] == copied.dtype.str == ("|u1" if most < 256 else "<u2" if most < 65536 else "<u4")
    lying = values if order == "C" else values.transpose(2, 1, 0)
    assert np.array_equal(copied, lying)
    assert (folder / "copy.npy").stat().st_size == told["offset"] + copied.nbytes


def opened_blocks(folder, samples=None, save=np.savez):
    if not (folder / "cmt.npz").exists():
        save(folder / "cmt.npz", **small_table())
    table = open_table(str(folder / "cmt.npz"), coverage(folder / "cov.npz", (40,) * 12))
    return Blocks(table, samples, rows=9, features=True)


class TestBlocks(SourceSuite):
    save = staticmethod(np.savez)

    def make(self, folder):
        return opened_blocks(folder, [0, 1, 3, 5], self.save)

    def change(self, folder):
        self.save(folder / "cmt.npz", **small_table(quals=small_table()["quals"] * 2))
        return True

    def items(self, source, start, stop):
        return [
            tuple(part.tolist() for part in (block.numbers, block.counts, block.quals, block.indel))
            for block in source.read(start, stop)
        ]


def told(found):
    """All that an answer holds, as what no array shares."""
    if isinstance(found, np.ndarray):
        return found.tobytes()
    if isinstance(found, dict):
        return {name: told(value) for name, value in found.items()}
    return [told(each) for each in found] if isinstance(found, list | tuple) else found


def test_a_block_of_its_own_stays_while_reading_goes_on(tmp_path):
    blocks = opened_blocks(tmp_path)
    own = blocks.block(0)
    expected = own.counts.copy()
    read = blocks.read(0, 2)
    first = next(read).counts
    assert (first == expected).all()
    assert np.shares_memory(first, next(read).counts)
    assert (own.counts == expected).all()
    assert not (first == expected).all()


@pytest.mark.parametrize("name", ["carriers", "survey", "judge", "features", "predict", "pack"])
def test_no_answer_lies_in_the_memory_of_its_block(tmp_path, name):
    blocks = opened_blocks(tmp_path)
    samples = blocks.width
    median, every = np.full(samples, 40.0), np.ones(samples, np.bool_)
    features = jobs.MakeFeatures(median, every)
    work = {
        "carriers": jobs.CountCarriers(),
        "survey": jobs.SurveyPositions(),
        "judge": jobs.JudgePositions(
            median, every, True, blocks.rows, Cover(np.arange(4), np.full((samples, 4), 40))
        ),
        "features": features,
        "predict": jobs.Predict(features, random_weights(), blocks.rows),
        "pack": lambda block: final.PackBlock(
            blocks.table.p, 9, predicted=False, fast=False, own_rows=blocks.rows
        )(block, kept=None),
    }[name]
    block = blocks.block(1)
    found = work(block)
    before = told(found)
    for part in (block.counts, block.quals, block.indel):
        part[:] = 77
    assert told(found) == before


class TestStreamedBlocks(TestBlocks):
    save = staticmethod(np.savez_compressed)


class TestMembers(SourceSuite):
    def make(self, folder):
        if not (folder / "cmt.npz").exists():
            np.savez_compressed(folder / "cmt.npz", **small_table())
            coverage(folder / "cov.npz", (40,) * 12)
        return Members(open_table(str(folder / "cmt.npz"), str(folder / "cov.npz")))

    def items(self, source, start, stop):
        return [(name, str(array)) for name, array in source.read(start, stop)]


class TestGatherFacts(ReducerSuite):
    count = 12

    def make(self):
        return GatherFacts()

    def result_of(self, item):
        return {f"member-{item}": {"offset": item, "medians": np.arange(item) / 2}}
