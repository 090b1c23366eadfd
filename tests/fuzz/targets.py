"""What reads from outside, each as a function of bytes that may raise nothing but what it says it raises.

``TARGETS`` has a name for each, the function, and files to begin with. They are driven by hypothesis in
``make test`` (a few seconds each, the same every time) and by atheris in ``make fuzz``.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click
import numpy as np
import scipy.sparse as sp
from PIL import Image

from penstock import event_lines, values
from penstock.budget import Budget
from penstock.cli import target
from penstock.engine.decide.estimate import Estimate, Wishes
from penstock.engine.decide.grow import Growth, grown
from penstock.engine.decide.learnt import from_json
from penstock.engine.messages import MeasuredCall
from penstock.errors import BadInput, CannotFit, CannotResume, JournalDamaged, PluginError
from penstock.record import journal, postmortem
from penstock.record.verify import verify
from penstock.report.page import write_page
from penstock.report.report import Report
from penstock.runs import remembering
from penstock.sources.fasta import Fasta
from penstock.workloads.codons import code_map
from penstock.workloads.codons.annotated import GenBank
from penstock.workloads.codons.gff3 import PLACES, Annotated, keep_lines
from penstock.workloads.multimodal.headers import BadImage, read_header
from penstock.workloads.multimodal.images import Drawing, draw
from penstock.workloads.recsys.similar import matrices
from penstock.workloads.snv.network.weights import SHAPES, load_weights
from penstock.workloads.snv.reading.arrays import open_arrays, small
from penstock.workloads.superres.volumes import Planes
from penstock.workloads.superres.weights import Weights

_ENOUGH = 8 << 20
"""Bytes after which a well compressed file has shown that it comes piece by piece."""


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="penstock-fuzz-")


def _sealed(lines: list[bytes]) -> bytes:
    """Lines of a journal with checksums that are right."""
    return b"".join(b"%08x %s\n" % (zlib.crc32(line), line) for line in lines)


def read_journal(data: bytes) -> None:
    """Any file, and any lines with good checksums."""
    with _folder() as name:
        book = Path(name, ".penstock", "job", "journal")
        book.parent.mkdir(parents=True)
        Path(name, ".penstock", "events.jsonl").touch()
        for content in (data, _sealed(data.split(b"\n"))):
            book.write_bytes(content)
            for read in (
                journal.read,
                lambda path: list(journal.receipts(path, "")),
                lambda path: journal.batches_of(path, [0, 1]),
                journal.torn,
            ):
                try:
                    read(book)
                except JournalDamaged:
                    pass
            str(verify(Path(name)))


def read_events(data: bytes) -> None:
    """Nothing is an error; the page and what is said of a death are made of it."""
    with _folder() as name:
        state_dir = Path(name, ".penstock")
        state_dir.mkdir()
        path = state_dir / "events.jsonl"
        path.write_bytes(data)
        write_page(Path(name), event_lines.read(path))
        found = postmortem.of_run(Path(name)), postmortem.examine(event_lines.read(path))
        str(found)


def read_report(data: bytes) -> None:
    """ValueError, or a report in every form."""
    try:
        report = Report.from_json(data.decode(errors="replace"))
    except ValueError:
        return
    for whole in (report, Report.of_stages([report, report])):
        str(whole), whole._repr_html_(), whole.to_json()


def read_value(data: bytes) -> None:
    """ValueError, or a value that is written and read again."""
    try:
        value = values.loads(data)
    except ValueError:
        return
    try:
        values.loads(values.dumps(value))
    except TypeError as error:
        if "too deep" not in str(error):  # it may be deeper than is written
            raise


def read_command(data: bytes) -> None:
    """Nothing of it is run: only read."""
    with _folder() as name:
        path = target.path_of(Path(name))
        path.parent.mkdir()
        path.write_bytes(data)
        try:
            target.read(Path(name))
            target.read_asked(Path(name))
        except (BadInput, CannotResume, PluginError, click.UsageError):
            pass


def read_learnt(data: bytes) -> None:
    """A run that goes by it, or by nothing; a plan for more is made of it."""
    with _folder() as name:
        path = Path(name, "learnt.json")
        path.write_bytes(data)
        learnt = remembering.in_file(path)
        if learnt is None:
            return
        budget = Budget(1 << 30, "a fuzzer")
        with suppress(CannotFit):
            str(grown(learnt, Growth(1e6, 1e6), budget=budget, workers=None, call=None, cores=4))
        estimate = Estimate([0] * 10, batched=bool(learnt.batched), wishes=Wishes(), cores=4, before=learnt)
        for item in range(4):
            str(estimate.plan(budget, learnt.reserved))
            estimate.learn([MeasuredCall(item, item + 1, 1 << 20, 1.0)], 1, 1.0, first=item == 0, seen=0)
        assert from_json(json.loads(json.dumps(learnt.as_json()))) == learnt


def _learnt() -> list[bytes]:
    seen = [[float(n), float(2 * n), n << 20] for n in range(1, 6)]
    told = {
        "schema": 1, "key": "0" * 32, "observations": seen, "firsts": [5 << 20], "batched": 3, "memory": 0,
        "threads": 2, "stretches": 0, "call": 3, "items": 100, "mean_hint": 1.5, "largest_hint": 3.0,
        "seconds_per_item": 0.1, "reserved": dict.fromkeys(
            ("parent", "backend", "worker", "results", "others"), 20 << 20
        ),
    }  # fmt: skip
    return [json.dumps(told).encode()]


def read_fasta(data: bytes) -> None:
    """Plain or compressed, by its first bytes."""
    with _folder() as name:
        path = Path(name, "x")
        path.write_bytes(data)
        try:
            source = Fasta(str(path))
            left = _ENOUGH
            for block in source.read(0, len(source)):
                for piece in block:
                    assert len(piece) <= 256 << 10
                    left -= len(piece)
                    if left < 0:
                        return
        except BadInput:
            pass


def read_npz(data: bytes) -> None:
    """Arrays of NumPy, described and read as streams."""
    with _folder() as name:
        path = Path(name, "x.npz")
        path.write_bytes(data)
        try:
            for array in open_arrays(str(path)).values():
                left = _ENOUGH
                for piece in array.pieces():
                    left -= piece.nbytes
                    if left < 0:
                        break
                else:
                    small(array)
        except BadInput:
            pass


def read_nifti(data: bytes) -> None:
    """A header, and planes while there are some."""
    with _folder() as name:
        path = Path(name, "x.nii")
        path.write_bytes(data)
        try:
            planes = Planes(path)
        except BadInput:
            return
        try:
            i, j, k = planes.header.shape
            if i * j * 4 > _ENOUGH:
                return
            plane = np.empty((j, i), np.float32)
            for _ in range(min(k, 64)):
                planes.read_into(plane)
        except BadInput:
            pass
        finally:
            planes.close()


def read_weights(data: bytes) -> None:
    """Of both networks that are read."""
    with _folder() as name:
        path = Path(name, "x")
        path.write_bytes(data)
        for read in (load_weights, Weights.load):
            try:
                read(str(path))
            except BadInput:
                pass


# ------------------------------------------------------------------ files to begin with


def _lines(*each: object) -> bytes:
    return b"\n".join(json.dumps(value).encode() for value in each)


def _journals() -> list[bytes]:
    receipts = {"": [[0, 2, [["part-0", 3, "ab"]], {"__array__": ["<f8", [1], "AAAAAAAA8D8="]}]]}
    aside = [{"item": 1, "name": "b", "reason": "raised", "message": "m", "error": "E", "needed": 0}]
    lines = [
        {"job": {"source": {"items": 4, "files": {"a": "1:-:2"}, "spans": {"a": [0, 4]}}, "rooms": {"": {}}}},
        {"budget": 1 << 30}, {"opened": True, "reducers": []},
        {"kept": [0, 2], "receipts": receipts, "aside": aside}, {"back": [[0, 1]]},
        {"closed": True, "rooms": {"": [[["all", 3, "ab"]], True, "part-*"]}},
    ]  # fmt: skip
    return [_lines(*lines), _sealed(_lines(*lines).split(b"\n"))]


def _events() -> list[bytes]:
    stage = {"at": 1.5e9, "stage": "s"}
    worker = {**stage, "worker": 1}
    batch = {**worker, "batch": 0, "start": 0, "stop": 5}
    return [
        _lines(
            {"event": "stage_started", **stage, "items": 9, "done": 0, "budget": 1 << 30, "origin": "o",
             "workers": None},
            {"event": "planned", **stage, "workers": 2, "call": 1, "batch": 3, "reserved": 5, "footprint": 6,
             "projected": 1 << 28},
            {"event": "worker_started", **worker},
            {"event": "batch_started", **batch, "call": 1, "projected": 7},
            {"event": "memory_read", **stage, "used": 1 << 27, "workers": {"1": 1 << 20}, "free": 3},
            {"event": "worker_paused", **worker, "free": 3}, {"event": "worker_resumed", **worker},
            {"event": "batch_done", **batch, "seconds": 1.5, "peak": 9, "projected": 8, "retained": 1},
            {"event": "batch_failed", **batch, "cause": "memory", "item": 3, "held": 9, "message": "m"},
            {"event": "item_set_aside", **stage, "item": 3, "name": "n", "reason": "memory", "message": "m"},
            {"event": "worker_ended", **worker, "why": "governor"},
            {"event": "budget_changed", **stage, "budget": 1 << 29, "origin": "p"},
            {"event": "run_died", **stage, "died": 1.4e9, "message": "m"},
            {"event": "stage_ended", **stage, "outcome": "done", "done": 9, "set_aside": 1, "seconds": 2.5,
             "cpu": 1.0, "peak": 1 << 28, "projected": 1 << 28, "message": ""},
        )
    ]  # fmt: skip


def _texts() -> list[bytes]:
    from isal import igzip

    text = b">a b\nACGTN\nACGT\n\n>c\r\nAAAA\n" * 20
    found = [text, gzip.compress(text), bz2.compress(text), lzma.compress(text), igzip.compress(text)]
    packed = zlib.compressobj(wbits=-15)
    body = packed.compress(text) + packed.flush()
    extra = struct.pack("<BBHH", 66, 67, 2, len(body) + 25)
    block = b"\x1f\x8b\x08\x04" + bytes(6) + struct.pack("<H", 6) + extra + body
    block += struct.pack("<II", zlib.crc32(text), len(text))
    found.append(block * 2 + bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000"))
    try:
        import zstandard
    except ImportError:
        return found
    return [*found, zstandard.ZstdCompressor(write_checksum=True).compress(text)]


def _archive(save: Callable[..., None], **arrays: object) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def _npz() -> list[bytes]:
    counts = np.arange(24, dtype="<u2").reshape(2, 3, 4)
    arrays = {
        "counts": counts,
        "p": np.arange(3),
        "names": np.array(["a", "b"]),
        "f": np.asfortranarray(counts),
    }
    bare = io.BytesIO()
    np.save(bare, counts)
    return [_archive(np.savez, **arrays), _archive(np.savez_compressed, **arrays), bare.getvalue()]


def _nifti() -> list[bytes]:
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, 4, 3, 2, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 4, 16)
    struct.pack_into("<8f", head, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<3f", head, 108, 352.0, 1.0, 0.0)
    struct.pack_into("<2h", head, 252, 1, 1)
    head[344:348] = b"n+1\0"
    whole = bytes(head) + np.arange(24, dtype="<i2").tobytes()
    return [whole, gzip.compress(whole)]


def _weights() -> list[bytes]:
    arrays = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    header, body = {}, b""
    for name, array in arrays.items():
        data = array.tobytes()
        header[name] = {
            "dtype": "F32", "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(data)],
        }  # fmt: skip
        body += data
    text = json.dumps(header).encode()
    fit = {
        "rids": np.zeros(1, np.int64), "n": np.ones(1), "Q": np.ones((1, 1, 1)), "B": np.ones((1, 1)),
        "Y": np.ones(1), "W": np.ones((1, 1)), "W_exact": np.ones((1, 1)), "gap": np.zeros(1),
        "contrast": np.ones(2), "shape": np.array([4, 4, 4]), "models": np.array(["a"]), "config": "{}",
    }  # fmt: skip
    return [
        _archive(np.savez_compressed, **arrays),
        struct.pack("<Q", len(text)) + text + body,
        _archive(np.savez, **fit),
    ]


def _values() -> list[bytes]:
    value = {"a": [1, 2.5, None, float("nan"), 1 << 20_000], "b": np.arange(3), "c": np.array(["x", "yz"])}
    return [values.dumps(value).encode(), values.dumps({"__dict__": {"__array__": 1}}).encode()]


_COMMANDS = [
    _lines({"schema": 1, "job": "/a/b.py:job", "where": "", "asked": {"budget": "1GiB", "workers": 2}}),
    _lines({"schema": 1, "workload": "codons", "options": {"genetic_code": 11, "frame": "all"}, "asked": {}}),
]
_REPORTS = [Report(stage="s", stages=(Report(items=3),), failures={"memory": 2}).to_json().encode()]


def read_sparse(data: bytes) -> None:
    """A matrix in CSR that somebody gives to the workload similar, read as its stages do."""
    with _folder() as name:
        path = Path(name, "matrix.npz")
        path.write_bytes(data)
        try:
            shape = matrices.sparse_shape(str(path))
            arrays = matrices.unpack(str(path), Path(name))
            for number, _ in enumerate(matrices.sparse_blocks(arrays, shape, str(path))):
                if number == 3:
                    break
        except BadInput:
            pass


def _sparse() -> list[bytes]:
    found = []
    for dense in (np.eye(3), np.zeros((2, 5)), np.arange(12.0).reshape(4, 3)):
        for compressed in (True, False):
            sink = io.BytesIO()
            sp.save_npz(sink, sp.csr_array(dense), compressed=compressed)
            found.append(sink.getvalue())
    return found


def read_vectors(data: bytes) -> None:
    """A matrix of vectors, likewise."""
    with _folder() as name:
        path = Path(name, "vectors.npy")
        path.write_bytes(data)
        try:
            for number, _ in enumerate(matrices.dense_blocks(matrices.open_dense(str(path)))):
                if number == 3:
                    break
        except BadInput:
            pass


def _vectors() -> list[bytes]:
    found = []
    for array in (np.eye(3, dtype=np.float32), np.arange(6).reshape(2, 3, order="F"), np.zeros((0, 4))):
        sink = io.BytesIO()
        np.save(sink, array)
        found.append(sink.getvalue())
    return found


def read_annotation(data: bytes) -> None:
    """Any file as GenBank, as GFF3 beside a sequence, and as a table of genetic codes."""
    try:
        list(GenBank("x", Counter()).read([(0, data[:1000]), (1000, data[1000:])]))
    except BadInput:
        pass
    with _folder() as name:
        folder = Path(name)
        try:
            keep_lines(folder, texts=[("x", [(0, data)])])
            places = json.loads((folder / PLACES).read_text("utf-8", "surrogateescape"))
            sequence = b">c x\nACGTACGTNNACGT\nACGTTTACGT\n"
            list(Annotated("beside.fa", folder, Counter(), places).read([(0, sequence)]))
            list(Annotated("x", folder, Counter(), places).read([(0, data)]))
        except BadInput:
            pass
        (folder / "map.tsv").write_bytes(data)
        try:
            code_map.parse(str(folder / "map.tsv"))
        except BadInput:
            pass


def _annotations() -> list[bytes]:
    genbank = (
        b"LOCUS       X 12 bp\nFEATURES             Location/Qualifiers\n"
        b'     CDS             complement(join(1..4,<8..>12))\n                     /gene="x"\n'
        b"                     /codon_start=2\n                     /transl_except=(pos:1..3,aa:Sec)\n"
        b"ORIGIN\n        1 atgaaaccca aa\n//\n"
    )
    gff = b"##gff-version 3\nc\t.\tCDS\t1\t9\t.\t-\t1\tID=x;exception=trans-splicing;transl_table=2\n"
    return [genbank, gff + gff.replace(b"-\t1", b"+\t0"), b"# codes\na*\t2\nb\t11\n"]


def read_image(data: bytes) -> None:
    """A film of JPEG or PNG: its header from however few bytes, and its small square."""
    found = None
    for most in (len(data) // 2, len(data)):
        with suppress(BadImage):
            found = read_header(data[:most])
            assert found is None or 0 < found.memory < 1 << 30
    if found is not None and found.memory > _ENOUGH:
        return
    for how in (Drawing(size=16), Drawing(size=16, exact=True, fit="pad")):
        with suppress(BadImage):
            assert draw(data, how).image.shape == (16, 16)


def _images() -> list[bytes]:
    grey = Image.fromarray(np.arange(40 * 48, dtype=np.uint8).reshape(40, 48))
    turned = Image.Exif()
    turned[0x0112] = 6
    found = []
    for picture, kind, options in (
        (grey, "JPEG", {"exif": turned}), (grey.convert("RGB"), "JPEG", {"progressive": True}),
        (grey.convert("CMYK"), "JPEG", {}), (grey, "PNG", {}), (grey.convert("I;16"), "PNG", {}),
        (grey.convert("P"), "PNG", {"transparency": 3}),
    ):  # fmt: skip
        sink = io.BytesIO()
        picture.save(sink, kind, **options)
        found.append(sink.getvalue())
    return found


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "journal": (read_journal, _journals),
    "events": (read_events, _events),
    "report": (read_report, lambda: _REPORTS),
    "values": (read_value, _values),
    "learnt": (read_learnt, _learnt),
    "command": (read_command, lambda: _COMMANDS),
    "fasta": (read_fasta, _texts),
    "annotation": (read_annotation, _annotations),
    "npz": (read_npz, _npz),
    "nifti": (read_nifti, _nifti),
    "image": (read_image, _images),
    "weights": (read_weights, _weights),
    "sparse": (read_sparse, _sparse),
    "vectors": (read_vectors, _vectors),
}
