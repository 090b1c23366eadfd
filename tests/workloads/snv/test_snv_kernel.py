"""The arithmetic of snv against slow, independent ways: medians, carriers, reads, t-test, network."""

import io
import json
import math
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import BadInput
from penstock.workloads.snv import kernel
from penstock.workloads.snv.jobs import MakeFeatures, Predict
from penstock.workloads.snv.kernel import statistics
from penstock.workloads.snv.network import sparse
from penstock.workloads.snv.network.dense import DenseNetwork
from penstock.workloads.snv.network.weights import SHAPES, load_weights
from penstock.workloads.snv.reading.arrays import open_arrays
from penstock.workloads.snv.reading.medians import medians
from penstock.workloads.snv.results import final
from penstock.workloads.snv.table import Block

sys.path.insert(0, str(Path(__file__).parent))
import slow

sys.path.pop(0)


def random_weights(seed=0):
    """Weights of the right shapes after which about a tenth of the values are left."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, shape in SHAPES.items():
        scale = 0.05 if name.endswith("bias") else 1 / math.sqrt(np.prod(shape[1:]))
        made[name] = rng.normal(-0.02 if "conv" in name else 0, scale, shape).astype(np.float32)
    return made


def random_counts(rng, positions, samples, most=12):
    counts = rng.integers(0, most, (positions, 8, samples)).astype(np.int32)
    counts[rng.random(counts.shape) < 0.55] = 0
    counts[:, :, rng.random(samples) < 0.2] = 0
    return counts


# ------------------------------------------------------------------ medians


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    samples=st.integers(1, 5),
    length=st.integers(1, 9),
    most=st.sampled_from([3, 40, 2047, 2048, 2049, 10**5, 2**31, 2**61]),
    order=st.sampled_from("CF"),
)
def test_medians_are_exact_however_large_the_values(tmp_path_factory, seed, samples, length, most, order):
    rng = np.random.default_rng(seed)
    coverage = rng.integers(0, most, (samples, length), dtype=np.uint64)
    coverage[rng.random(coverage.shape) < 0.3] = rng.integers(0, 5)
    path = tmp_path_factory.mktemp("m") / "cov.npz"
    np.savez_compressed(path, all_coverage_per_bp=np.asarray(coverage, order=order))
    columns = np.flatnonzero(rng.random(length) < 0.5)
    found, seen = medians(open_arrays(str(path))["all_coverage_per_bp"], columns)
    assert found.tolist() == np.median(coverage, axis=1).tolist()
    assert seen.tolist() == coverage[:, columns].tolist()


# ------------------------------------------------------------------ rules


def test_carriers_of_the_second_allele():
    counts = random_counts(np.random.default_rng(1), 60, 7)
    carried = np.zeros(7, np.int64)
    kernel.carriers(counts, carried)
    assert carried.tolist() == slow.carriers(counts)
    assert carried.sum() > 0


def test_ties_are_cells_of_which_the_major_base_is_a_matter_of_order():
    counts = random_counts(np.random.default_rng(2), 60, 7, most=4)
    both = counts[:, :4] + counts[:, 4:]
    top = both.max(axis=1)
    ties = ((both == top[:, None]).sum(axis=1) > 1) & (top > 0)
    assert kernel.count_ties(counts) == ties.sum() > 0


@pytest.mark.parametrize("samples", [6, 23])
def test_support_by_reads_is_the_rule(samples):
    rng = np.random.default_rng(samples)
    counts = random_counts(rng, 150, samples, most=9)
    counts[:75, 1:4, : samples - 2] = 0  # most samples are nearly pure at half of the positions
    counts[:75, 5:8, : samples - 2] //= 4
    counts[:75, 0, : samples - 2] += 90
    block = Block(np.arange(150), counts, counts[:, 0], counts[:, :2])
    codes, supported = final.read_support(block)
    assert supported.tolist() == [slow.supported(position) for position in counts.tolist()]
    assert 0 < supported.sum() < 150
    assert codes[3].tolist() == [
        slow.major([plane[s] for plane in counts[3].tolist()]) for s in range(samples)
    ]


def test_the_t_distribution_by_its_closed_forms():
    # Two-sided p for 1, 2 and 4 degrees of freedom.
    for t in (0.01, 0.3, 1.0, 2.5, 12.0, 400.0):
        share = t / math.sqrt(t * t + 4)
        for freedom, p in (
            (1, 1 - 2 / math.pi * math.atan(t)),
            (2, 1 - t / math.sqrt(2 + t * t)),
            (4, 1 - (share * (1 + (1 - share**2) / 2))),
        ):
            found = statistics.incomplete_beta.py_func(freedom / 2, 0.5, freedom / (freedom + t * t))
            assert found == pytest.approx(p, rel=1e-9, abs=1e-13)


# ------------------------------------------------------------------ the network


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_the_network_gives_what_plain_convolutions_give(share):
    rng = np.random.default_rng(3)
    weights = random_weights()
    for samples in (1, 2, 9):
        tensor = rng.normal(0, 3, (4, samples, 8, 4)).astype(np.float32)
        tensor[rng.random(tensor.shape) >= share] = 0
        found = sparse.probabilities(tensor, weights)
        assert found.dtype == np.float32
        assert found.tolist() == pytest.approx([slow.network(x, weights) for x in tensor], abs=1e-6)


@pytest.mark.parametrize("samples", [1, 5, 300])
def test_positions_that_are_not_sparse_give_what_plain_convolutions_give(samples):
    weights = {name: np.abs(each) for name, each in random_weights(1).items()}
    weights["fc2.weight"] *= np.where(np.arange(64) % 2, 1, -1).astype(np.float32) / samples
    tensor = np.abs(np.random.default_rng(5).normal(0, 1, (3, samples, 8, 4))).astype(np.float32)
    dense = DenseNetwork(weights)
    # What is left after the rectifiers of the second layer is all of it.
    rows = dense._layer(1, dense._layer(0, np.ones((9, 10, 4), np.float32), 0, 9), 0, 9)
    assert (rows > 0).all()
    found = sparse.probabilities(tensor, weights)
    assert found.tolist() == pytest.approx([slow.network(x, weights) for x in tensor], abs=1e-6)


@pytest.mark.parametrize("kind", ["sparse", "filled", "some of each"])
def test_a_position_has_the_same_bits_in_any_company(kind, monkeypatch):
    tensor = np.random.default_rng(4).normal(0, 2, (7, 5, 8, 4)).astype(np.float32)
    weights = random_weights()
    if kind != "sparse":
        # All that a value reaches is left; where only the first sample has values, that is not much.
        weights = {name: np.abs(each) * (0 if "conv" in name and "bias" in name else 1)
                   for name, each in weights.items()}  # fmt: skip
        tensor = np.abs(tensor)
        tensor[7 if kind == "filled" else 3 :, 1:] = 0
    by_products = []
    pooled = DenseNetwork.pooled
    monkeypatch.setattr(DenseNetwork, "pooled", lambda self, x: by_products.append(1) or pooled(self, x))
    together = sparse.probabilities(tensor, weights)
    assert len(by_products) == {"sparse": 0, "filled": 7, "some of each": 3}[kind]
    alone = [sparse.probabilities(tensor[i : i + 1], weights)[0] for i in range(7)]
    assert together.tolist() == [float(each) for each in alone]
    # Threads share positions out, and nothing else.
    predict = Predict(MakeFeatures(np.ones(5), np.ones(5, bool)), weights, 7)
    for threads in (2, 3, 9):
        assert predict._probabilities(tensor, threads).tolist() == together.tolist()


# ------------------------------------------------------------------ weights


class Storage:
    def __init__(self, array, key):
        self.array, self.key = array, key


def save_like_torch(path, arrays, monkeypatch, extra=None):
    """A state dict as ``torch.save`` writes it, made without torch."""
    fake, tensors = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*given):
        raise AssertionError("never called")

    class FloatStorage:
        pass

    for each, name in ((_rebuild_tensor_v2, "torch._utils"), (FloatStorage, "torch")):
        each.__module__, each.__qualname__ = name, each.__name__
    fake.FloatStorage, fake._utils, tensors._rebuild_tensor_v2 = FloatStorage, tensors, _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setitem(sys.modules, "torch._utils", tensors)
    from collections import OrderedDict

    class Tensor:
        def __init__(self, storage):
            self.storage = storage

        def __reduce__(self):
            array = self.storage.array
            stride = tuple(step // array.itemsize for step in array.strides)
            given = (self.storage, 0, array.shape, stride, False, OrderedDict())
            return _rebuild_tensor_v2, given

    class Pickler(pickle.Pickler):
        def persistent_id(self, each):
            if isinstance(each, Storage):
                return ("storage", FloatStorage, each.key, "cpu", each.array.size)
            return None

    storages = {name: Storage(array, str(i)) for i, (name, array) in enumerate(arrays.items())}
    state = OrderedDict((name, Tensor(storage)) for name, storage in storages.items())
    if extra is not None:
        state["extra"] = extra
    text = io.BytesIO()
    Pickler(text, protocol=2).dump(state)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", text.getvalue())
        for storage in storages.values():
            archive.writestr(f"model/data/{storage.key}", storage.array.tobytes())


def same(found, weights):
    return list(found) == list(weights) and all(np.array_equal(found[k], weights[k]) for k in weights)


def test_weights_of_three_kinds_of_file(tmp_path, monkeypatch):
    weights = random_weights(7)
    save_like_torch(tmp_path / "model.pt", weights, monkeypatch)
    np.savez(tmp_path / "model.npz", **weights)
    header, data = {"__metadata__": {"by": "hand"}}, b""
    for name, array in weights.items():
        header[name] = {
            "dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes],
        }  # fmt: skip
        data += array.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    for name in ("model.pt", "model.npz", "model.safetensors"):
        assert same(load_weights(str(tmp_path / name)), weights), name


def test_a_pickle_that_asks_for_more_is_refused(tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return print, ("sprung",)

    save_like_torch(tmp_path / "trap.pt", random_weights(), monkeypatch, extra=Trap())
    with pytest.raises(BadInput, match="not part of a state dict"):
        load_weights(str(tmp_path / "trap.pt"))


def test_weights_that_are_none(tmp_path):
    def refused(match, **arrays):
        np.savez(tmp_path / "w.npz", **arrays)
        with pytest.raises(BadInput, match=match):
            load_weights(str(tmp_path / "w.npz"))

    weights = random_weights()
    refused("has no fc2.bias", **{k: v for k, v in weights.items() if k != "fc2.bias"})
    refused(r"conv1.bias is float32 of shape \(31,\)", **weights | {"conv1.bias": np.zeros(31, "f4")})
    refused("holds NaN", **weights | {"fc2.bias": np.full(1, np.nan, "f4")})
    for name, content in (("text", b"not weights at all"), ("cut", b"PK\x03\x04" + bytes(50))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput):
            load_weights(str(tmp_path / name))
    with pytest.raises(BadInput, match="cannot be read"):
        load_weights(str(tmp_path / "absent.pt"))
    for read in (load_weights, open_arrays):
        with pytest.raises(BadInput, match="cannot be read: no regular file"):
            read("/dev/null")
