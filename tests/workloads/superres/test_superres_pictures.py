"""Pictures: the right slices the right way round, a file for each patient, the same bytes, odd volumes."""

import json
import struct
import tracemalloc

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread
from superres_oracle import MODELS, paths_of, read_volume, small_budget, write_volume

import penstock
from penstock.errors import FunctionRaised, MissingExtra, UsageError
from penstock.workloads.superres import Superres, blending, options, pictures, views
from penstock.workloads.superres.headers import read_header
from penstock.workloads.superres.moments import take_moments
from penstock.workloads.superres.new import SuperresBlend
from penstock.workloads.superres.settings import Settings
from penstock.workloads.superres.volumes import read_planes
from penstock.workloads.superres.weights import fit

PID = "SYN-0000"


def runs(flags, least):
    """(begin, end) of the stretches of at least so many that are true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= least]


def panels_of(path):
    """The panels of a picture, row by row: what lies between white lines."""
    image = imread(path)[..., :3]
    dark = image.min(-1) < 1
    rows = runs(dark.mean(1) > 0.6, 50)
    columns = runs(dark[rows[0][0] : rows[-1][1]].mean(0) > 0.6, 50)
    return [[image[a:b, c:d] for c, d in columns] for a, b in rows]


def colours(panel):
    red, green, blue = (panel.reshape(-1, 3) * 255).astype(int).T
    return len(np.unique((red << 16) + (green << 8) + blue))  # numbers are sorted ten times as fast as rows


def run(folder, base, *, backend="inline", workers=None, budget="1GiB", set_aside=False, **options):
    """The pictures of a run, by patient."""
    options = {"patch": 8, "stride": 4, "root": str(base), "maps": False, "pictures": True} | options
    with penstock.Run(folder, budget=budget, backend=backend, workers=workers, set_aside=set_aside) as opened:
        Superres().run(opened, manifest=str(base / "manifest.json"), **options)
    return pictures_in(folder)


def pictures_in(folder):
    return {path.stem.partition("-")[2]: path.read_bytes() for path in (folder / "pictures").glob("*.png")}


# ------------------------------------------------------------------ slices and views


def test_the_slices_are_those_that_halve_the_head(tmp_path):
    header, voxels = read_volume(paths_of(PID)[-1])
    voxels = np.where(np.arange(40)[:, None, None] < 27, voxels, 0)
    path = tmp_path / "blend.nii.gz"
    write_volume(path, header, voxels)
    head = views.find_head(path, voxels.shape)
    inside = np.argwhere(voxels != 0)
    assert head.begin == tuple(inside.min(0))
    assert head.end == tuple(inside.max(0) + 1)
    for axis, at in enumerate(head.middle):
        places = inside[:, axis]
        assert (places < at).mean() < 0.5 <= (places <= at).mean()
    slices = views.take_slices(read_planes([path, path], voxels.shape), head.middle)
    for axis, taken in enumerate(slices):
        expected = np.take(voxels, head.middle[axis], axis)
        assert (taken == expected).all()
        assert taken.shape == (2, *expected.shape)


def test_of_a_head_in_two_pieces_no_slice_is_empty(tmp_path):
    header, voxels = read_volume(paths_of(PID)[-1])
    voxels = np.zeros_like(voxels)
    voxels[2, 3, 4] = voxels[37, 44, 33] = 1
    write_volume(tmp_path / "two.nii", header, voxels)
    assert views.find_head(tmp_path / "two.nii", voxels.shape).middle == (2, 3, 4)
    write_volume(tmp_path / "none.nii", header, voxels * 0)
    nowhere = views.find_head(tmp_path / "none.nii", voxels.shape)
    assert (nowhere.middle, nowhere.end) == ((19, 23, 17), (40, 48, 36))


TURN = np.array([[0.9, -0.4, 0.1], [0.4, 0.9, 0.1], [-0.1, 0, 1]])


@pytest.mark.parametrize(
    "affine",
    [
        np.eye(3),
        np.diag([-1.0, -1, 1]),
        np.diag([1.0, 1, -3]),
        np.array([[0, 0, -1.2], [2.0, 0, 0], [0, -1, 0]]),
        np.array([[0, -1.0, 0], [0, 0, 1], [-1, 0, 0]]),
        TURN,
        TURN[:, [1, 2, 0]] * [-1, 1, 2],
    ],
    ids=["RAS", "LPS", "RAI", "AIL", "ILA", "oblique", "oblique and permuted"],
)
def test_views_have_the_top_at_the_top_and_the_right_side_at_the_left(affine):
    whole = np.eye(4)
    whole[:3, :3] = affine
    shape = (4, 5, 6)
    millimetres = np.einsum("wa,aijk->wijk", affine, np.indices(shape))
    found = views.find_views(whole)
    assert [(view.name, view.sides) for view in found] == [
        ("axial", "RL"),
        ("coronal", "RL"),
        ("sagittal", "AP"),
    ]
    assert {view.axis for view in found} == {0, 1, 2}
    for view, (down, right) in zip(found, [(1, 0), (2, 0), (2, 1)], strict=True):
        shown = view.turn(np.take(millimetres, 2, 1 + view.axis))
        assert shown.shape[1:] == (shape[view.down], shape[view.right])
        # Front or top above, right or front at the left: millimetres fall downwards and to the right.
        assert (np.diff(shown[down], axis=0) < 0).all()
        assert (np.diff(shown[right], axis=1) < 0).all()
    assert np.allclose(views.voxel_sizes(whole), np.linalg.norm(affine, axis=0))


def test_an_affine_of_zeros_has_views_all_the_same():
    assert [view.axis for view in views.find_views(np.zeros((4, 4)))] == [2, 1, 0]
    assert views.voxel_sizes(np.zeros((4, 4))).tolist() == [1, 1, 1]


# ------------------------------------------------------------------ one picture


def prepare(folder, change=lambda voxels: voxels, models=MODELS, affine=None):
    """(paths with the blend last, weights) of the oracle's patient, its volumes changed."""
    sources, paths = paths_of(PID), []
    for number, source in enumerate([*(sources[n % 4] for n in range(len(models))), sources[-1]]):
        header, voxels = read_volume(source)
        raw = bytearray(header)
        if affine is not None:
            raw[280:328] = np.asarray(affine, "<f4")[:3].tobytes()
        paths.append(folder / f"{number}.nii.gz")
        write_volume(paths[-1], bytes(raw), np.asfortranarray(change(voxels)))
    settings = Settings(patch=16, stride=8)
    moments = take_moments(paths, settings)
    weights = fit(iter([moments]), models, settings)
    blending.evaluate(paths, moments, weights, folder / "blend.nii.gz", folder)
    return [*paths, folder / "blend.nii.gz"], weights


