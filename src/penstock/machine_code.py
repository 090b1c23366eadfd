"""Functions that numba compiles, kept as machine code and called without numba.

numba's own cache spares the compiling, but reading it takes an import of numba and its registries: 0.6 to 0.9
CPU s, more than counting a hundred megabytes. Here the object file of a function is kept, in the folders
where numba keeps its own, and llvmlite, which takes a tenth of that, links it into the process.

Covers functions whose arguments are contiguous arrays of numbers and whole numbers, which allocate nothing
and raise nothing. They are called as numba calls its own (``numba.core.callconv.CPUCallConv``): an array is
its fields, of which the owner is null. What cannot be kept so, as numba or llvmlite is too old, is left to
numba's own cache.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from penstock import compiling, files
from penstock.errors import PenstockError

_FORMAT = b"1"
_ASKED = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX", "NUMBA_OPT")
"""What users may set, and the compiled code follows."""
_linked: list[Any] = []
"""What machine code lies in, for as long as the process lives."""


class Kind(NamedTuple):
    """What an argument is.

    Attributes:
        name: of NumPy's type.
        ndim: dimensions of an array; 0 for a number.
        constant: it is not written to.
    """

    name: str
    ndim: int
    constant: bool


class Function:
    """A function of a module that numba compiles.

    Args:
        module: dotted name of the module, which is imported only where the function is compiled.
        name: the function, not decorated.
        arguments: what each is: ``"int64"`` or ``"uint64"``; ``"uint8[::1]"`` or ``"int64[:,::1]"`` for an
            array, with ``"const "`` before it if it is not written to.
        returns: ``"int64"``, or nothing.
        needs: modules whose text the code follows from, too.
    """

    def __init__(
        self, module: str, name: str, arguments: list[str], *, returns: str = "", needs: tuple[str, ...] = ()
    ) -> None:
        self._module, self._name, self._returns, self._needs = module, name, returns, needs
        self._kinds = [_kind(each) for each in arguments]
        self._entry: Any = None
        self._by_numba: Any = None

    def __repr__(self) -> str:
        return f"{self._module}.{self._name}"

    @property
    def loaded(self) -> bool:
        """Whether its code is at hand."""
        return self._entry is not None or self._by_numba is not None

    def __call__(self, *given: Any) -> int:
        """Call it; 0 where it returns nothing.

        Raises:
            TypeError: an argument is not what it should be.
        """
        self.load()
        if self._by_numba is not None:
            numbers = [
                value if kind.ndim else np.dtype(kind.name).type(value)
                for kind, value in zip(self._kinds, given, strict=True)
            ]
            found = self._by_numba(*numbers)
            return int(found) if self._returns else 0
        flat: list[int] = []
        for kind, value in zip(self._kinds, given, strict=True):
            flat += _fields(kind, value) if kind.ndim else [int(value)]
        result, error = ctypes.c_int64(), ctypes.c_void_p()
        if self._entry(ctypes.byref(result), ctypes.byref(error), *flat):
            raise PenstockError(f"{self} failed, which compiled code of ours never does")
        return result.value if self._returns else 0

    def note(self) -> str:
        """What to say before it is compiled: empty if its code is kept. Loads nothing."""
        if self.loaded:
            return ""
        begins = f"{self._stem()}."
        for folder in compiling.folders(self._file()):
            try:
                if any(name.startswith(begins) for name in os.listdir(folder)):
                    return ""
            except OSError:
                continue
        return compiling.note(self._file(), self._name)

    def load(self) -> None:
        """Have the code at hand, compiled if it is not kept."""
        if self.loaded:
            return
        kept = f"{self._stem()}.{_processor()}.o"
        folders = compiling.folders(self._file())
        code = next((code for folder in folders if (code := _read(folder / kept))), None)
        if code is None:
            code, self._by_numba = self._compiled()
            if code is None:
                return
            _write(folders, kept, code)
        sizes = [3 + 2 + 2 * kind.ndim if kind.ndim else 1 for kind in self._kinds]
        words = [ctypes.c_int64] * sum(sizes)
        kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *words)
        self._entry = kind(_address(code, self._symbol()))

    def _file(self) -> Path:
        return _file_of(self._module)

    def _symbol(self) -> str:
        return f"penstock_{self._name}"

    def _stem(self) -> str:
        """The name of its file, but for the processor."""
        key = hashlib.sha256(_FORMAT + sys.version.encode() + repr((self._kinds, self._returns)).encode())
        for package in ("numba", "llvmlite", "numpy"):
            key.update(compiling.version_of(package).encode())
        for module in (self._module, *self._needs, __name__):
            key.update(hashlib.sha256(_file_of(module).read_bytes()).digest())
        return f"{self._file().stem}.{self._name}-{key.hexdigest()[:24]}"

    def _compiled(self) -> tuple[bytes | None, Any]:
        """Its object file; or, where there is none to be had, the function as numba calls it and keeps it."""
        import llvmlite.binding as llvm
        from numba import njit, types

        function = getattr(import_module(self._module), self._name)
        arguments = [
            types.Array(getattr(types, kind.name), kind.ndim, "C", readonly=kind.constant)
            if kind.ndim
            else getattr(types, kind.name)
            for kind in self._kinds
        ]
        signature = getattr(types, self._returns or "void")(*arguments)
        by_numba = njit(signature, cache=True, nogil=True)
        if compiling.is_kept(self._file(), self._name) or not hasattr(llvm, "create_new_module_pass_manager"):
            return None, by_numba(function)
        dispatcher = njit(signature, nogil=True)(function)
        try:
            code = _object_of(dispatcher.overloads[tuple(arguments)], self._symbol())
        except Exception:  # it is had from what numba calls private: another version may have no such thing
            code = None
        return code, by_numba(function) if code is None else None


def _kind(told: str) -> Kind:
    name, bracket, shape = told.removeprefix("const ").partition("[")
    if bracket and not shape.endswith("::1]"):
        raise ValueError(f"{told!r}: arrays are contiguous, as in 'int64[:,::1]'")
    if not bracket and name not in ("int64", "uint64"):
        raise ValueError(f"{told!r}: numbers are int64 or uint64")
    return Kind(name, shape.count(",") + 1 if bracket else 0, told.startswith("const "))


def _fields(kind: Kind, array: Any) -> list[int]:
    """An array as numba passes it on: owner, parent, number and size of items, place, shape, strides."""
    fits = isinstance(array, np.ndarray) and array.dtype == kind.name and array.ndim == kind.ndim
    if not fits or not array.flags.c_contiguous or not (kind.constant or array.flags.writeable):
        raise TypeError(f"an array {kind} is expected, not {getattr(array, 'dtype', type(array))}")
    place = array.__array_interface__["data"][0]
    return [0, 0, array.size, array.itemsize, place, *array.shape, *array.strides]


def _file_of(module: str) -> Path:
    found = find_spec(module)
    if found is None or found.origin is None:
        raise PenstockError(f"the module {module} is not there")
    return Path(found.origin)


# ------------------------------------------------------------------ object files


def _processor() -> str:
    """What tells the code of one kind of processor from that of another."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features().flatten()
    told = (llvm.get_process_triple(), llvm.get_host_cpu_name(), features, *map(os.environ.get, _ASKED))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _object_of(compiled: Any, symbol: str) -> bytes | None:
    """The object file of a function and what it calls; None if it needs what only numba has."""
    import llvmlite.binding as llvm
    from numba.core.registry import cpu_target

    machine = cpu_target.target_context.codegen()._tm
    module = llvm.parse_assembly(str(compiled.library._final_module))
    # Arrays have no owner here, so there is none to end.
    module.link_in(llvm.parse_assembly("define void @NRT_MemInfo_call_dtor(ptr %owner) { ret void }"))
    for function in module.functions:
        if function.name == compiled.fndesc.llvm_func_name:
            function.name = symbol
        elif not function.is_declaration:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    outside = [each.name for each in (*module.functions, *module.global_variables) if each.is_declaration]
    known = ("llvm.", "memcpy", "memmove", "memset")
    if not all(name.startswith(known) for name in outside):
        return None
    code: bytes = machine.emit_object(module)
    return code


def _address(code: bytes, symbol: str) -> int:
    """Link an object file into this process; where its function is."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        codemodel="jitdefault", jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _linked.append(engine)
    address: int = engine.get_function_address(symbol)
    if not address:
        raise PenstockError(f"{symbol} is not in its own machine code")
    return address


def _read(path: Path) -> bytes | None:
    """What is kept, if it is whole."""
    try:
        held = path.read_bytes()
    except OSError:
        return None
    code = held[32:]
    return code if code and hashlib.sha256(code).digest() == held[:32] else None


def _write(folders: tuple[Path, ...], name: str, code: bytes) -> None:
    """Keep it in the first folder that takes it; where none does it is compiled again the next time."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with files.atomic(folder / name, durable=False) as draft:
                draft.write_bytes(hashlib.sha256(code).digest() + code)
        except OSError:
            continue
        return
