"""The sequence files given: streams are copied first, and files of another kind are refused by name."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from penstock import foreign
from penstock.budget import format_size
from penstock.errors import BadInput, PenstockError
from penstock.sources.streams import Inflater, find_kind

_HEAD = 4 << 10
_PATIENCE = 10
"""Seconds for which a pipe may be without a writer."""
_MOST = 2 << 20
"""Compressed bytes after which the beginning of a stream must have come out."""

_PACKED = (
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc FILE | gzip > FILE.gz"),
    (b"\x02\x21\x4c\x18", "lz4 (of the old kind)", "lz4 -dc FILE | gzip > FILE.gz"),
    (b"\x1f\x9d", "compress (.Z)", "gzip -dc FILE | gzip > FILE.gz"),
    (b"LZIP", "lzip", "lzip -dc FILE | gzip > FILE.gz"),
)
"""Compressions that are not read: first bytes, name, and what makes one that is."""

_TEXTS = (
    (b"LOCUS ", "GenBank", "seqret -sequence genbank::FILE -outseq fasta::FILE.fa"),
    (b"ID   ", "EMBL", "seqret -sequence embl::FILE -outseq fasta::FILE.fa"),
    (b"CLUSTAL", "a CLUSTAL alignment", "seqret -sequence clustal::FILE -outseq fasta::FILE.fa"),
    (b"MUSCLE (", "a CLUSTAL alignment (of MUSCLE)", "seqret -sequence clustal::FILE -outseq fasta::FILE.fa"),
    (b"@HD\t", "SAM", "samtools fasta FILE > FILE.fa"),
    (b"@SQ\t", "SAM", "samtools fasta FILE > FILE.fa"),
    (b"@RG\t", "SAM", "samtools fasta FILE > FILE.fa"),
    (b"@PG\t", "SAM", "samtools fasta FILE > FILE.fa"),
    (b"BAM\1", "BAM", "samtools fasta FILE > FILE.fa"),
    (b"CRAM", "CRAM", "samtools fasta FILE > FILE.fa"),
    (b"# STOCKHOLM", "a Stockholm alignment", "esl-reformat fasta FILE > FILE.fa"),
    (b"#NEXUS", "NEXUS", "seqret -sequence nexus::FILE -outseq fasta::FILE.fa"),
    (b"##fileformat=VCF", "VCF, a table of variants", ""),
    (b"##gff-version", "GFF, a table of features", ""),
    (b"\x1a\x41\x27\x43", "2bit", "twoBitToFa FILE FILE.fa"),
    (b"<!DOCTYPE", "a page of a web site", ""),
    (b"<html", "a page of a web site", ""),
    (b"\x89HDF", "HDF5", ""),
)
"""What is no FASTA: how it begins, its name, and what makes FASTA of it."""
_ANNOTATED = ("GenBank", "GFF, a table of features")


def check_files(paths: Iterable[str], *, annotated: bool = False) -> None:
    """Check that no file is given twice under two names, and that none is of another kind.

    Args:
        paths: the files, as :func:`penstock.sources.paths.find_files` gives them.
        annotated: GenBank and GFF3 are read.

    Raises:
        BadInput: naming the file, what it is, and what makes FASTA of it.
    """
    seen: dict[tuple[int, int], str] = {}
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116 - of many thousands of names
            with open(path, "rb", buffering=0) as file:
                head = file.read(_HEAD)
        except OSError as error:
            raise BadInput(f"cannot be read: {error.strerror}", file=path) from error
        other = seen.setdefault((status.st_dev, status.st_ino), path)
        if other is not path:
            raise BadInput(
                f"given twice: it is the same file as {foreign.line(other)}; name each file once", file=path
            )
        if not head.startswith(b"PAR1"):
            _check_head(head, path, _ANNOTATED if annotated else ())


def _check_head(head: bytes, path: str, read: Collection[str]) -> None:
    for magic, name, make in _PACKED:
        if head.startswith(magic):
            _refuse(path, f"compressed by {name}, which is not read", make)
    if head.startswith(b"\x5d\0\0") and (
        len(head) < 13 or head[5:13] == b"\xff" * 8 or not head[10:13].strip(b"\0")
    ):
        _refuse(path, "compressed by lzma (.lzma), which is not read", "xz -dc FILE | gzip > FILE.gz")
    kind = find_kind(head, path)
    text = _inflated(kind, path) if kind else head
    if kind:
        inner = next((name for magic, name, _ in _PACKED if text.startswith(magic)), None)
        again = inner or _kind_of(text, path)
        if again:
            twice = "twice" if again == kind else f"by {again}, and that by {kind}"
            _refuse(path, f"compressed {twice}", "gzip -dc FILE > ONCE" if kind == "gzip" else "")
    if _is_tar(text):
        wrapped = f" in {kind}" if kind else ""
        _refuse(path, f"a tar archive{wrapped}, which may hold several files", "tar -xf FILE")
    if _is_utf16(text):
        _refuse(path, "text in UTF-16", "iconv -f UTF-16 -t UTF-8 FILE > FILE.fa")
    for start, name, make in _TEXTS:
        if text.startswith(start) and name not in read:
            _refuse(path, f"this is {name}, and FASTA was expected", make)


def _is_utf16(head: bytes) -> bool:
    """Whether text begins with a mark of UTF-16, or has a zero in every second byte alone."""
    first, second = (head[at:200:2].count(0) for at in (0, 1))
    return head[:2] in (b"\xff\xfe", b"\xfe\xff") or (first == 0 < second > 3) or (second == 0 < first > 3)


def _refuse(path: str, what: str, make: str) -> NoReturn:
    raise BadInput(f"{what}: {make}" if make else f"{what}: get the sequences themselves", file=path)


def _kind_of(text: bytes, path: str) -> str | None:
    try:
        return find_kind(text, path)
    except BadInput:
        return "an archive"


def _inflated(kind: str, path: str) -> bytes:
    """The beginning of a stream; nothing where it is damaged, which its reader will tell."""
    try:
        inflater, fed = Inflater(kind, path), 0
        with open(path, "rb", buffering=0) as file:
            while fed < _MOST and (data := file.read(64 << 10)):
                fed += len(data)
                for piece in inflater.feed(data):
                    return piece[:_HEAD]
    except PenstockError:
        pass
    return b""


def _is_tar(head: bytes) -> bool:
    """Whether these bytes begin with a header of tar, of any kind: its sum is in it."""
    if len(head) < 512:
        return False
    try:
        checksum = int(head[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return checksum == sum(head[:148]) + 8 * 32 + sum(head[156:512])


# ------------------------------------------------------------------ streams


def kept_streams(folder: Path, paths: Sequence[str]) -> list[str]:
    """The paths, with each stream ('-', a pipe) replaced by its kept copy.

    A stream can be read once; a worker may be ended and another do its work again. So it is written into
    the run folder first, as it comes (a compressed stream stays compressed). A copy that came whole is used
    again by a run that goes on; one that did not is not there.

    Raises:
        BadInput: standard input is a terminal, or given twice.
    """
    if list(paths).count("-") > 1:
        raise BadInput("given twice: standard input can be read once", file="-")
    streams = [path for path in paths if is_stream(path)]
    copies = {path: folder / f"stream-{number}" for number, path in enumerate(streams, 1)}
    for path, copy in copies.items():
        if copy.exists():
            line = f"{_name(path)} is not read: what the run before has kept of it is used ({copy})"
            click.echo(foreign.line(line), err=True)
            continue
        if path == "-" and sys.stdin.isatty():
            raise BadInput("standard input is a terminal: give files, or pipe sequences into it", file="-")
        line = f"{_name(path)} is one stream, which cannot be read twice: it is kept as {copy} first"
        click.echo(foreign.line(line), err=True)
        _keep(path, copy)
        click.echo(f"{_name(path)}: {format_size(copy.stat().st_size)}", err=True)
    return [str(copies.get(path, path)) for path in paths]


def is_stream(path: str) -> bool:
    """Whether a path is standard input or a pipe."""
    if path == "-":
        return True
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116 - also of names that no file can have
    except (OSError, ValueError):
        return False


def _name(path: str) -> str:
    return "standard input" if path == "-" else f"the pipe {path}"


def _keep(path: str, copy: Path) -> None:
    draft = copy.with_name(f".{copy.name}.part")
    try:
        with _interruptible(), open(draft, "wb") as out:
            descriptor, first = (os.dup(0), b"") if path == "-" else _opened(path)
            out.write(first)
            with os.fdopen(descriptor, "rb") as stream:
                shutil.copyfileobj(stream, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    draft.rename(copy)


def _opened(path: str) -> tuple[int, bytes]:
    """A descriptor of a pipe that somebody writes to, and what was read already.

    Opening it in the usual way would wait for ever for the first who writes.

    Raises:
        BadInput: nobody does.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        first, until = b"", time.monotonic() + _PATIENCE
        with suppress(BlockingIOError):  # somebody has it open, and has not written yet
            while not (first := os.read(descriptor, 1 << 16)):
                if time.monotonic() > until:
                    raise BadInput(
                        f"nobody has written into this pipe for {_PATIENCE} s: start its writer before; or "
                        "a pipe or device must be saved to a file first",
                        file=path,
                    )
                time.sleep(0.05)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, first


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the reading: whoever writes may be ended by the same, and look finished."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