def test_a_row_shows_what_is_in_the_files(tmp_path):
    paths, weights = prepare(tmp_path)
    blending.write_maps(weights, read_header(paths[0]), tmp_path)
    whole = [read_volume(path)[1] for path in [*paths, tmp_path / "dominant.nii.gz"]]
    axial, coronal, sagittal = pictures._read(paths, weights)
    head = views.find_head(paths[-1], weights.shape)
    i, j, k = head.middle
    assert (axial.label, coronal.label) == (f"axial, k = {k}", f"coronal, j = {j}")
    assert (sagittal.label, sagittal.sides) == (f"sagittal, i = {i}", "AP")
    # Three voxels around the head.
    a, b, c = (slice(max(low - 3, 0), high + 3) for low, high in zip(head.begin, head.end, strict=True))
    for number, volume in enumerate(whole):
        for row, expected in (
            (axial, volume[a, b, k]),
            (coronal, volume[a, j, c]),
            (sagittal, volume[i, b, c]),
        ):
            shown = row.largest if number == len(paths) else row.volumes[number]
            assert (shown == expected.T[::-1, ::-1]).all()
            assert (row.height, row.width) == shown.shape  # voxels of a millimetre


@pytest.mark.parametrize(
    ("models", "change", "affine"),
    [
        (MODELS, lambda v: v[:, :, 17:18], None),
        (MODELS, lambda v: v[20:21], None),
        (MODELS, lambda v: v[:, :, ::4], np.diag([1, 1, 4, 1])),
        (MODELS, lambda v: v.transpose(2, 0, 1), [[0, -1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]),
        (("only",), lambda v: v, None),
        (("only",), lambda v: np.where(v > 0, 1 + 1e-4 * v, 0).astype("<f4"), None),
        (tuple(f"N$_{n}$ of a very long name indeed, number {n}" for n in range(8)), lambda v: v, None),
        (tuple("ABCDEFGHIJ"), lambda v: v, None),
    ],
    ids=["a plane", "a column", "thick", "permuted", "one expert", "flat", "eight experts", "ten experts"],
)
def test_odd_patients_have_pictures(tmp_path, models, change, affine):
    paths, weights = prepare(tmp_path, change, models, affine)
    pictures.draw(
        tmp_path / "p.png", paths, weights, "$x^$ " + "and a long title " * 30, best=len(models) - 1
    )
    rows = panels_of(tmp_path / "p.png")
    assert [len(row) for row in rows] == [len(models) + 5] * 3
    sizes = {panel.shape[1] for row in rows for panel in row}
    assert max(sizes) - min(sizes) <= 1


def test_thick_slices_are_as_high_as_they_are(tmp_path):
    paths, weights = prepare(tmp_path, lambda v: v[:, :, ::4], affine=np.diag([1, 1, 4, 1]))
    axial, coronal, _ = pictures._read(paths, weights)
    assert coronal.height == 4 * coronal.volumes.shape[1]
    assert coronal.width == axial.width == axial.volumes.shape[2]


def test_no_volume_is_held(tmp_path):
    peaks = []
    for times in (1, 1, 9):  # the first loads what is loaded once
        paths, weights = prepare(tmp_path, lambda v, times=times: np.tile(v, (1, 1, times)))
        tracemalloc.start()
        pictures._read(paths, weights)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    more = 4 * np.prod(weights.shape) * 8 / 9
    assert peaks[2] - peaks[1] < more  # of one volume; six are read


def test_without_a_place_in_the_header_no_side_is_named(tmp_path):
    paths, weights = prepare(tmp_path)
    assert pictures._read(paths, weights)[0].sides == "RL"
    header, blend = read_volume(paths[-1])
    raw = bytearray(header)
    raw[252:256] = bytes(4)
    write_volume(paths[-1], bytes(raw), blend)
    rows = pictures._read(paths, weights)
    assert [row.sides for row in rows] == [""] * 3
    assert rows[0].label.startswith("k = ")


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_nobodys_matplotlibrc_counts_and_nothing_of_it_is_changed(tmp_path, form):
    paths, weights = prepare(tmp_path)
    one, two = tmp_path / f"one.{form}", tmp_path / f"two.{form}"
    pictures.draw(one, paths, weights, "one", best=0)
    with matplotlib.rc_context({"font.size": 30, "image.origin": "lower", "savefig.facecolor": "red"}):
        pictures.draw(two, paths, weights, "one", best=0)
        assert matplotlib.rcParams["font.size"] == 30
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[form])


