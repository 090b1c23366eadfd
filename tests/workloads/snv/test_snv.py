"""The workload from end to end: oracles, layouts, options, bad inputs, identical bytes."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path
from unittest import mock

import numcodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from test_snv_kernel import random_weights, slow

import penstock
from penstock.errors import BadInput, UsageError
from penstock.testing import ReducerSuite, SourceSuite
from penstock.workloads.snv import Snv, kernel
from penstock.workloads.snv.jobs import AddUp
from penstock.workloads.snv.reading import arrays, chunked, copying, inflating
from penstock.workloads.snv.reading.arrays import open_arrays
from penstock.workloads.snv.reading.members import GatherFacts, Members
from penstock.workloads.snv.reading.rows import open_rows
from penstock.workloads.snv.results import final
from penstock.workloads.snv.table import Blocks, open_table
from penstock.workloads.snv.verdicts import REASONS

DATA = Path(__file__).parent / "data"
EXPECTED = json.loads((DATA / "expected.json").read_text())


def coverage(path, medians):
    """A coverage of two positions with these medians."""
    doubled = np.round(2 * np.array(medians)).astype(np.uint64)
    low = doubled // 2
    np.savez_compressed(path, all_coverage_per_bp=np.asfortranarray(np.stack([low, doubled - low], axis=1)))
    return str(path)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "weights.npz"
    np.savez(path, **random_weights(6))
    return str(path)


def run(folder, backend="inline", **options):
    """Rows and summary of a run."""
    with penstock.Run(folder, budget="1GiB", backend=backend) as opened:
        Snv().run(opened, **options)
    return rows_of(folder), json.loads((folder / "summary.json").read_text())


def rows_of(folder):
    columns = pq.read_table(folder / "positions.parquet").to_pydict()
    return {name: np.array(values, object) for name, values in columns.items()}


def positions(rows, mask):
    return rows["pos"][np.array(mask, bool)].tolist()


def tensor(folder):
    """The Zarr array, read by its own description."""
    told = json.loads((folder / "tensor.zarr" / "zarr.json").read_text())
    shape = told["chunk_grid"]["configuration"]["chunk_shape"]
    chunks = []
    for number in range(-(-told["shape"][0] // shape[0])):
        packed = (folder / "tensor.zarr" / f"c/{number}/0/0/0").read_bytes()
        raw = pa.Codec("zstd").decompress(packed, 4 * int(np.prod(shape)))
        chunks.append(np.frombuffer(raw, "<f4").reshape(shape))
    return np.concatenate(chunks)[: told["shape"][0]]


def small_table(**changes):
    """The members of a real-looking table of 12 samples and 60 positions."""
    with np.load(DATA / "s1_small40_cmt.npz") as saved:
        made = {name: saved[name] for name in saved.files}
    for name in ("counts", "quals", "indel_counter"):
        made[name] = np.asfortranarray(made[name][:, :60])
    return made | {"p": made["p"][:60]} | changes


@pytest.fixture
def small(tmp_path):
    """Saves members as a table; gives options for a run."""

    def make(save=np.savez_compressed, medians=(40,) * 12, **changes):
        members = {k: v for k, v in small_table(**changes).items() if v is not None}
        save(tmp_path / "cmt.npz", **members)
        return {
            "table": str(tmp_path / "cmt.npz"),
            "coverage": coverage(tmp_path / "cov.npz", medians),
        }

    return make


# ------------------------------------------------------------------ oracles


@pytest.mark.parametrize("case", list(EXPECTED))
def test_positions_gaps_and_tensor_are_those_of_the_tool(case, tmp_path, model):
    told = EXPECTED[case]
    rows, summary = run(
        tmp_path / "run",
        table=str(DATA / f"{told['table']}_cmt.npz"),
        coverage=coverage(tmp_path / "cov.npz", told["medians"]),
        exclude=told["exclude"] or None,
        min_cov_samp=told["min_cov_samp"],
        tensor=True,
        model=model,
    )
    assert positions(rows, rows["kept"]) == told["pos"]
    assert positions(rows, [gap is not None for gap in rows["gap"]]) == told["judged"]
    assert positions(rows, [bool(gap) for gap in rows["gap"]]) == told["removed"]
    found = tensor(tmp_path / "run")
    assert list(found.shape) == told["shape"]
    assert hashlib.sha256(found.tobytes()).hexdigest() == told["tensor"]
    # The probabilities, by plain convolutions.
    kept = rows["prob"][rows["kept"].astype(bool)].astype(float)
    weights = random_weights(6)
    for i in range(0, len(kept), 97):
        assert kept[i] == pytest.approx(slow.network(found[i], weights), abs=1e-5)
    assert (rows["label"][rows["kept"].astype(bool)] == (kept > 0.5)).all()
    # Every position has one fate, and the counts add up.
    removed = [reason for reason in rows["removed_by"] if reason is not None]
    assert {reason: removed.count(reason) for reason in set(removed)} == summary["removed"]
    assert summary["kept"] + len(removed) == summary["positions"] == len(rows["pos"])
    assert set(removed) <= set(REASONS)
    assert not (tmp_path / "run" / "read").exists()


# ------------------------------------------------------------------ layouts


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


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("scratch", ["auto", "never"])
def test_zarr_is_read(version, scratch, small, tmp_path):
    rows, _ = run(tmp_path / "first", tensor=True, **small())
    group = zarr.open_group(tmp_path / "cmt.zarr", mode="w", zarr_format=version)
    for name, values in small_table().items():
        chunks = tuple(min(n, c) for n, c in zip(values.shape, (5, 17, 7), strict=False))
        # Text of any length is what the package suggests, of a fixed one what NumPy has.
        dtype = str if name == "sample_names" and scratch == "auto" else values.dtype
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fixed length is not part of the standard
            group.create_array(name, shape=values.shape, chunks=chunks, dtype=dtype)[...] = values
    cover = zarr.create_array(tmp_path / "cov.zarr", shape=(12, 19), chunks=(7, 5), dtype="u8")
    cover[...] = 40
    given = {"table": str(tmp_path / "cmt.zarr"), "coverage": str(tmp_path / "cov.zarr"), "scratch": scratch}
    # Workers open it for themselves.
    again, _ = run(tmp_path / "zarr", backend="local", tensor=True, **given)
    assert positions(again, again["kept"]) == positions(rows, rows["kept"])
    assert np.array_equal(tensor(tmp_path / "zarr"), tensor(tmp_path / "first"))
    assert digests(tmp_path / "zarr") == digests(tmp_path / "first")


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


def test_zarr_in_chunks_of_samples_is_read_sample_by_sample(small, tmp_path, monkeypatch):
    run(tmp_path / "first", tensor=True, **small())
    group = zarr.open_group(tmp_path / "cmt.zarr", mode="w", zarr_format=2)
    for name, values in small_table().items():
        chunks = (2, *values.shape[1:]) if values.ndim > 1 else values.shape
        group.create_array(name, shape=values.shape, chunks=chunks, dtype=values.dtype)[...] = values
    cover = zarr.create_array(tmp_path / "cov.zarr", shape=(12, 19), chunks=(1, 19), dtype="u8")
    cover[...] = 40
    given = {"table": str(tmp_path / "cmt.zarr"), "coverage": str(tmp_path / "cov.zarr")}
    monkeypatch.setattr(chunked, "_AT_ONCE", 4000)  # so that a chunk holds more positions than a step
    assert chunked.Chunked(str(tmp_path / "cmt.zarr" / "counts")).by_sample
    run(tmp_path / "zarr", tensor=True, **given)
    assert digests(tmp_path / "zarr") == digests(tmp_path / "first")
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


def test_what_nothing_can_be_done_without_is_told(small, tmp_path):
    with (
        pytest.raises(BadInput, match="quals: was set aside, and nothing can be done without it"),
        penstock.Run(tmp_path / "run", budget="1GiB", backend="inline", set_aside=True) as opened,
    ):
        Snv().run(opened, **small(**changed("quals", (7, 8), 3)))


def test_a_file_of_names_is_found_from_another_folder(small, tmp_path, monkeypatch):
    options = small()
    (tmp_path / "names.txt").write_text("s0001\n")
    monkeypatch.chdir(tmp_path)
    told = Snv.command.make_context("snv", ["--exclude", "names.txt", "--table", options["table"]]).params
    assert told["exclude"] == str(tmp_path / "names.txt")
    told = Snv.command.make_context("snv", ["--exclude", "s0001,x", "--table", options["table"]]).params
    assert told["exclude"] == "s0001,x"


def test_zarr_that_is_none(small, tmp_path):
    options = small()
    (tmp_path / "cmt.zarr").mkdir()
    (tmp_path / "cmt.zarr" / "zarr.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read as Zarr"):
        run(tmp_path / "run", **options | {"table": str(tmp_path / "cmt.zarr")})


def test_the_tensor_is_what_the_zarr_package_reads(small, tmp_path):
    run(tmp_path / "run", tensor=True, **small())
    opened = zarr.open_array(tmp_path / "run" / "tensor.zarr", mode="r")
    assert np.array_equal(opened[...], tensor(tmp_path / "run"))
    assert opened.attrs["holes"] == []
    assert len(opened.attrs["features"]) == opened.shape[2]


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


def test_the_final_table_has_the_kept_positions_of_all_samples(small, tmp_path, model):
    options = small()
    rows, _ = run(tmp_path / "run", model=model, exclude="s0001", **options)
    kept = rows["kept"].astype(bool)
    whole = small_table()
    with np.load(tmp_path / "run" / "candidate_mutation_table_final.npz", allow_pickle=False) as final:
        assert final["p"].tolist() == positions(rows, kept)
        assert np.array_equal(final["counts"], whole["counts"][:, kept, :8])
        assert np.array_equal(final["quals"], whole["quals"][:, kept])
        assert np.array_equal(final["indel_counter"], whole["indel_counter"][:, kept])
        assert final["sample_names"].tolist() == whole["sample_names"].tolist()
        assert final["in_outgroup"].tolist() == whole["in_outgroup"].tolist()
        assert final["prob"].tolist() == rows["prob"][kept].tolist()
        assert final["label"].tolist() == (rows["label"][kept] == 1).tolist()
        assert not final["recomb"].any()
        assert final["samples_exclude_bool"].sum() == 1
        kinds = {name: final[name].dtype.str for name in ("p", "counts", "quals", "indel_counter", "prob")}
    assert kinds == {"p": "<i8", "counts": "<u8", "quals": "<i8", "indel_counter": "<u8", "prob": "<f4"}
    # It is a table itself.
    again = open_table(str(tmp_path / "run" / "candidate_mutation_table_final.npz"), options["coverage"])
    assert again.positions == kept.sum()


def test_a_finished_run_that_is_run_again_leaves_no_drafts(small, tmp_path):
    options = small()
    for _ in range(2):
        run(tmp_path / "run", **options)
    assert list((tmp_path / "run").glob(".*.tmp")) == []


def test_predictions_are_written_in_fast_mode(tmp_path, model, monkeypatch):
    monkeypatch.setattr(final, "FAST", 1)
    told = EXPECTED["shallow"]
    path = DATA / f"{told['table']}_cmt.npz"
    cover = coverage(tmp_path / "cov.npz", told["medians"])
    rows, _ = run(tmp_path / "run", model=model, table=str(path), coverage=cover)
    kept = rows["kept"].astype(bool)
    lines = (tmp_path / "run" / "pred_res.txt").read_text().splitlines()
    with np.load(path) as saved:
        counts, names = saved["counts"], saved["sample_names"].tolist()
    assert lines[0].split("\t") == ["Pos", "Pred", "Prob", *names]
    assert len(lines) == kept.sum() + 1
    turned = 0
    for line, row in zip(lines[1:], np.flatnonzero(kept), strict=True):
        pos, label, prob, *letters = line.split("\t")
        reads = counts[:, row]
        assert int(pos) == rows["pos"][row]
        assert letters == ["NATCG"[slow.major(each)] for each in reads.tolist()]
        rescued = rows["label"][row] == 0 and slow.rescued(reads.T.tolist())
        turned += rescued
        expected = np.float32(1) - np.float32(rows["prob"][row]) if rescued else np.float32(rows["prob"][row])
        assert int(label) == (1 if rescued else rows["label"][row])
        assert np.float32(prob) == expected
    assert 0 < turned < (rows["label"][kept] == 0).sum()


# ------------------------------------------------------------------ options


def test_samples_are_excluded_by_names_file_and_number(small, tmp_path):
    options = small()
    names = small_table()["sample_names"].tolist()
    _, by_name = run(tmp_path / "a", exclude=f"{names[2]}, {names[5]},nosuch", **options)
    assert by_name["excluded"] == [names[2], names[5]]
    assert by_name["unknown_names"] == ["nosuch"]
    (tmp_path / "names.txt").write_text(f"{names[2]}\n\n{names[5]}\nnosuch\n")
    _, by_file = run(tmp_path / "b", exclude=str(tmp_path / "names.txt"), **options)
    assert by_file["excluded"] == by_name["excluded"]
    counts = small_table()["counts"][:, :, :8].transpose(1, 2, 0)
    carried = slow.carriers(counts)
    limit = sorted(carried)[-3]
    _, by_number = run(tmp_path / "c", exclude=str(limit), **options)
    assert by_number["excluded"] == [n for n, c in zip(names, carried, strict=True) if c >= limit]
    assert 0 < len(by_number["excluded"]) < 12


def test_the_rules_about_quality_can_be_left_out(small, tmp_path):
    _, summary = run(tmp_path / "run", min_cov_samp=100, **small())
    assert "low_quality" not in summary["removed"]
    assert summary["thresholds"]["quality_rules"] is False


def test_without_a_network_there_are_no_probabilities(small, tmp_path):
    rows, summary = run(tmp_path / "run", **small())
    assert set(rows["prob"]) == {None}
    assert summary["network"] is False
    with np.load(tmp_path / "run" / "candidate_mutation_table_final.npz") as final:
        assert "prob" not in final.files


# ------------------------------------------------------------------ nothing left, and bad inputs


def test_one_sample_or_no_position_gives_an_empty_result(small, tmp_path, model):
    whole = small_table()
    outgroup = np.ones(12, bool)
    outgroup[3] = False
    rows, summary = run(tmp_path / "one", tensor=True, model=model, **small(in_outgroup=outgroup))
    assert summary["kept"] == 0
    assert set(rows["removed_by"]) == {"one_allele"}
    with np.load(tmp_path / "one" / "candidate_mutation_table_final.npz") as final:
        assert final["counts"].shape == (12, 0, 8)
    none = {name: whole[name][:, :0] for name in ("counts", "quals", "indel_counter")}
    rows, summary = run(tmp_path / "none", tensor=True, model=model, **small(p=whole["p"][:0], **none))
    assert summary["positions"] == summary["kept"] == len(rows["pos"]) == 0


def changed(name, place, value, dtype=None):
    array = small_table()[name]
    array = array.astype(dtype or array.dtype)
    array[place] = value
    return {name: array}


def swapped():
    p = small_table()["p"].copy()
    p[[4, 9]] = p[[9, 4]]
    return {"p": p}


BAD = {
    "missing member": ({"indel_counter": None}, "has no member indel_counter"),
    "few statistics": ({"counts": np.zeros((12, 60, 7), int)}, "has 7 statistics"),
    "fractions": ({"counts": np.zeros((12, 60, 8))}, "holds float64; whole numbers"),
    "nan": (changed("quals", (1, 2), np.nan, float), "holds float64"),
    "two axes": ({"counts": np.zeros((12, 60), int)}, "has 2 axes"),
    "negative": (changed("counts", (3, 4, 5), -2, np.int32), "sample 3, position 4, statistic 5.*holds -2"),
    "too many": (changed("counts", (1, 1, 1), 2**40), "holds 1099511627776: more than"),
    "negative indel": (changed("indel_counter", (3, 4, 1), -1, np.int32), "cannot be negative"),
    "positive quals": (changed("quals", (7, 8), 3), "sample 7, position 8.*holds 3.*signs"),
    "other positions": ({"p": np.arange(59)}, r"shape \(59,\)"),
    "unsorted": (swapped(), "comes after"),
    "duplicate": ({"p": np.repeat(np.arange(30), 2)}, "the position 0 comes twice"),
    "negative position": ({"p": np.arange(60) - 5}, "holds the position -5"),
    "objects": ({"sample_names": np.array(["a"] * 12, object)}, "Python objects, which are never read"),
    "names not unique": ({"sample_names": np.array(["a"] * 12)}, "the name 'a' is there 12 times"),
    "numbers for names": ({"sample_names": np.arange(12)}, "text was expected"),
    "outgroup": ({"in_outgroup": np.zeros(11, bool)}, r"shape \(11,\); there are 12"),
    "all outgroup": ({"in_outgroup": np.ones(12, bool)}, "no samples are left: of 12, 12 are outgroup"),
}


@pytest.mark.parametrize("save", [np.savez_compressed, np.savez])
@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_told_with_its_place(case, save, small, tmp_path):
    changes, words = BAD[case]
    with pytest.raises(penstock.PenstockError, match=words) as caught:
        run(tmp_path / "run", **small(save=save, **changes))
    assert "cmt.npz" in str(caught.value)


def test_bad_coverage(small, tmp_path):
    options = small()
    coverage(tmp_path / "cov.npz", (40,) * 11)
    with pytest.raises(BadInput, match="has 11 samples, and the table has 12"):
        run(tmp_path / "a", **options)
    np.savez(tmp_path / "cov.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(BadInput, match="no member all_coverage_per_bp; it has a, b"):
        run(tmp_path / "b", **options)
    np.savez_compressed(tmp_path / "cov.npz", all_coverage_per_bp=np.full((12, 3), -1))
    with pytest.raises(penstock.PenstockError, match="holds -1: this is no coverage"):
        run(tmp_path / "c", **options)


def test_a_file_that_is_cut_off_or_damaged(small, tmp_path):
    options = small()
    path = Path(options["table"])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"no whole \.npz"):
        run(tmp_path / "a", **options)
    table = open_table(rewrite(path, whole), options["coverage"])
    for member, share in ((table.counts, 0.04), (table.counts, 0.08), (table.quals, 0.5), (table.indel, 0.9)):
        place = member.begin + int(member.packed * share)
        damaged = bytearray(whole)
        damaged[place : place + 40] = bytes(40)
        rewrite(path, bytes(damaged))
        with pytest.raises(penstock.PenstockError, match=r"damaged|cut off|no NumPy array|no whole|holds"):
            run(tmp_path / f"run-{place}", **options)
    rewrite(path, b"neither of them")
    with pytest.raises(BadInput, match=r"no \.npz, \.npy or Zarr"):
        run(tmp_path / "b", **options)


def rewrite(path, content):
    path.write_bytes(content)
    return str(path)


def test_options_that_make_no_sense(small, tmp_path):
    with pytest.raises(UsageError, match="needs --table and --coverage"):
        run(tmp_path / "a", table="x")
    with pytest.raises(BadInput, match="all would be dropped: raise --min-cov-samp"):
        run(tmp_path / "b", min_cov_samp=0, **small())
    with pytest.raises(BadInput, match="12 are excluded"):
        run(tmp_path / "c", exclude=small_table()["sample_names"].tolist(), **small())


# ------------------------------------------------------------------ identical bytes


def digests(folder):
    names = ("positions.parquet", "summary.json", "candidate_mutation_table_final.npz", "tensor.zarr")
    files = [f for name in names for f in [folder / name, *(folder / name).rglob("*")] if f.is_file()]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_the_same_bytes_for_any_budget_workers_kill_and_resume(tmp_path, model):
    told = EXPECTED["lowcov"]
    table, cover = DATA / f"{told['table']}_cmt.npz", coverage(tmp_path / "cov.npz", told["medians"])
    run(tmp_path / "inline", table=str(table), coverage=cover, model=model, tensor=True)
    expected = digests(tmp_path / "inline")
    assert len(expected) >= 5
    command = [str(Path(sys.executable).with_name("penstock")), "run", "snv", "--table", str(table)]
    command += ["--coverage", cover, "--model", model, "--tensor", "--into", str(tmp_path / "killed")]
    command += ["--scratch", "never"]
    # Killed with its workers in the middle of one stage after the other, and resumed with other budgets.
    for stage, workers, budget in (("judge", 1, "400MiB"), ("network", 2, "1GiB"), ("final", 1, "512MiB")):
        given = ["--workers", str(workers), "--budget", budget]
        process = subprocess.Popen([*command, *given], stderr=subprocess.DEVNULL)
        events = tmp_path / "killed" / ".penstock" / "events.jsonl"
        until = time.monotonic() + 60
        begun = f'"stage":"{stage}"'
        while time.monotonic() < until and not (events.exists() and begun in events.read_text()):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    last = [*command, "--workers", "2", "--budget", "2GiB"]
    subprocess.run(last, check=True, stderr=subprocess.DEVNULL)
    assert digests(tmp_path / "killed") == expected


# ------------------------------------------------------------------ plans


def test_a_shape_is_planned_without_data():
    (plan,) = Snv().plan("1GiB", shape="700x800000", workers=2)
    assert plan.budget == 1 << 30
    assert plan.projected + plan.headroom == plan.budget
    assert plan.asked.memory < 512 << 20
    assert plan.asked.disk > 700 * 800_000 * 12
    shapes = {(each.samples, each.positions): each for each in plan.around}
    assert len(shapes) == 9
    # Memory does not grow with positions, disk and time do.
    half, twice = shapes[700, 400_000], shapes[700, 1_600_000]
    assert half.memory == twice.memory
    assert twice.disk == 4 * half.disk
    assert twice.network == pytest.approx(4 * half.network)
    assert "700     800,000" in str(plan)


def test_a_table_is_planned_by_its_shape(small):
    (plan,) = Snv().plan("1GiB", **small())
    assert (plan.asked.samples, plan.asked.positions) == (12, 60)


def test_plans_of_nothing(tmp_path):
    for shape in ("700", "0x5", "axb"):
        with pytest.raises(UsageError, match="samples x positions"):
            Snv().plan("1GiB", shape=shape)
    with pytest.raises(UsageError, match="--shape SAMPLESxPOSITIONS"):
        Snv().plan("1GiB")
    with pytest.raises(UsageError, match="is for penstock plan"):
        run(tmp_path / "run", shape="3x3")


# ------------------------------------------------------------------ conformance


class TestBlocks(SourceSuite):
    def make(self, folder):
        if not (folder / "cmt.npz").exists():
            np.savez(folder / "cmt.npz", **small_table())
        table = open_table(str(folder / "cmt.npz"), coverage(folder / "cov.npz", (40,) * 12))
        return Blocks(table, [0, 1, 3, 5], rows=9, features=True)

    def change(self, folder):
        np.savez(folder / "cmt.npz", **small_table(quals=small_table()["quals"] * 2))
        return True

    def items(self, source, start, stop):
        return [
            tuple(part.tolist() for part in (block.numbers, block.counts, block.quals, block.indel))
            for block in source.read(start, stop)
        ]


class TestStreamedBlocks(TestBlocks):
    def make(self, folder):
        if not (folder / "cmt.npz").exists():
            np.savez_compressed(folder / "cmt.npz", **small_table())
        table = open_table(str(folder / "cmt.npz"), coverage(folder / "cov.npz", (40,) * 12))
        return Blocks(table, [0, 1, 3, 5], rows=9, features=True)

    def change(self, folder):
        np.savez_compressed(folder / "cmt.npz", **small_table(quals=small_table()["quals"] * 2))
        return True


class TestMembers(SourceSuite):
    def make(self, folder):
        if not (folder / "cmt.npz").exists():
            np.savez_compressed(folder / "cmt.npz", **small_table())
            coverage(folder / "cov.npz", (40,) * 12)
        return Members(open_table(str(folder / "cmt.npz"), str(folder / "cov.npz")))

    def items(self, source, start, stop):
        return [(name, str(array)) for name, array in source.read(start, stop)]


class TestAddUp(ReducerSuite):
    def make(self):
        return AddUp()

    def result_of(self, item):
        return {"kept": item % 3, "zero": np.arange(4) * item}


class TestGatherFacts(ReducerSuite):
    count = 12

    def make(self):
        return GatherFacts()

    def result_of(self, item):
        return {f"member-{item}": {"offset": item, "medians": np.arange(item) / 2}}


def test_the_first_filter_counts_positions_without_reads():
    counts = np.zeros((2, 8, 3), np.int32)
    counts[0, 0, 0], counts[0, 5, 1] = 4, 2  # A in one sample, T in another, none in the third
    counts[1, 2, :2] = 3  # C in both: nothing varies
    keep, zero = np.zeros(2, bool), np.zeros(3, np.int64)
    kernel.first_filter(counts, keep, zero)
    assert keep.tolist() == [True, False]
    assert zero.tolist() == [0, 0, 1]
