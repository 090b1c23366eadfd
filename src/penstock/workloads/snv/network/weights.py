"""The weights of the network, from a ``torch.save`` state dict, an .npz or a safetensors file.

Nothing is unpickled: a state dict's pickle is read by a machine that knows only what such a file is made of,
numbers, names, tuples, dicts and the tensors themselves, and refuses everything else.
"""

from __future__ import annotations

import json
import pickletools
import struct
import zipfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import foreign
from penstock.errors import BadInput
from penstock.foreign_arrays import load_npz

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPES = {
    "conv1.weight": (32, 4, 3, 4), "conv1.bias": (32,),
    "conv2.weight": (64, 32, 2, 2), "conv2.bias": (64,),
    "conv3.weight": (128, 64, 2, 2), "conv3.bias": (128,),
    "fc1.weight": (64, 128), "fc1.bias": (64,),
    "fc2.weight": (1, 64), "fc2.bias": (1,),
}  # fmt: skip
"""Of the tensors of the network."""
_DTYPES = {
    "torch FloatStorage": "<f4", "torch DoubleStorage": "<f8", "torch HalfStorage": "<f2",
}  # fmt: skip
_SAFE_DTYPES = {"F32": "<f4", "F64": "<f8", "F16": "<f2"}
_MOST = 64 << 20
"""Bytes of a file of weights; those of this network are 210 KB."""


def load_weights(path: str) -> dict[str, NDArray[np.float32]]:
    """The ten tensors of the network, float32.

    Raises:
        BadInput: a file of another kind, or of another network, or one that asks for more than tensors.
    """
    try:
        size = Path(path).stat().st_size
        with foreign.opened(path) as file:
            start = file.read(9)
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", file=path) from error
    if size > _MOST:
        raise BadInput(f"is {size} bytes; the weights of this network are 210,000", file=path)
    try:
        if start[:2] == b"PK":
            found = _read_zip(path)
        elif start[8:9] == b"{":
            found = _read_safetensors(path)
        else:
            raise BadInput("is neither a torch.save file, .npz nor safetensors", file=path)
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # of zipfile, pickletools, each compression, or what they make of it
        raise BadInput(f"is no whole file of weights: {error}", file=path) from error
    return _checked(found, path)


def _checked(found: dict[str, NDArray[Any]], path: str) -> dict[str, NDArray[np.float32]]:
    missing = [name for name in SHAPES if name not in found]
    if missing:
        raise BadInput(
            f"has no {', '.join(missing)}: it is of another network; it has {', '.join(found) or 'nothing'}",
            file=path,
        )
    weights = {}
    for name, shape in SHAPES.items():
        array = found[name]
        if array.shape != shape or array.dtype.kind != "f":
            raise BadInput(
                f"{name} is {array.dtype} of shape {array.shape}; floats of {shape} were expected", file=path
            )
        if not np.isfinite(array).all():
            raise BadInput(f"{name} holds NaN or infinity", file=path)
        weights[name] = np.ascontiguousarray(array, np.float32)
    return weights


def _read_zip(path: str) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _MOST:
            raise ValueError("it inflates to more than 64 MiB")
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if not pickles:
            return load_npz(path, _MOST, needed=SHAPES)
        root = pickles[0].removesuffix("data.pkl")
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
        if order != b"little":
            raise ValueError(f"its numbers are {order.decode('ascii', 'replace')}-endian")
        tensors = _Machine(archive.read(pickles[0])).run()
        return {
            name: each.read(archive, root)
            for name, each in tensors.items()
            if isinstance(name, str) and isinstance(each, _Tensor)
        }


def _read_safetensors(path: str) -> dict[str, NDArray[Any]]:
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    found = {}
    for name, each in header.items():
        if name == "__metadata__" or each["dtype"] not in _SAFE_DTYPES:
            continue
        start, stop = each["data_offsets"]
        values = np.frombuffer(data[8 + length + start : 8 + length + stop], _SAFE_DTYPES[each["dtype"]])
        found[name] = values.reshape(each["shape"])
    return found


# ------------------------------------------------------------------ a state dict's pickle


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: tuple[Any, ...]
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self, archive: zipfile.ZipFile, root: str) -> NDArray[Any]:
        _, kind, key, _, count = self.storage
        data = np.frombuffer(archive.read(f"{root}data/{key}"), _DTYPES[kind.name])
        reach = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        if len(data) != count or not 0 <= reach < count or min((self.offset, *self.stride)) < 0:
            raise ValueError(f"the storage {key} does not hold its tensor")
        if prod(self.shape) > count:
            raise ValueError(f"a tensor of shape {self.shape} in a storage of {count}")
        steps = tuple(step * data.itemsize for step in self.stride)
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, steps, writeable=False).copy()


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


_KNOWN = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", *_DTYPES}
_MARK = object()
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINFLOAT",
}  # fmt: skip


class _Machine:
    """Reads the pickle of a state dict. Any name or operation that is not listed is refused."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> dict[Any, Any]:
        for operation, argument, _ in pickletools.genops(self._data):
            name = operation.name
            if name in ("PROTO", "FRAME"):
                continue
            if name == "STOP":
                break
            self._do(name, argument)
        found = self._stack.pop()
        if not isinstance(found, dict):
            raise ValueError("it holds no dict of tensors")  # noqa: TRY004 - of the file, not of an argument
        return found

    def _do(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name in ("SETITEM", "SETITEMS"):
            pairs = [stack.pop() for _ in range(2)][::-1] if name == "SETITEM" else self._to_mark()
            stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
        else:
            self._make(name, argument)

    def _make(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name == "STACK_GLOBAL":
            last, first = stack.pop(), stack.pop()
            argument = f"{first} {last}"
        if name in ("GLOBAL", "STACK_GLOBAL"):
            if argument not in _KNOWN:
                raise ValueError(f"it asks for {argument!r}, which is not part of a state dict: not read")
            stack.append(_Global(argument))
        elif name == "BINPERSID":
            stack.append(tuple(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_built(function, arguments))
        elif name == "BUILD":  # the versions of the layers
            stack.pop()
        else:
            raise ValueError(f"it holds the operation {name}, which a state dict does not need: not read")

    def _to_mark(self) -> list[Any]:
        at = max(i for i, each in enumerate(self._stack) if each is _MARK)
        taken = self._stack[at + 1 :]
        del self._stack[at:]
        return taken


def _built(function: Any, arguments: tuple[Any, ...]) -> Any:
    if function == _Global("collections OrderedDict") and not arguments:
        return {}
    if function == _Global("torch._utils _rebuild_tensor_v2"):
        storage, offset, shape, stride = arguments[:4]
        return _Tensor(storage, offset, shape, stride)
    raise ValueError("it calls what a state dict does not need: not read")
