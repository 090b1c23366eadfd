"""Volumes as nibabel writes and reads them: formats, scales, places; and what is refused."""

import gzip
import struct
from contextlib import closing

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.freesurfer import MGHImage
from nibabel.quaternions import quat2mat

from penstock.errors import BadInput
from penstock.workloads.superres.headers import Header, files_of, read_header
from penstock.workloads.superres.patients import Patient, Patients
from penstock.workloads.superres.volumes import Planes, PlaneWriter, compare_grids

SHAPE = (5, 4, 3)
AFFINE = np.array([[0, -2.0, 0, 11], [1.5, 0, 0, -7], [0, 0, -3, 20], [0, 0, 0, 1]])


def read(path):
    """float32 (ni, nj, nk)."""
    with closing(Planes(path)) as volume:
        ni, nj, nk = volume.header.shape
        out = np.empty((nk, nj, ni), np.float32)
        for plane in out:
            volume.read_into(plane)
    return out.transpose(2, 1, 0)


def values(dtype="i2", seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 100, SHAPE).astype(dtype)
    ends = np.iinfo(dtype)
    return rng.integers(max(ends.min, -(2**15)), min(ends.max, 2**15), SHAPE).astype(dtype)


def load(path):
    """By nibabel, which leaves an .mgh file open."""
    return MGHImage.from_bytes(path.read_bytes()) if path.suffix == ".mgh" else nibabel.load(path)


def same_as_nibabel(path):
    saved = load(path)
    header = read_header(path)
    assert header.shape == saved.shape[:3]
    assert np.allclose(header.affine, saved.affine, atol=1e-5)
    expected = np.asarray(saved.dataobj, np.float64).reshape(SHAPE).astype(np.float32)
    assert np.array_equal(read(path), expected)


KINDS = [
    (nibabel.Nifti1Image, ".nii"), (nibabel.Nifti1Image, ".nii.gz"), (nibabel.Nifti2Image, ".nii"),
    (nibabel.Nifti2Image, ".nii.gz"), (nibabel.Nifti1Pair, ".img"), (nibabel.Nifti1Pair, ".img.gz"),
    (nibabel.Nifti2Pair, ".hdr"), (MGHImage, ".mgz"), (MGHImage, ".mgh"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "end"), KINDS)
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
def test_every_format_reads_as_nibabel_reads_it(tmp_path, kind, end, dtype):
    nibabel.save(kind(values(dtype), AFFINE), tmp_path / f"x{end}")
    same_as_nibabel(tmp_path / f"x{end}")
    # What is written beside it lies in the same place.
    with PlaneWriter(tmp_path / "y.nii.gz", read_header(tmp_path / f"x{end}")) as writer:
        for plane in read(tmp_path / f"x{end}").transpose(2, 1, 0):
            writer.write(plane)
    written = nibabel.load(tmp_path / "y.nii.gz")
    assert np.allclose(written.affine, AFFINE, atol=1e-5)
    assert np.array_equal(written.get_fdata(dtype=np.float32), read(tmp_path / f"x{end}"))
    compare_grids(read_header(tmp_path / "y.nii.gz"), "y", read_header(tmp_path / f"x{end}"), "x")


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_types_and_byte_orders(tmp_path, dtype, order):
    saved = nibabel.Nifti1Image(values(dtype), AFFINE, nibabel.Nifti1Header(endianness=order), dtype=dtype)
    nibabel.save(saved, tmp_path / "x.nii")
    same_as_nibabel(tmp_path / "x.nii")


