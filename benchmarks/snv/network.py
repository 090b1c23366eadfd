"""The network of snv beside torch and onnxruntime: the same positions and weights, one thread each.

    python benchmarks/snv/network.py --model WEIGHTS [--samples 700] [--positions 46] [--json FILE]

Positions are those of ``make_input.py`` (real-like: few activations are left) and, as ``filled``, random ones
under weights without a sign, after which everything is left. torch and onnxruntime (which needs onnx too)
take part where they are installed, each at its best of several batches. Prints a million cells (positions x
samples) a CPU second, and the largest difference of a probability from ours.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import make_input
import numpy as np
from threadpoolctl import threadpool_limits

from penstock.workloads.snv.jobs import MakeFeatures
from penstock.workloads.snv.network import sparse
from penstock.workloads.snv.network.weights import load_weights
from penstock.workloads.snv.reading import medians
from penstock.workloads.snv.table import Blocks, open_table

BATCHES = (1, 2, 8, 64)

Weights = Mapping[str, np.ndarray]
Forward = Callable[[np.ndarray], np.ndarray]


def torch_network(weights: Weights) -> Forward:
    """The network in torch."""
    import torch

    torch.set_num_threads(1)
    w = {name: torch.from_numpy(each) for name, each in weights.items()}

    @torch.inference_mode()
    def forward(x: np.ndarray) -> np.ndarray:
        y = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        for layer, padding in ((1, (1, 1)), (2, (1, 0)), (3, (1, 0))):
            kernel, bias = w[f"conv{layer}.weight"], w[f"conv{layer}.bias"]
            y = torch.relu(torch.nn.functional.conv2d(y, kernel, bias, padding=padding))
        y = torch.relu(y.mean((2, 3)) @ w["fc1.weight"].T + w["fc1.bias"])
        return torch.sigmoid(y @ w["fc2.weight"].T + w["fc2.bias"])[:, 0].numpy()

    return forward


def onnx_network(weights: Weights) -> Forward:
    """The network in onnxruntime."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, name = [], "x"
    for layer, padding in ((1, (1, 1)), (2, (1, 0)), (3, (1, 0))):
        inputs = [name, f"conv{layer}.weight", f"conv{layer}.bias"]
        nodes.append(helper.make_node("Conv", inputs, [f"c{layer}"], pads=[*padding, *padding]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        name = f"r{layer}"
    nodes += [
        helper.make_node("GlobalAveragePool", [name], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc1.weight", "fc1.bias"], ["g1"], transB=1),
        helper.make_node("Relu", ["g1"], ["h"]),
        helper.make_node("Gemm", ["h", "fc2.weight", "fc2.bias"], ["g2"], transB=1),
        helper.make_node("Sigmoid", ["g2"], ["prob"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, "s", 8])
    told = helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["n", 1])
    held = [numpy_helper.from_array(each, name) for name, each in weights.items()]
    graph = helper.make_graph(nodes, "network", [given], [told], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run(None, {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})[0][:, 0]


def contestants(weights: Weights) -> Iterator[tuple[str, Forward]]:
    """Ours first, then those that are installed."""
    yield "penstock", lambda x: sparse.probabilities(x, weights)
    if find_spec("torch"):
        yield "torch", torch_network(weights)
    if find_spec("onnxruntime") and find_spec("onnx"):
        yield "onnxruntime", onnx_network(weights)


def measure(forward: Forward, x: np.ndarray, batch: int) -> tuple[float, np.ndarray]:
    """Cells a CPU second, the best of three, and the answers."""
    best, found = float("inf"), np.empty(0)
    for _ in range(3):
        began = time.process_time()
        found = np.concatenate([forward(x[at : at + batch]) for at in range(0, len(x), batch)])
        best = min(best, time.process_time() - began)
    return x.shape[0] * x.shape[1] / best, found


def real_like(samples: int, positions: int) -> np.ndarray:
    """The tensor of positions of a made table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_input.write(folder, samples, positions)
        table = open_table(str(folder / "cmt.npz"), str(folder / "cov.npz"))
        features = MakeFeatures(medians.medians(table.coverage)[0], np.ones(samples, bool))
        blocks = Blocks(table, features=True, rows=positions)  # read as streams
        return features(blocks.block(0))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=700)
    parser.add_argument("--positions", type=int, default=46)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    threadpool_limits(1)
    weights = load_weights(str(given.model))
    positive = {name: np.abs(each) for name, each in weights.items()}
    random = np.random.default_rng(1).uniform(0, 1, (given.positions, given.samples, 8, 4)).astype("f4")
    rows: list[dict[str, Any]] = []
    print(f"{'data':10} {'network':12} {'batch':>5} {'Mcell/s':>8} {'of ours':>8} {'largest dp':>11}")
    for data, x, used in (
        ("real-like", real_like(given.samples, given.positions), weights), ("filled", random, positive),
    ):  # fmt: skip
        ours: tuple[float, np.ndarray] | None = None
        for name, forward in contestants(used):
            batches = (len(x),) if name == "penstock" else BATCHES
            forward(x[:1])
            trials = [(*measure(forward, x, batch), batch) for batch in batches]
            speed, found, batch = max(trials, key=lambda trial: trial[0])
            ours = ours or (speed, found)
            apart = float(np.abs(found - ours[1]).max())
            rows.append({"data": data, "network": name, "batch": batch, "cells": speed, "apart": apart})
            print(f"{data:10} {name:12} {batch:5} {speed / 1e6:8.3f} {speed / ours[0]:8.2f} {apart:11.1e}")
    if given.json:
        with open(given.json, "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
