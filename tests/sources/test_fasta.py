"""FASTA text in blocks: plain, compressed, cut off, damaged, and what is not FASTA at all."""

import bz2
import gzip
import lzma
import os
import random
import struct
import zlib
from pathlib import Path

import pytest
from backports import zstd as zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import BadInput, UsageError
from penstock.sources import Fasta, FastaRecords, streams
from penstock.sources.fasta import line_of
from penstock.sources.streams import PIECE, Inflater
from penstock.testing import SourceSuite


def text(size=60_000, seed=1):
    draw = random.Random(seed)
    lines = [f">r{i}\n" + "".join(draw.choices("ACGTN", k=70)) + "\n" for i in range(size // 75)]
    return "".join(lines).encode()


def bgzf(data, block=3000):
    members = [data[at : at + block] for at in range(0, len(data), block)]
    out = b""
    for member in [*members, b""]:
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = deflate.compress(member) + deflate.flush()
        out += bytes.fromhex("1f8b08040000000000ff060042430200") + struct.pack("<H", len(body) + 25) + body
        out += struct.pack("<II", zlib.crc32(member), len(member))
    return out


def zstd(data):
    return zstandard.compress(data, options={zstandard.CompressionParameter.checksum_flag: 1})


COMPRESS = {"gz": gzip.compress, "bgz": bgzf, "zst": zstd, "bz2": bz2.compress, "xz": lzma.compress}
SKIPPED = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"


def all_text(source):
    """The text of every file, checking what the blocks say of themselves."""
    found = {}
    for block in source.read(0, len(source)):
        assert block.begins == (block.path not in found)
        assert block.offset == len(found.get(block.path, b""))
        pieces = [bytes(piece) for piece in block]
        assert all(0 <= len(piece) <= PIECE for piece in pieces)
        found[block.path] = found.get(block.path, b"") + b"".join(pieces)
    return found


class FastaSuite(SourceSuite):
    def items(self, source, start, stop):
        return [
            (block.path, block.file, block.offset, block.begins, block.ends, b"".join(map(bytes, block)))
            for block in source.read(start, stop)
        ]

    def change(self, folder):
        file = next(folder.iterdir())
        file.write_bytes(self.written(text(seed=2)))
        return True

    def make(self, folder):
        for name in ("a", "b"):
            if not (folder / name).exists():
                (folder / name).write_bytes(self.written(text()))
        return Fasta([folder / "a", folder / "b"], block=7001)

    def written(self, data):
        raise NotImplementedError


class TestPlain(FastaSuite):
    def written(self, data):
        return data


class TestGzip(FastaSuite):
    def written(self, data):
        return gzip.compress(data, mtime=0)


class TestBgzip(FastaSuite):
    def written(self, data):
        return bgzf(data)


class TestZstd(FastaSuite):
    def written(self, data):
        return zstd(data)


def test_the_text_is_whole_whatever_the_format_and_its_name(tmp_path):
    want = text()
    for name, compress in COMPRESS.items():
        halves = compress(want[:20_000]) + compress(want[20_000:]) if name != "bgz" else compress(want)
        file = tmp_path / f"{name}.txt"
        file.write_bytes(halves)
        for block in (500, 4096, 1 << 22):
            source = Fasta(file, block=block)
            assert all_text(source) == {str(file): want}
            assert len(source.starts()) == (len(source) if name == "bgz" else 1)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(sorted(COMPRESS)), st.integers(1, 400), st.binary(max_size=300))
def test_any_way_of_feeding_gives_the_same(name, step, data):
    stream = COMPRESS[name](data) + COMPRESS[name](b"") + (SKIPPED if name == "zst" else b"")
    inflater = Inflater(streams.find_kind(stream, "x"), "x")
    got = b"".join(
        piece for at in range(0, len(stream), step) for piece in inflater.feed(stream[at : at + step])
    )
    inflater.end()
    assert got == data


def test_a_bomb_comes_out_in_pieces(tmp_path):
    size = 40 << 20
    for name, compress in COMPRESS.items():
        if name == "bgz":
            continue
        (tmp_path / name).write_bytes(compress(b"N" * size))
        sizes = [len(piece) for block in Fasta(tmp_path / name).read(0, 1) for piece in block]
        assert sum(sizes) == size
        assert max(sizes) <= PIECE


@pytest.mark.parametrize("name", sorted(COMPRESS))
def test_a_cut_off_stream_is_refused_wherever_it_is_cut(tmp_path, name):
    whole = COMPRESS[name](text())
    for size in (len(whole) - 1, len(whole) - 6, len(whole) * 2 // 3, len(whole) // 3, 19):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(BadInput, match=r"cut off|damaged") as caught:
            all_text(Fasta(tmp_path / name, block=1000))
        assert caught.value.file == str(tmp_path / name)
        assert caught.value.place or name == "bgz"


def test_bgzip_cut_between_blocks_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(bgzf(text())[:-28])
    with pytest.raises(BadInput, match="no end mark"):
        Fasta(tmp_path / "a")


def test_bgzip_with_another_gzip_behind_is_read_as_one_stream(tmp_path):
    (tmp_path / "a").write_bytes(bgzf(text()) + gzip.compress(b"ACGT\n"))
    source = Fasta(tmp_path / "a", block=1000)
    assert len(source.starts()) == 1
    assert all_text(source) == {str(tmp_path / "a"): text() + b"ACGT\n"}


@pytest.mark.parametrize("name", sorted(COMPRESS))
def test_what_follows_a_stream_is_refused_and_so_is_damage(tmp_path, name):
    whole = COMPRESS[name](text())
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0x5A
    for content in (whole + b"something else", bytes(damaged)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match=r"damaged|something else follows|no end mark"):
            all_text(Fasta(tmp_path / name))


@pytest.mark.parametrize("name", ["gz", "zst"])
def test_a_little_that_follows_a_stream_is_no_cut_off_one(tmp_path, name):
    whole = COMPRESS[name](text())
    for more in (b"x", b"\n", b"ACGT\n"):
        (tmp_path / name).write_bytes(whole + more)
        with pytest.raises(BadInput, match="something else follows") as caught:
            all_text(Fasta(tmp_path / name))
        assert caught.value.place == f"compressed byte {len(whole)}"


def test_zstd_with_a_wide_window_is_read(tmp_path):
    content = b">a\n" + b"ACGT" * 20_000 + b"\n"
    widest = {zstandard.CompressionParameter.window_log: 30}
    (tmp_path / "a.zst").write_bytes(zstandard.compress(content, options=widest))
    compressor = zstandard.ZstdCompressor(options=widest)  # whose frames do not say how much they hold
    streamed = compressor.compress(content) + compressor.flush()
    assert streamed[5] >> 3 > 27 - 10  # the window is wider than what is read by default
    (tmp_path / "b.zst").write_bytes(streamed)
    for name in ("a.zst", "b.zst"):
        assert all_text(Fasta(tmp_path / name)) == {str(tmp_path / name): content}


def test_zeros_behind_gzip_are_padding(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(b">a\nACGT\n") + b"\0" * 512)
    assert all_text(Fasta(tmp_path / "a")) == {str(tmp_path / "a"): b">a\nACGT\n"}


def test_gzip_without_isal(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "isal", None)
    whole = gzip.compress(text()) * 2
    (tmp_path / "a").write_bytes(whole)
    assert all_text(Fasta(tmp_path / "a", block=900)) == {str(tmp_path / "a"): text() * 2}
    (tmp_path / "a").write_bytes(whole[:-3])
    with pytest.raises(BadInput, match="cut off"):
        all_text(Fasta(tmp_path / "a"))


def test_a_byte_order_mark_is_no_text(tmp_path):
    for name, content in (("a", b"\xef\xbb\xbf>x\nAC\n"), ("b", gzip.compress(b"\xef\xbb\xbf>x\nAC\n"))):
        (tmp_path / name).write_bytes(content)
        (block,) = Fasta(tmp_path / name).read(0, 1)
        assert block.offset == 3
    blocks = [bytes(piece) for block in Fasta(tmp_path / "a", block=4).read(0, 1) for piece in block]
    assert b"".join(blocks) == b">"


def test_what_cannot_be_read_is_said_when_the_source_is_made(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "zip").write_bytes(b"PK\x03\x04rest")
    os.mkfifo(tmp_path / "pipe")
    for path, match in (
        ("empty", "empty"),
        ("zip", "zip archive"),
        ("pipe", "no regular file"),
        ("none", "no such file"),
        ("*.fa", "no file matches"),
        ("", "folder"),
        ("x" * 300, "File name too long"),
        ("a/../" * 1000 + "b", "File name too long"),
        ("nul\0byte", "null byte"),
    ):
        with pytest.raises(BadInput, match=match):
            Fasta(tmp_path / path)
    with pytest.raises(UsageError, match="block"):
        Fasta(__file__, block=0)


def test_a_file_that_shrinks_or_goes_is_refused(tmp_path):
    file = tmp_path / "a"
    for content in (text(), gzip.compress(text())):
        file.write_bytes(content)
        source = Fasta(file, block=3000)
        file.write_bytes(content[:5000])
        with pytest.raises(BadInput, match="shorter"):
            all_text(source)
        file.unlink()
        with pytest.raises(BadInput, match="cannot be read"):
            all_text(source)


@pytest.mark.parametrize("kind", [Fasta, FastaRecords])
@pytest.mark.parametrize("name", ["plain", *sorted(COMPRESS)])
def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, name, kind):
    """Its last record would be read in part, as if that were all of it."""
    compress = COMPRESS.get(name, bytes)
    path = tmp_path / name
    path.write_bytes(compress(text()))
    source = kind(path, block=1000)
    assert b"".join(b"".join(block) for block in source.read(0, len(source))) == text()
    with open(path, "ab") as file:
        file.write(compress(b"ACGT\n"))
    with pytest.raises(BadInput, match="longer than it was when the run began") as caught:
        b"".join(b"".join(block) for block in source.read(0, len(source)))
    assert caught.value.file == str(path)


def test_names_say_which_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b">a\nACGT\n")
    (tmp_path / "b").write_bytes(gzip.compress(b">a\nACGT\n"))
    source = Fasta([tmp_path / "a", tmp_path / "b"], block=5)
    assert Path(source.name(0)).name == "a, bytes 0 to 5"
    assert Path(source.name(2)).name == "b, compressed bytes 0 to 5"
    assert source.paths == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_lines_are_counted_from_one(tmp_path):
    for name, compress in COMPRESS.items():
        (tmp_path / name).write_bytes(compress(b"\xef\xbb\xbf>a\nAC\n\nGT\n"))
        assert [line_of(str(tmp_path / name), at) for at in (0, 3, 6, 9, 10, 12)] == [1, 1, 2, 3, 4, 4]


def test_a_block_may_be_said_as_a_text(tmp_path):
    (tmp_path / "a.fa").write_bytes(b">a\n" + b"ACGT\n" * 600)
    assert len(Fasta(tmp_path / "a.fa", block="1KiB")) == len(Fasta(tmp_path / "a.fa", block=1024)) == 3
    with pytest.raises(UsageError, match="unit"):
        Fasta(tmp_path / "a.fa", block="many")