def stored(path, voxels, **fields):
    """A .nii file with these voxels and header fields, whatever they say."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(voxels.shape)
    header.set_data_dtype(voxels.dtype)
    header.set_sform(AFFINE, 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + bytes(4) + voxels.tobytes(order="F"))
    return path


@given(
    slope=st.floats(2.0**-20, 2.0**20, width=32),
    inter=st.floats(-(2.0**31), 2.0**31, width=32),
    dtype=st.sampled_from(["u1", "i2", "u2", "i4", "u4"]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_scale_is_rounded_once(tmp_path, slope, inter, dtype, seed):
    ends = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    voxels = rng.integers(ends.min, ends.max, SHAPE, dtype=dtype, endpoint=True)
    path = stored(tmp_path / "x.nii", voxels, scl_slope=slope, scl_inter=inter)
    expected = voxels.astype(np.float64) * np.float64(np.float32(slope)) + np.float64(np.float32(inter))
    assert np.array_equal(read(path), expected.astype(np.float32))
    assert np.array_equal(read(path), np.asarray(nibabel.load(path).dataobj, np.float64).astype(np.float32))


def test_an_intercept_that_takes_a_large_number_away_leaves_every_value(tmp_path):
    wanted = np.arange(120).reshape(6, 5, 4)
    voxels = (wanted + 2**31).astype("u4")
    path = stored(tmp_path / "x.nii", voxels, scl_slope=1, scl_inter=-(2.0**31))
    assert np.array_equal(read(path), wanted)


@given(
    st.tuples(*[st.floats(-0.57, 0.57)] * 3),
    st.tuples(*[st.floats(0.125, 9, width=32)] * 3),
    st.booleans(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_qform_is_that_of_nibabel(tmp_path, turn, sizes, mirrored):
    fields = dict(zip(("quatern_b", "quatern_c", "quatern_d"), turn, strict=True))
    path = stored(
        tmp_path / "x.nii", values(), sform_code=0, qform_code=1, qoffset_x=3,
        pixdim=[-1 if mirrored else 1, *sizes, 1, 1, 1, 1], **fields,
    )  # fmt: skip
    assert np.allclose(read_header(path).affine, nibabel.load(path).affine, atol=1e-4)
    assert np.allclose(np.linalg.norm(quat2mat([np.sqrt(1 - np.dot(turn, turn)), *turn]), axis=0), 1)


REFUSED = [
    ({"vox_offset": np.nan}, "voxels begin at byte nan"),
    ({"vox_offset": 1e30}, r"voxels begin at byte 1e\+30"),
    ({"vox_offset": -8}, "voxels begin at byte -8"),
    ({"vox_offset": 1 << 30}, "ends early"),
    ({"scl_slope": 2, "scl_inter": np.nan}, "its scale is 2.0 and its intercept nan"),
    ({"scl_slope": 2, "scl_inter": np.inf}, "intercept inf"),
    ({"sform_code": 0, "qform_code": 1, "quatern_b": 0.9, "quatern_c": 0.9}, "longer than 1"),
    ({"sform_code": 0, "qform_code": 1, "quatern_b": np.nan}, "longer than 1"),
    ({"srow_x": [np.nan, 0, 0, 0]}, "its affine is not finite"),
    ({"datatype": 128}, "NIfTI type 128"),
    ({"magic": b""}, "is an Analyze file"),
]


@pytest.mark.parametrize(("fields", "said"), REFUSED)
def test_what_no_volume_says_is_refused_with_the_file(tmp_path, fields, said):
    path = stored(tmp_path / "x.nii", values(), **fields)
    with pytest.raises(BadInput, match=said) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_without_a_scale_an_intercept_says_nothing(tmp_path):
    path = stored(tmp_path / "x.nii", values(), scl_slope=0, scl_inter=np.nan)
    assert np.array_equal(read(path), values())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bytes(128) + b"DICM" + bytes(600), "is DICOM"),
        (b"NRRD0004\n" + bytes(600), "is NRRD"),
        (b"<html>" + bytes(600), "neither NIfTI"),
        (b"", "0 bytes"),
        (struct.pack("<i", 540) + bytes(600), "not its mark"),
        (struct.pack(">7i", 1, 3, 3, 3, 2, 3, 0) + bytes(300), r"shape is \(3, 3, 3, 2\)"),
        (struct.pack(">7i", 1, 3, 3, 3, 1, 9, 0) + bytes(300), "MGH type 9"),
    ],
)
def test_other_files_are_called_by_their_names(tmp_path, content, said):
    (tmp_path / "x.nii").write_bytes(content)
    with pytest.raises(BadInput, match=said):
        read_header(tmp_path / "x.nii")


def test_a_wrong_checksum_is_damage_of_the_voxels(tmp_path):
    path = stored(tmp_path / "x.nii", values())
    zipped = bytearray(gzip.compress(path.read_bytes()))
    zipped[-8] ^= 0xFF
    (tmp_path / "x.nii.gz").write_bytes(zipped)
    with pytest.raises(BadInput, match="is damaged"):
        read(tmp_path / "x.nii.gz")


def test_both_files_of_a_pair_count(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(values(), AFFINE), tmp_path / "x.img")
    header, voxels = str(tmp_path / "x.hdr"), str(tmp_path / "x.img")
    assert files_of(header) == files_of(voxels) == (header, voxels)
    patients = Patients([Patient("P", (voxels,))])
    before = patients.fingerprint()
    for path in (header, voxels):
        content = bytearray((tmp_path / path).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / path).write_bytes(content)
        after = patients.fingerprint()
        assert after != before
        before = after
    (tmp_path / "x.img").unlink()
    with pytest.raises(BadInput, match=r"x\.img"):
        read(header)


def test_an_unplaced_mgh_lies_as_nibabel_says(tmp_path):
    image = MGHImage(values(), AFFINE)
    image.header["goodRASFlag"] = 0
    raw = image.header.binaryblock.ljust(284, b"\0") + values().astype(">i2").tobytes(order="F")
    (tmp_path / "x.mgh").write_bytes(raw)
    found, saved = read_header(tmp_path / "x.mgh"), load(tmp_path / "x.mgh")
    assert not found.placed
    assert np.allclose(found.affine, saved.affine)


def test_an_axis_too_long_for_what_is_written_is_told(tmp_path):
    like = Header((40_000, 2, 2), np.dtype("<f4"), 1.0, 0.0, 352, np.eye(4), bytes(348))
    with pytest.raises(BadInput, match="32,767 voxels"), PlaneWriter(tmp_path / "x.nii", like):
        pass