# ------------------------------------------------------------------ runs


def test_every_test_patient_has_a_picture_and_the_same_bytes_always(cohort, tmp_path):
    base, _ = cohort
    made = run(tmp_path / "one", base, fold="1")
    assert sorted(made) == ["P0", "P1"]
    for path in (tmp_path / "one/pictures").glob("*.png"):
        rows = panels_of(path)
        assert [len(row) for row in rows] == [2 + 5] * 3
        assert all(colours(panel) > 30 for row in rows for panel in row)
    assert run(tmp_path / "two", base, fold="1", backend="local", workers=2, budget=small_budget()) == made


def test_pictures_can_be_asked_for_later_and_go_on_where_they_stopped(cohort, tmp_path, monkeypatch):
    base, _ = cohort
    made = run(tmp_path / "one", base, fold="1")
    assert sorted(made) == ["P0", "P1"]
    assert run(tmp_path / "two", base, fold="1", pictures=False) == {}
    draw, drawn, broken = pictures.draw, [], ["P1"]

    def fail(path, *rest):
        drawn.append(path.stem)
        if path.stem in broken:
            raise OSError("no more ink")
        draw(path, *rest)

    monkeypatch.setattr(pictures, "draw", fail)
    with pytest.raises(FunctionRaised, match="P1: raised OSError: no more ink"):
        run(tmp_path / "two", base, fold="1")
    broken.clear()
    assert run(tmp_path / "two", base, fold="1") == made
    assert drawn.count("P0") == 1


