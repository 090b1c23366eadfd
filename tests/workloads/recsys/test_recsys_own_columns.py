"""Column chunks of ids and numbers: every value, null and statistic as pyarrow writes and reads them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.workloads.recsys.ranking.looked_up import write_part
from penstock.workloads.recsys.ranking.pages import Numbered, as_bits, as_runs

DRAW = np.random.default_rng(5)
WIDE = [0, 2**63, 2**64 - 1, 5, 5]
COLUMNS = {
    "runs of texts": (np.repeat(["b", "a", "", "b", "ä"], 900), pa.string(), True),
    "texts that differ": ([f"text {number}" for number in range(4500)], pa.string(), True),
    "texts of one length": (DRAW.integers(1000, 9999, 4500).astype(str), pa.string(), True),
    "long texts": (["x" * 5000, "y"] * 2250, pa.string(), True),
    "null texts": ([None, "a", "b", None, "b"] * 900, pa.string(), True),
    "all null": ([None] * 4500, pa.int64(), True),
    "null ids": ([None, 7, 8, None, -7] * 900, pa.int64(), True),
    "ids in runs": (np.repeat(DRAW.integers(0, 10**12, 375), 12), pa.int64(), True),
    "far apart": ([-(2**63), 2**63 - 1, 0, 0, 1] * 900, pa.int64(), True),
    "unsigned": (WIDE * 900, pa.uint64(), True),
    "ids that differ": (DRAW.permutation(4500), pa.int64(), True),
    "a category": (DRAW.integers(-1, 3, 4500), pa.int32(), False),
    "one value": (np.full(4500, -1), pa.int32(), False),
    "floats": (DRAW.random(4500), pa.float32(), False),
    "zeros": ([-0.0, 0.0, 1.0] * 1500, pa.float32(), False),
    "not a number": ([np.nan, 1.0, 2.0] * 1500, pa.float32(), False),
    "times": (pa.array([None, 1, 2] * 1500, pa.timestamp("us")), pa.timestamp("us"), True),
}


@pytest.mark.parametrize("compression", [None, "lz4"])
@pytest.mark.parametrize("rows", [4500, 13, 1])
def test_values_and_statistics_are_those_of_pyarrow(tmp_path, rows, compression):
    schema = pa.schema([pa.field(name, kind, nullable) for name, (_, kind, nullable) in COLUMNS.items()])
    arrays = [pa.array(values, kind)[:rows] for values, kind, _ in COLUMNS.values()]
    table = pa.table(arrays, schema=schema)
    floats = [name for name, (_, kind, _) in COLUMNS.items() if pa.types.is_floating(kind)]
    how = {
        "compression": compression, "write_statistics": schema.names, "use_byte_stream_split": floats,
        "use_dictionary": [name for name in schema.names if name not in {*floats, "times"}],
    }  # fmt: skip
    write_part(tmp_path / "ours", table, [], schema, how)
    pq.write_table(table, tmp_path / "theirs", **how | {"compression": compression or "none"})
    found = pq.read_table(tmp_path / "ours")
    assert found.schema.equals(schema)
    for name in schema.names:
        if name == "not a number":
            np.testing.assert_array_equal(found[name].to_numpy(), table[name].to_numpy())
            continue
        assert found[name].equals(table[name]), name
    ours, theirs = (pq.read_metadata(tmp_path / name).row_group(0) for name in ("ours", "theirs"))
    for number, name in enumerate(schema.names):
        mine, other = ours.column(number).statistics, theirs.column(number).statistics
        assert mine.null_count == other.null_count, name
        if name != "not a number":  # pyarrow leaves it out, and tells of the others
            assert mine.has_min_max == other.has_min_max, name
        if mine.has_min_max:
            assert (mine.min, mine.max) == (other.min, other.max), name


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.lists(st.integers(0, 2**30 - 1), min_size=1, max_size=60), st.integers(1, 300))
def test_numbers_come_back_from_runs_and_bits(width, numbers, each):
    values = np.repeat(np.array(numbers) % (1 << width), each)
    for made in (as_bits(values, width), as_runs(values, width)):
        assert _read(made, width, len(values)) == values.tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50), st.integers(1, 4))
def test_numbers_stand_for_the_values(values, each):
    given_values = np.repeat(np.array(values, np.int64), each)
    found = Numbered.of_any(given_values)
    assert found.different.tolist() == sorted(set(values))
    assert found.different[found.numbers].tolist() == given_values.tolist()


def _read(data, width, count):
    """Numbers of a page, by the format's words."""
    found, at = [], 0
    while len(found) < count:
        head = shift = 0
        while True:
            byte = data[at]
            at += 1
            head |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if head & 1:
            size = (head >> 1) * width
            bits = int.from_bytes(data[at : at + size], "little")
            found += [bits >> (width * place) & ((1 << width) - 1) for place in range((head >> 1) * 8)]
        else:
            size = (width + 7) // 8
            found += [int.from_bytes(data[at : at + size], "little")] * (head >> 1)
        at += size
    return found[:count]


@given(st.lists(st.integers(0, 255), max_size=40), st.sampled_from([1, 2, 4, 8]))
def test_narrow_numbers_are_packed_as_wide_ones_are(numbers, width):
    """Beside bits that are packed one by one."""
    small = np.array(numbers, np.uint8) & np.uint8((1 << width) - 1)
    groups = -(-len(small) // 8)
    filled = np.append(small, np.zeros(8 * groups - len(small), np.uint8))
    bits = np.unpackbits(filled[:, None], axis=1, bitorder="little")[:, :width]
    plain = np.packbits(bits.ravel(), bitorder="little").tobytes()
    assert as_bits(small, width)[1 if groups < 64 else 2 :] == plain
    assert as_bits(small.astype(np.int64), width) == as_bits(small, width)


@given(st.lists(st.integers(-300, 300), min_size=1, max_size=60), st.sampled_from([np.int32, np.int64]))
def test_categories_are_numbered_as_any_integers(numbers, kind):
    values = np.array(numbers, kind)
    found = Numbered.of_any(values)
    assert found.different.dtype == kind
    assert np.array_equal(found.different, np.unique(values))
    assert np.array_equal(found.different[found.numbers], values)
