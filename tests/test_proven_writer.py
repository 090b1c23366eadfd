"""What is written is what was given, and its proof is that of the file."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import files
from penstock.proven_writer import ProvenWriter


@given(st.lists(st.binary(max_size=3000), max_size=40), st.integers(1, 5000), st.integers(1, 9))
def test_pieces_of_any_size_are_one_file(tmp_path_factory, pieces, at_once, most):
    path = tmp_path_factory.mktemp("proven") / "file"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock.proven_writer._AT_ONCE", at_once)
        patch.setattr("penstock.proven_writer._PIECES", most)
        with ProvenWriter(path) as file:
            for at in range(0, len(pieces), 3):
                file.write(*pieces[at : at + 3])
            file.write(memoryview(b"end"))
            proof = file.proof()
    assert path.read_bytes() == b"".join(pieces) + b"end"
    assert proof == files.proof(path)


def test_what_the_kernel_takes_in_parts_is_whole(tmp_path, monkeypatch):
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda descriptor, pieces: real(descriptor, [pieces[0][:3]]))
    with ProvenWriter(tmp_path / "file") as file:
        file.write(b"first", b"second", b"third")
    assert (tmp_path / "file").read_bytes() == b"firstsecondthird"


def test_a_full_disk_is_told():
    with pytest.raises(OSError) as caught, ProvenWriter("/dev/full") as file:
        file.write(b"x")
    assert caught.value.errno == errno.ENOSPC


def test_what_failed_is_not_written_any_further(tmp_path):
    def write():
        with ProvenWriter(tmp_path / "file") as file:
            file.write(b"x")
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        write()
    assert (tmp_path / "file").read_bytes() == b""