def test_a_picture_has_no_date_and_no_version(tmp_path):
    paths, weights = prepare(tmp_path)
    pictures.draw(tmp_path / "p.png", paths, weights, "one", best=0)
    raw = (tmp_path / "p.png").read_bytes()
    kinds, at = [], 8
    while at < len(raw):
        (length,) = struct.unpack_from(">I", raw, at)
        kinds.append(raw[at + 4 : at + 8])
        at += 12 + length
    assert set(kinds) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_a_patient_set_aside_has_no_picture_and_the_others_have_theirs(cohort, tmp_path):
    base, place = cohort
    expected = run(tmp_path / "one", base, fold="1", compat="upstream")
    header, voxels = read_volume(place("P0", "HR"))
    write_volume(place("P0", "HR"), header, (voxels > 0).astype("<f4") * 0.05)  # no head to evaluate
    made = run(tmp_path / "two", base, fold="1", set_aside=True, compat="upstream")
    assert made == {"P1": expected["P1"]}
    told = json.loads((tmp_path / "two/metrics.json").read_text())
    assert [each["patient"] for each in told["set_aside"]] == ["P0"]


def test_where_every_patient_is_set_aside_there_are_no_pictures(cohort, tmp_path):
    base, place = cohort
    for pid in ("P0", "P1"):
        header, voxels = read_volume(place(pid, "HR"))
        write_volume(place(pid, "HR"), header, (voxels > 0).astype("<f4") * 0.05)
    assert run(tmp_path / "run", base, fold="1", set_aside=True, compat="upstream") == {}
    told = json.loads((tmp_path / "run/metrics.json").read_text())
    assert [each["patient"] for each in told["set_aside"]] == ["P0", "P1"]


def test_new_patients_have_pictures_without_errors(cohort, tmp_path):
    base, _ = cohort
    run(tmp_path / "run", base, fold="1", pictures=False)
    with penstock.Run(tmp_path / "new", budget="1GiB", backend="inline") as opened:
        SuperresBlend().run(
            opened, weights=str(tmp_path / "run/fold-1/weights.npz"), manifest=str(base / "manifest.json"),
            root=str(base), pictures=True,
        )  # fmt: skip
    assert sorted(pictures_in(tmp_path / "new")) == ["P0", "P1", "P2", "P3"]
    for path in (tmp_path / "new/pictures").glob("*.png"):
        rows = panels_of(path)
        assert [len(row) for row in rows] == [2 + 2] * 3
        assert all(colours(panel) > 30 for row in rows for panel in row)


def test_pictures_without_blends_are_refused_before_any_work(cohort, tmp_path):
    base, _ = cohort
    with pytest.raises(UsageError, match=r"--pictures .* --no-blends"):
        run(tmp_path / "run", base, blends=False)
    with pytest.raises(UsageError, match=r"--pictures .* --sweep"):
        run(tmp_path / "run", base, sweep=["tau=0,1"])
    assert not (tmp_path / "run/moments").exists()


def test_a_missing_matplotlib_is_told_before_any_work(cohort, tmp_path, monkeypatch):
    base, _ = cohort
    there = options.find_spec
    monkeypatch.setattr(options, "find_spec", lambda name: None if name == "matplotlib" else there(name))
    with pytest.raises(MissingExtra, match=r"pictures needs the package 'matplotlib'.*penstock\[plot\]"):
        run(tmp_path / "run", base)
    assert not (tmp_path / "run/moments").exists()
    with pytest.raises(MissingExtra, match="matplotlib"):
        SuperresBlend().plan("1GiB", weights="x.npz", manifest="y", pictures=True)
    assert run(tmp_path / "run", base, fold="1", pictures=False) == {}
