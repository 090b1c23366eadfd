"""The workloads from end to end: folds, the same bytes always, bad input, manifests, new patients."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from compiled import check_warm, counted
from superres_oracle import (
    DATA,
    EXPECTED,
    MODELS,
    cut,
    paths_of,
    published,
    read_volume,
    small_budget,
    write_volume,
)
from waiting import LIMIT, until

import penstock
from penstock.cli import main
from penstock.errors import BadInput, UsageError
from penstock.testing import SourceSuite
from penstock.workloads.superres import Superres, summary
from penstock.workloads.superres.headers import read_header
from penstock.workloads.superres.making import SuperresManifest
from penstock.workloads.superres.manifest import groups_of, read_manifest, split
from penstock.workloads.superres.moments import take_moments
from penstock.workloads.superres.new import SuperresBlend
from penstock.workloads.superres.patients import Patient, Patients
from penstock.workloads.superres.settings import Settings
from penstock.workloads.superres.weights import Weights

SMALL = Settings(patch=8, stride=4)
EXPERTS = ("A", "B")
PENSTOCK = str(Path(sys.executable).with_name("penstock"))


def run(folder, base, *, backend="inline", set_aside=False, workers=None, budget="1GiB", **options):
    """``metrics.json`` of a run."""
    options = {"patch": 8, "stride": 4, "root": str(base), "maps": False} | options
    with penstock.Run(folder, budget=budget, backend=backend, set_aside=set_aside, workers=workers) as opened:
        Superres().run(opened, manifest=str(base / "manifest.json"), **options)
        outcome = opened.report().set_aside_total
    told = json.loads((folder / "metrics.json").read_text())
    assert outcome == len(told["set_aside"])
    return told


# ------------------------------------------------------------------ what comes out


def test_a_run_equals_the_oracle(tmp_path):
    chosen = EXPECTED["default"]["config"]
    with penstock.Run(tmp_path / "run", budget="1GiB", backend="inline") as opened:
        Superres().run(
            opened, manifest=str(DATA / "synthA/manifest.json"), root=str(DATA), fold="1", compat="upstream",
            patch=chosen["patch_size"], stride=chosen["stride"], ridge=chosen["lambda_ridge"],
        )  # fmt: skip
    told = json.loads((tmp_path / "run/metrics.json").read_text())
    assert told["means"]["blend"] == pytest.approx(published(EXPECTED["default"]["metrics_exact"]), rel=1e-5)
    for model in MODELS:
        assert told["means"][model] == pytest.approx(published(EXPECTED["expert_metrics"][model]), rel=1e-5)
    assert told["folds"][0]["uncertified"] == 0
    assert told["folds"][0]["train"] == EXPECTED["train"]
    kept = np.load(tmp_path / "run/fold-1/weights.npz", allow_pickle=False)
    expected = np.load(DATA / "synthA_default.npz")
    assert np.abs(kept["W_exact"] - expected["W_exact"]).max() < 1e-6
    assert np.abs(kept["W"] - expected["W_smoothed"]).max() < 1e-6
    rows = pq.read_table(tmp_path / "run/test/metrics/results.parquet").to_pylist()
    assert [row["method"] for row in rows] == ["blend", *MODELS, *(f"{m}@truth-scale" for m in MODELS)]
    _, maps = read_volume(tmp_path / "run/fold-1/weights.nii.gz")
    assert maps.shape == (40, 48, 36, 4)
    inside = maps[4:, 4:, 4:]
    assert np.abs(inside.sum(-1) - 1).max() < 1e-4
    _, dominant = read_volume(tmp_path / "run/fold-1/dominant.nii.gz")
    assert (dominant == maps.argmax(-1))[4:, 4:, 4:].all()
    _, entropy = read_volume(tmp_path / "run/fold-1/entropy.nii.gz")
    assert 0 <= entropy.min() < entropy.max() <= np.log(4) + 1e-6


def test_every_fold_and_the_summary(cohort, tmp_path):
    base, _ = cohort
    told = run(tmp_path / "run", base)
    assert [fold["test"] for fold in told["folds"]] == [["P0", "P1"], ["P2", "P3"]]
    rows = pq.read_table(tmp_path / "run/test/metrics/results.parquet").to_pylist()
    assert len(rows) == 4 * 5
    blend = [row["mse"] for row in rows if row["method"] == "blend"]
    against = told["blend_against"]["A@train-scale"]["mse"]
    expert = [row["mse"] for row in rows if row["method"] == "A@train-scale"]
    assert set(told["blend_against"]) == {"A@train-scale", "B@train-scale"}
    assert told["means"]["blend"]["mse"] == pytest.approx(np.mean(blend))
    assert against["difference"] == pytest.approx(np.mean(np.subtract(blend, expert)))
    assert against["patients"] == 4
    assert against["low"] <= against["difference"] <= against["high"]
    assert against["better"] == sum(a < b for a, b in zip(blend, expert, strict=True))
    assert len(list((tmp_path / "run/test/blends").glob("*.nii.gz"))) == 4


def test_the_sign_test():
    assert summary.sign_test(8, 0) == 2 / 2**8
    assert summary.sign_test(3, 3) == 1
    assert summary.sign_test(0, 0) == 1


def test_a_sweep_reads_no_voxel_again(cohort, tmp_path):
    base, place = cohort
    with penstock.Run(tmp_path / "run", budget="1GiB", backend="inline") as opened:
        Superres().run(
            opened, manifest=str(base / "manifest.json"), root=str(base), patch=4, stride=4, window="flat",
            sweep=["tau=0,0.5", "lambda_grad=0,1"],
        )  # fmt: skip
    told = json.loads((tmp_path / "run/sweep.json").read_text())
    assert (tmp_path / "run/sweep.json").samefile(tmp_path / "run/summary/sweep.json")  # so verify knows it
    assert len(told["means"]) == 4
    assert len(told["folds"]) == 8
    assert told["means"] == sorted(told["means"], key=lambda row: row["error"])
    # Tiles that are cells are predicted as they are blended: the error is the blend's.
    metrics = run(
        tmp_path / "one", base, patch=4, window="flat", tau=0.5, lambda_grad=1.0, calibration="truth"
    )
    spread = {
        pid: take_moments([place(pid, name) for name in ("A", "B", "HR")], SMALL).scale()[1][-1]
        for pid in ("P0", "P1", "P2", "P3")
    }
    rows = pq.read_table(tmp_path / "one/test/metrics/results.parquet").to_pylist()
    errors = [row["mse"] / spread[row["patient"]] ** 2 for row in rows if row["method"] == "blend"]
    swept = next(row for row in told["means"] if (row["tau"], row["lambda_grad"]) == (0.5, 1.0))
    assert swept["error"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert metrics["folds"][0]["uncertified"] == 0


def test_wrong_options(cohort, tmp_path):
    base, _ = cohort
    for number, wrong in enumerate(
        [{"patch": 8, "stride": 12}, {"patch": 10}, {"fold": "3"}, {"fold": "first"}, {"models": "A,A"}]
    ):
        with pytest.raises(UsageError):
            run(tmp_path / f"run{number}", base, **wrong)
    for text in ("tau=x", "patch=1,2", "tau"):
        with pytest.raises(UsageError, match="'--sweep'"):
            run(tmp_path / "run", base, sweep=[text])


# ------------------------------------------------------------------ the same bytes


def bytes_of(folder):
    files = [
        *folder.glob("fold-*/weights.npz"),
        *folder.glob("test/blends/*.nii.gz"),
        folder / "metrics.json",
    ]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_workers_budgets_kills_and_resumes_change_no_byte(cohort, tmp_path):
    base, _ = cohort
    run(tmp_path / "one", base)
    expected = bytes_of(tmp_path / "one")
    assert len(expected) == 2 + 4 + 1
    run(tmp_path / "two", base, backend="local", workers=2, budget=small_budget())
    assert bytes_of(tmp_path / "two") == expected
    command = [
        PENSTOCK, "run", "superres", str(base / "manifest.json"), "--root", str(base),
        "--patch", "8", "--stride", "4", "--no-maps", "--into", str(tmp_path / "three"), "--workers", "1",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: list((tmp_path / "three").glob("moments/*.npz")))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = subprocess.run(
        [PENSTOCK, "resume", str(tmp_path / "three"), "--workers", "2"], capture_output=True, text=True,
        timeout=LIMIT, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "three") == expected


def test_the_order_of_experts_is_kept_with_the_weights(cohort, tmp_path):
    base, _ = cohort
    run(tmp_path / "one", base)
    run(tmp_path / "two", base, models="B,A")
    one, two = (Weights.load(tmp_path / each / "fold-1/weights.npz") for each in ("one", "two"))
    assert (one.models, two.models) == (("A", "B"), ("B", "A"))
    assert np.allclose(one.W, two.W[:, ::-1], atol=1e-12)


# ------------------------------------------------------------------ bad input


def expert_with_more_planes(path, header, voxels):
    write_volume(path, header, np.concatenate([voxels, voxels[..., :2]], 2))


def nan_voxel(path, header, voxels):
    voxels = voxels.astype("<f4")
    voxels[3, 4, 5] = np.nan
    write_volume(path, header, voxels)


def infinite_voxel(path, header, voxels):
    voxels = voxels.astype("<f4")
    voxels[3, 4, 5] = np.inf
    write_volume(path, header, voxels)


def too_large(path, header, voxels):
    voxels = voxels.astype("<f8")
    voxels[1, 2, 3], voxels[3, 2, 3] = 1e300, -1e300
    write_volume(path, header, voxels)


def flipped(path, header, voxels):
    raw = bytearray(header)
    affine = np.frombuffer(header[280:328], "<f4").reshape(3, 4).copy()
    affine[0, 3] += affine[0, 0] * (voxels.shape[0] - 1)
    affine[0, 0] *= -1
    raw[280:328] = affine.tobytes()
    write_volume(path, bytes(raw), voxels[::-1])


def four_dimensions(path, header, voxels):
    write_volume(path, header, np.stack([voxels, voxels], -1))


def truncated(path, header, voxels):
    path.write_bytes(path.read_bytes()[:-2000])


def corrupt_byte(path, header, voxels):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)


def cut_before_gzip(path, header, voxels):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100]))


def no_volume(path, header, voxels):
    path.write_bytes(b"hello")


def empty(path, header, voxels):
    write_volume(path, header, voxels * 0)


BAD = [
    ("A", expert_with_more_planes, r"shape is \(16, 18, 16\)"),
    ("A", nan_voxel, r"voxel \(3, 4, 5\): 1 voxel .* nan"),
    ("HR", infinite_voxel, r"voxel \(3, 4, 5\): 1 voxel .* inf"),
    ("B", too_large, r"voxel \(1, 2, 3\): 2 voxels .* inf"),
    ("A", flipped, r"affine puts a corner 15\.000 mm"),
    ("A", four_dimensions, r"shape is \(16, 18, 14, 2\); one 3D volume"),
    ("A", truncated, r"A/.*(damaged|ends early|header cannot be read)"),
    ("A", corrupt_byte, r"damaged|ends early"),
    ("A", cut_before_gzip, r"plane 13: ends early: \d+ of 576 bytes"),
    ("A", no_volume, "5 bytes, and a NIfTI header has 348"),
    ("HR", empty, "no voxel is above 0"),
]


@pytest.mark.parametrize(("name", "spoil", "said"), BAD, ids=lambda value: getattr(value, "__name__", None))
def test_a_bad_patient_is_set_aside_and_the_rest_goes_on(cohort, tmp_path, name, spoil, said):
    base, place = cohort
    spoil(place("P2", name), *read_volume(place("P2", name)))
    told = run(tmp_path / "run", base, set_aside=True)
    (aside,) = told["set_aside"]
    assert aside["patient"] == "P2"
    with pytest.raises(BadInput, match=said):
        raise BadInput(aside["reason"])
    assert told["folds"][0]["train"] == ["P3"]
    assert told["folds"][1]["test"] == ["P3"]
    assert told["means"]["blend"]["mse"] > 0


def test_without_set_aside_a_bad_patient_fails_the_run(cohort, tmp_path):
    base, place = cohort
    nan_voxel(place("P2", "A"), *read_volume(place("P2", "A")))
    with pytest.raises(BadInput, match="P2"):
        run(tmp_path / "run", base)


def test_a_patient_of_another_shape(cohort, tmp_path):
    base, place = cohort
    for name in ("A", "B", "HR"):
        header, voxels = read_volume(place("P1", name))
        write_volume(place("P1", name), header, voxels[:-1])
    told = run(tmp_path / "run", base, set_aside=True)
    assert told["set_aside"][0]["patient"] == "P1"
    assert "(15, 18, 14), that of most patients is (16, 18, 14)" in told["set_aside"][0]["reason"]


def test_a_truth_below_the_foreground_is_not_evaluated(cohort, tmp_path):
    base, place = cohort
    header, voxels = read_volume(place("P0", "HR"))
    write_volume(place("P0", "HR"), header, (voxels > 0).astype("<f4") * 0.05)
    told = run(tmp_path / "run", base, set_aside=True, compat="upstream")
    assert [(each["stage"], each["patient"]) for each in told["set_aside"]] == [("test", "P0")]


def test_constant_volumes_are_told_and_solved(cohort, tmp_path, capsys):
    base, place = cohort
    for pid, name in (("P0", "B"), ("P2", "HR")):
        header, voxels = read_volume(place(pid, name))
        write_volume(place(pid, name), header, np.full_like(voxels, 7))
    told = run(tmp_path / "run", base)
    assert [fold["constant"] for fold in told["folds"]] == [["P2: HR"], ["P0: B"]]
    assert [fold["left_out"] for fold in told["folds"]] == [["P2"], ["P0"]]
    assert [fold["uncertified"] for fold in told["folds"]] == [0, 0]
    assert "P0: B has one value everywhere" in capsys.readouterr().err
    header, voxels = read_volume(place("P3", "HR"))
    write_volume(place("P3", "HR"), header, np.full_like(voxels, 7))
    with pytest.raises(BadInput, match="in each the truth or an expert has one value everywhere"):
        run(tmp_path / "none", base)


def test_missing_files_are_all_named_before_any_work(cohort, tmp_path):
    base, place = cohort
    place("P0", "A").unlink()
    place("P3", "HR").unlink()
    with pytest.raises(BadInput, match="2 missing") as caught:
        run(tmp_path / "run", base)
    assert str(place("P0", "A")) in str(caught.value)
    assert str(place("P3", "HR")) in str(caught.value)
    assert not (tmp_path / "run/moments").exists()
    told = run(tmp_path / "run", base, allow_missing=True)
    assert len(told["missing"]) == 2
    assert [fold["test"] for fold in told["folds"]] == [["P1"], ["P2"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"folds": [{"train": {"P0": {}, "P0": {}}, "test": {}}]}', "'P0' is there twice"),
        ('{"folds": [{"train": {"P0": {"A": {}}}, "test": {"P0": {"A": {}}}}]}', "in train and in test"),
        ('{"folds": [{"train": {"P0": {"A": {}}, "P1": {"B": {}}}, "test": {}}]}', "has the experts"),
        ('{"folds": [{"train": {"P0": {"HR": {}}}, "test": {}}]}', "names no expert"),
        ('{"folds": [' + ", ".join(['{"train": {}, "test": {"P0": {"A": {}}}}'] * 2) + "]}", "two folds"),
        ('{"folds": [{"train": []}]}', 'needs "train" and "test"'),
        ('{"folds": []}', "is no manifest"),
        ("[1", r"m.json, line 1, column 3: is no manifest, as it is no JSON \(Expecting ',' delimiter\)"),
        (">a\nACGT\n", r"line 1, column 1: is no manifest, as it is no JSON .* superres-manifest writes it"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none(tmp_path, text, said):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(BadInput, match=said):
        read_manifest(tmp_path / "m.json", root=tmp_path, spacing="3mm", pulse="t1c")


def test_neither_a_device_nor_bytes_are_read_as_text(tmp_path):
    with pytest.raises(BadInput, match="cannot be read: no regular file"):
        read_manifest("/dev/null", root=tmp_path, spacing="3mm", pulse="t1c")
    (tmp_path / "people.csv").write_bytes(b"P0,anna\n\xff\xfe,\n")
    with pytest.raises(BadInput, match=r"people.csv: cannot be read as lines of SCAN,PERSON: 'utf-8' codec"):
        groups_of(["P0"], str(tmp_path / "people.csv"))
    (tmp_path / "people.csv").write_bytes(b"\xef\xbb\xbfP0,anna\r\n")
    assert groups_of(["P0"], str(tmp_path / "people.csv")) == {"P0": "anna"}


# ------------------------------------------------------------------ volumes


def test_types_scales_and_byte_orders_are_read(cohort):
    _, place = cohort
    paths = [place("P0", name) for name in ("A", "B", "HR")]
    expected = take_moments(paths, SMALL)
    header, voxels = read_volume(paths[0])
    plain = paths[0].with_suffix("").with_suffix(".nii")
    for number, (path, changed, more) in enumerate([
        (paths[0], voxels, {"order": ">"}),
        (plain, voxels.astype("<f8"), {"order": ">"}),
        (plain, (voxels * 2 + 6).astype("<i2"), {"scale": (0.5, -3.0)}),
        (plain, voxels, {"scale": (0.0, 5.0)}),
        (plain, voxels, {"shape": (*voxels.shape, 1)}),
    ]):  # fmt: skip
        write_volume(path, header, changed, **more)
        again = take_moments([path, *paths[1:]], SMALL)
        assert np.allclose(again.sums, expected.sums, rtol=1e-6), number
        assert again.counts.tolist() == expected.counts.tolist()


def test_a_rotated_qform_is_read(tmp_path):
    header, voxels = cut(paths_of("SYN-0000")[-1])
    raw = bytearray(header)
    raw[252:256] = np.array([1, 0], "<i2").tobytes()
    raw[76:92] = np.array([-1, 2, 3, 4], "<f4").tobytes()
    raw[256:280] = np.array([0, 0, np.sqrt(0.5), 5, 6, 7], "<f4").tobytes()
    write_volume(tmp_path / "x.nii", bytes(raw), voxels)
    affine = read_header(tmp_path / "x.nii").affine
    assert np.allclose(affine, [[0, -3, 0, 5], [2, 0, 0, 6], [0, 0, -4, 7], [0, 0, 0, 1]], atol=1e-5)


class TestPatients(SourceSuite):
    def make(self, folder):
        for number in range(5):
            if not (folder / f"{number}.nii").exists():
                (folder / f"{number}.nii").write_bytes(bytes(100 + number))
        return Patients([Patient(f"P{n}", (str(folder / f"{n}.nii"),), n) for n in range(5)])

    def change(self, folder):
        (folder / "3.nii").write_bytes(b"other")
        return True


# ------------------------------------------------------------------ manifests, new patients


def test_folds_are_the_published_ones():
    halves = split((f"P{n}" for n in range(7)), 3, 42)
    assert [len(test) for _, test in halves] == [2, 2, 3]
    assert sorted(pid for _, test in halves for pid in test) == [f"P{n}" for n in range(7)]
    assert all(not set(train) & set(test) and len(train) + len(test) == 7 for train, test in halves)
    # The oracle's manifest was made by a program of its own.
    ours = split(["SYN-0000", "SYN-0001", "SYN-0002", "SYN-0003"], 4, 11)
    folds = json.loads((DATA / "synthA/manifest.json").read_text())["folds"]
    assert [test for _, test in ours] == [sorted(fold["test"]) for fold in folds]
    with pytest.raises(UsageError, match="5 folds of 4"):
        split("ABCD", 5, 0)


def make_manifest(folder, base, **options):
    with penstock.Run(folder, budget="1GiB", backend="inline") as opened:
        SuperresManifest().run(
            opened, hr_root=str(base / "in/hr"), models_root=str(base / "in/models"), models="A,B",
            **{"folds": 2} | options,
        )  # fmt: skip
    return json.loads((folder / "manifest/manifest.json").read_text())


def test_a_manifest_is_made_of_folders(cohort, tmp_path):
    base, place = cohort
    made = make_manifest(tmp_path / "m", base)
    told = read_manifest(tmp_path / "m/manifest/manifest.json", root=tmp_path, spacing="3mm", pulse="t1c")
    assert told.models == EXPERTS
    assert told.patients["P2"] == tuple(str(place("P2", name)) for name in ("A", "B", "HR"))
    assert len(made["folds"]) == 2
    place("P0", "A").unlink()
    flipped(place("P1", "B"), *read_volume(place("P1", "B")))
    with pytest.raises(BadInput, match="2 missing or wrong") as caught:
        make_manifest(tmp_path / "n", base)
    assert "no such file" in str(caught.value)
    assert "affine" in str(caught.value)
    left = make_manifest(tmp_path / "o", base, allow_missing=True)
    assert sorted(pid for fold in left["folds"] for pid in fold["test"]) == ["P2", "P3"]


def test_new_patients_are_blended_without_a_truth(tmp_path):
    with penstock.Run(tmp_path / "run", budget="1GiB", backend="inline") as opened:
        Superres().run(
            opened, manifest=str(DATA / "synthA/manifest.json"), root=str(DATA), fold="1", patch=16, stride=8,
            maps=False,
        )  # fmt: skip
    pid = EXPECTED["test_patient"]
    content = json.loads((DATA / "synthA/manifest.json").read_text())
    entry = {name: kept for name, kept in content["folds"][0]["test"][pid].items() if name != "HR"}
    (tmp_path / "new.json").write_text(json.dumps({"folds": [{"train": {}, "test": {pid: entry}}]}))
    weights = tmp_path / "run/fold-1/weights.npz"
    with penstock.Run(tmp_path / "new", budget="1GiB", backend="inline") as opened:
        SuperresBlend().run(opened, weights=str(weights), manifest=str(tmp_path / "new.json"), root=str(DATA))
    (path,) = (tmp_path / "new/new/blends").glob("*.nii.gz")
    _, truth = read_volume(paths_of(pid)[-1])
    _, blend = read_volume(path)
    _, known = read_volume(next((tmp_path / "run/test/blends").glob("*.nii.gz")))
    mask = truth > 0
    errors = [float(((each - truth)[mask] ** 2).mean()) for each in (known, blend)]
    volumes = [read_volume(path)[1].astype(float) for path in paths_of(pid)]
    experts = [float(((each - volumes[-1])[mask] ** 2).mean()) for each in volumes[:-1]]
    assert errors[0] == errors[1] < 0.7 * min(experts)  # a truth that is there changes nothing
    (row,) = pq.read_table(tmp_path / "new/new/scales/results.parquet").to_pylist()
    assert row["patient"] == pid
    with pytest.raises(BadInput, match="no such file"):
        SuperresBlend().plan("1GiB", weights=str(tmp_path / "x.npz"), manifest="y")


@pytest.mark.usefixtures("worked_here")
def test_the_command_line_says_what_was_set_aside(cohort, monkeypatch):
    base, place = cohort
    monkeypatch.chdir(base)
    truncated(place("P2", "A"), None, None)
    command = ["run", "superres", "manifest.json", "--patch", "8", "--stride", "4", "--no-maps",
               "--no-blends", "--into", "run"]  # fmt: skip
    failed = CliRunner().invoke(main, command)
    assert failed.exit_code == 4, failed.output
    assert "Traceback" not in failed.output
    done = CliRunner().invoke(main, [*command, "--set-aside", "all"])
    assert done.exit_code == 5, done.output
    assert "P2" in (base / "run/metrics.json").read_text()


@pytest.mark.parametrize(
    "options",
    [
        {"compat": "upstream"},
        {"ssim_axis": "sagittal", "operator": "scharr", "largest_component": True, "calibration": "truth"},
        {"sweep": ("tau=0,0.05",), "simplex": False},
    ],
)
def test_workers_find_all_compiled_code_loaded(options, cohort):
    tmp_path, _ = cohort
    with counted(tmp_path / "notes") as calls:
        with penstock.Run(tmp_path / "run", budget="1GiB", backend="local") as opened:
            Superres().run(
                opened,
                manifest=str(tmp_path / "manifest.json"),
                root=str(tmp_path),
                fold="1",
                patch=8,
                stride=4,
                **options,
            )
        if "sweep" not in options:
            with penstock.Run(tmp_path / "new", budget="1GiB", backend="local") as opened:
                SuperresBlend().run(
                    opened, weights=str(tmp_path / "run/fold-1/weights.npz"), root=str(tmp_path),
                    manifest=str(tmp_path / "manifest.json"),
                )  # fmt: skip
    check_warm(calls())
