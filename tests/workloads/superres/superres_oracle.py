"""The oracle: volumes of four synthetic patients, and what an independent float64 program made of them."""

import gzip
import json
import os
import struct
from pathlib import Path

import numpy as np

from penstock import proc
from penstock.workloads.superres.settings import Settings

DATA = Path(__file__).parent / "data"
EXPECTED = json.loads((DATA / "expected.json").read_text())["synthA"]
MANIFEST = json.loads((DATA / "synthA" / "manifest.json").read_text())
MODELS = ("BSPLINE", "ECLARE", "SMORE", "UNIRES")
CASES = [name for name, case in EXPECTED.items() if isinstance(case, dict) and "config" in case]
SHAPE = (40, 48, 36)


def small_budget():
    """Bytes in which a run of two workers just fits beside what the tests before it left in this process."""
    return proc.held(os.getpid()) + (384 << 20)


def settings_of(case):
    """The published program's options of a case, as ours."""
    c = EXPECTED[case]["config"]
    return Settings(
        patch=c["patch_size"], stride=c["stride"], window=c["mixing_window"], simplex=c["simplex"],
        ridge=c["lambda_ridge"], tau=c["laplacian_tau"], lambda_edge=c["lambda_edge"],
        edge_power=c["edge_power"], lambda_grad=c["lambda_grad"], operator=c["grad_operator"],
        normalize=c["normalize"], mask="positive", calibration="truth", same_grid="index",
        ssim_axis="axial", upstream=True,
    )  # fmt: skip


def published(metrics):
    """Of the oracle, by the names that we give them."""
    return {"ssim_slices" if name == "ssim" else name: value for name, value in metrics.items()}


def paths_of(pid):
    """The experts' volumes, then the truth."""
    fold = MANIFEST["folds"][0]
    entry = {**fold["train"], **fold["test"]}[pid]
    return [DATA / entry[model]["3mm"]["t1c"] for model in (*MODELS, "HR")]


def read_volume(path):
    """(raw header, voxels as stored) of a little-endian NIfTI file, read by other code than ours."""
    raw = Path(path).read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    dim = struct.unpack_from("<8h", raw, 40)
    kind = {4: "<i2", 16: "<f4"}[struct.unpack_from("<h", raw, 70)[0]]
    shape = dim[1 : 1 + dim[0]]
    return raw[:348], np.frombuffer(raw[352:], kind).reshape(shape, order="F")


def cut(path):
    """The middle of a volume, as of :func:`read_volume`."""
    header, voxels = read_volume(path)
    return header, voxels[10:26, 12:30, 8:22].copy()


def write_volume(path, header, voxels, order="<", scale=(1.0, 0.0), shape=None):
    """A NIfTI file with the header's geometry."""
    code, bits = {"i2": (4, 16), "f4": (16, 32), "f8": (64, 64), "u1": (2, 8)}[voxels.dtype.str[1:]]
    raw = bytearray(header)
    dims = shape or voxels.shape
    struct.pack_into("<8h", raw, 40, len(dims), *dims, *[1] * (7 - len(dims)))
    struct.pack_into("<2h", raw, 70, code, bits)
    struct.pack_into("<3f", raw, 108, 352, *scale)
    if order == ">":
        fields = "i10s18sihcB8h3fhhhh8f3fhcB4f2i80s24s2h6f12f16s4s"
        raw = struct.pack(">" + fields, *struct.unpack("<" + fields, raw))
    body = voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = bytes(raw) + bytes(4) + body
    path.write_bytes(gzip.compress(whole, 1) if path.suffix == ".gz" else whole)
