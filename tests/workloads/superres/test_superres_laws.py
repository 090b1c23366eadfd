"""Laws of superres: what must not change an answer, and what no blend may know."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import ndimage, stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from superres_oracle import DATA, EXPECTED, MODELS, paths_of, read_volume, write_volume

import penstock
from penstock.errors import BadInput, UsageError
from penstock.workloads.superres import Superres, blending, manifest, options, simplex, summary
from penstock.workloads.superres.moments import statistics_of, take_moments
from penstock.workloads.superres.new import SuperresBlend
from penstock.workloads.superres.settings import Settings
from penstock.workloads.superres.weights import fit

SETTINGS = Settings(patch=16, stride=8)
TEST = EXPECTED["test_patient"]
PATIENTS = [*EXPECTED["train"], TEST]


@pytest.fixture(scope="module")
def volumes():
    """pid -> (header, float64 (volumes, i, j, k)): four experts, then the truth."""
    return {
        pid: (
            read_volume(paths_of(pid)[0])[0],
            np.stack([read_volume(p)[1] for p in paths_of(pid)]).astype(float),
        )
        for pid in PATIENTS
    }


class Cohort:
    """Patients in a folder, changed by a function, and what is made of them.

    Args:
        folder: to write into.
        volumes: see the fixture.
        change: (voxels of a patient, pid) -> voxels.
        settings: of the fit.
    """

    def __init__(self, folder, volumes, change=lambda voxels, pid: voxels, settings=SETTINGS, header=None):
        self.folder, self.settings = folder, settings
        self.paths = {}
        for pid, (raw, voxels) in volumes.items():
            changed = change(voxels.copy(), pid)
            self.paths[pid] = [folder / pid / f"{v}.nii" for v in range(len(changed))]
            for path, volume in zip(self.paths[pid], changed, strict=True):
                write_volume(path, header or raw, volume.astype("<f4"))
        self.models = MODELS[: len(changed) - 1]
        self.moments = {pid: take_moments(self.paths[pid], settings) for pid in self.paths}

    @property
    def weights(self):
        return fit([self.moments[pid] for pid in EXPECTED["train"]], self.models, self.settings)

    def evaluate(self, into=None):
        return blending.evaluate(self.paths[TEST], self.moments[TEST], self.weights, into, self.folder)

    def blend(self):
        self.evaluate(self.folder / "blend.nii")
        return read_volume(self.folder / "blend.nii")[1]


@pytest.fixture(scope="module")
def plain(volumes, tmp_path_factory):
    cohort = Cohort(tmp_path_factory.mktemp("plain"), volumes)
    return cohort, cohort.evaluate()


# ------------------------------------------------------------------ nothing of the truth


def noisy(voxels, pid):
    """Four times the same expert: the truth, louder, shifted and noisy."""
    truth = voxels[-1]
    rng = np.random.default_rng(len(pid) + int(pid[-1]))
    expert = np.where(truth > 0, 1.15 * truth + 30 + rng.normal(0, 60, truth.shape), 0)
    return np.stack([expert] * 4 + [truth])


def test_identical_experts_blend_to_themselves(tmp_path, volumes):
    cohort = Cohort(tmp_path, volumes, noisy, replace(SETTINGS, normalize="none"))
    told = cohort.evaluate()
    assert set(told) == {"blend", *MODELS}
    for model in MODELS:
        assert told["blend"] == pytest.approx(told[model], rel=1e-6)


def test_a_blend_is_compared_with_experts_that_are_calibrated_like_it(tmp_path, volumes):
    told = Cohort(tmp_path, volumes, noisy).evaluate()
    for model in MODELS:
        assert told["blend"] == pytest.approx(told[f"{model}@train-scale"], rel=1e-5)
        assert abs(told["blend"]["psnr"] - told[model]["psnr"]) > 0.1
    rows = [{"method": method, "patient": "x", **metrics} for method, metrics in told.items()]
    against = summary.paired(rows)
    assert set(against) == {f"{model}@train-scale" for model in MODELS}
    assert abs(against["SMORE@train-scale"]["psnr"]["difference"]) < 1e-4


def test_the_truth_of_a_test_patient_changes_no_voxel_of_its_blend(tmp_path, volumes, plain):
    cohort, _ = plain
    expected = cohort.blend()

    def other(voxels, pid):
        if pid == TEST:
            voxels[-1] = np.where(voxels[-1] > 0, 7 * voxels[-1][::-1] + 100, 0)
        return voxels

    assert np.array_equal(Cohort(tmp_path, volumes, other).blend(), expected)
    by_truth = Cohort(tmp_path / "t", volumes, other, replace(SETTINGS, calibration="truth"))
    assert not np.allclose(by_truth.blend(), expected)


def test_what_is_claimed_of_the_oracle(plain):
    _, told = plain
    assert told["blend"]["mse"] == pytest.approx(3832, abs=1)
    best = max(told[f"{model}@train-scale"]["psnr"] for model in MODELS)
    assert 1.3 < told["blend"]["psnr"] - best < 1.6


# ------------------------------------------------------------------ units, offsets, order


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3])
def test_the_unit_of_the_values_changes_nothing(tmp_path, volumes, plain, scale):
    cohort, expected = plain
    scaled = Cohort(tmp_path, volumes, lambda voxels, pid: voxels * scale)
    assert np.abs(scaled.weights.W - cohort.weights.W).max() < 1e-5
    found = scaled.evaluate()
    for method, metrics in expected.items():
        assert found[method]["psnr"] == pytest.approx(metrics["psnr"], rel=1e-6)
        assert found[method]["ssim"] == pytest.approx(metrics["ssim"], rel=1e-6)
        assert found[method]["mse"] == pytest.approx(metrics["mse"] * scale**2, rel=1e-5)


def test_an_offset_of_all_heads_changes_no_weight(tmp_path, volumes, plain):
    _cohort, _expected = plain

    def lifted(voxels, pid):
        head = voxels[-1] > 0
        return np.where(head, voxels + 4096, 0.0)  # which float32 holds without rounding these

    def masked(voxels, pid):
        return np.where(voxels[-1] > 0, voxels, 0.0)

    one = Cohort(tmp_path / "a", volumes, lifted)
    other = Cohort(tmp_path / "b", volumes, masked)
    assert np.abs(one.weights.W_exact - other.weights.W_exact).max() < 1e-9
    found, told = one.evaluate(), other.evaluate()
    for model in MODELS:
        assert found[model]["mse"] == pytest.approx(told[model]["mse"], rel=1e-9)
    assert found["blend"]["mse"] == pytest.approx(told["blend"]["mse"], rel=0.02)


def test_the_order_of_experts_changes_nothing_but_the_order(tmp_path, volumes, plain):
    cohort, expected = plain
    order = [2, 0, 3, 1]
    turned = Cohort(tmp_path, volumes, lambda voxels, pid: voxels[[*order, 4]])
    assert np.abs(turned.weights.W - cohort.weights.W[:, order]).max() < 1e-9
    found = turned.evaluate()
    assert found["blend"] == pytest.approx(expected["blend"], rel=1e-6)
    assert found[MODELS[0]] == pytest.approx(expected[MODELS[2]], rel=1e-9)


def test_the_operator_of_derivatives_does_not_change_how_much_they_weigh():
    shares = []
    for operator in ("sobel", "prewitt", "scharr"):
        chosen = replace(SETTINGS, operator=operator)
        moments = take_moments(paths_of(TEST), chosen)
        both, values = (
            np.trace(statistics_of(moments, each).Q, axis1=1, axis2=2).sum()
            for each in (chosen, replace(chosen, lambda_grad=0.0))
        )
        shares.append(1 - values / both)
    assert max(shares) < 2 * min(shares)
    assert 0.02 < min(shares) < max(shares) < 0.2


def test_slopes_are_for_each_millimetre(tmp_path, volumes):
    header, voxels = volumes[TEST]
    raw = bytearray(header)
    for axis in range(3):
        row = 280 + 16 * axis
        affine = np.frombuffer(bytes(raw[row : row + 16]), "<f4").copy()
        affine[:3] *= 2
        raw[row : row + 16] = affine.tobytes()
    moments = []
    for name, each in (("one", header), ("two", bytes(raw))):
        paths = [tmp_path / name / f"{v}.nii" for v in range(5)]
        for path, volume in zip(paths, voxels, strict=True):
            write_volume(path, each, volume.astype("<f4"))
        moments.append(take_moments(paths, SETTINGS))
    assert moments[1].steepest == pytest.approx(moments[0].steepest / 2)


# ------------------------------------------------------------------ background, masks, spikes


def test_more_background_changes_no_metric(tmp_path, volumes, plain):
    cohort, _ = plain

    def padded(voxels, pid):
        return np.pad(voxels, ((0, 0), (30, 0), (0, 30), (0, 0)))

    # The experts' own metrics: tiles lie elsewhere in a larger box.
    found, expected = Cohort(tmp_path, volumes, padded).evaluate(), cohort.evaluate()
    for model in MODELS:
        assert found[model] == pytest.approx(expected[model], rel=1e-9)


@pytest.mark.parametrize("ssim_axis", ["axial", "coronal", "sagittal"])
def test_ssim_is_that_of_scikit_image_over_the_mask(tmp_path, volumes, ssim_axis):
    _header, voxels = volumes[TEST]
    chosen = replace(SETTINGS, ssim_axis=ssim_axis)
    moments = take_moments(paths_of(TEST), chosen)
    told = blending.evaluate(paths_of(TEST), moments, fit([moments], MODELS, chosen), None, tmp_path)
    truth = voxels[-1]
    mask = truth > 0
    span = truth[mask].max() - truth[mask].min()
    codes = nibabel.aff2axcodes(nibabel.load(paths_of(TEST)[-1]).affine)
    axis = next(
        a
        for a, code in enumerate(codes)
        if code in {"axial": "SI", "coronal": "AP", "sagittal": "LR"}[ssim_axis]
    )
    for model, volume in zip(MODELS, voxels, strict=False):
        # Beyond the border there is nothing, as outside the mask.
        x, y, inside = (np.pad(each, 3) for each in (truth * mask, volume * mask, mask))
        total = 0.0
        for slices in zip(*(np.moveaxis(each, axis, 0) for each in (x, y, inside)), strict=True):
            _, similar = structural_similarity(*slices[:2], data_range=span, full=True)
            total += similar[slices[2]].sum()
        assert told[model]["ssim"] == pytest.approx(total / mask.sum(), rel=1e-9)
        assert told[model]["psnr"] == pytest.approx(
            peak_signal_noise_ratio(truth[mask], volume[mask], data_range=span), rel=1e-9
        )


def standardised(voxels, pid):
    head = voxels[-1] > 0
    made = np.zeros_like(voxels)
    for out, volume in zip(made, voxels, strict=True):
        out[head] = (volume[head] - volume[head].mean()) / volume[head].std()
        out[head & (out == 0)] = 1e-4
    return made


def test_a_standardised_head_is_a_whole_one(tmp_path, volumes):
    cohort = Cohort(tmp_path, volumes, standardised)
    head = int((volumes[TEST][1][-1] > 0).sum())
    assert cohort.moments[TEST].counts.sum() == head == 16_344
    positive = take_moments(cohort.paths[TEST], replace(SETTINGS, mask="positive"))
    assert positive.counts.sum() < 0.6 * head


def test_a_head_that_cannot_be_told_from_its_background_is_refused(tmp_path, volumes):
    header, voxels = volumes[TEST]
    paths = [tmp_path / f"{v}.nii" for v in range(5)]
    for path, volume in zip(paths, voxels, strict=True):
        write_volume(path, header, (volume - 50.5).astype("<f4"))
    with pytest.raises(BadInput, match="nobody can tell the head from the background"):
        take_moments(paths, SETTINGS)
    write_volume(tmp_path / "mask.nii", header, (voxels[-1] > 0).astype("u1"))
    moments = take_moments(paths, replace(SETTINGS, mask="file"), tmp_path / "mask.nii")
    assert moments.counts.sum() == (voxels[-1] > 0).sum()
    assert moments.share == pytest.approx((voxels[-1] > 0).mean())


def blend_new(folder, cohort, pid, **differs):
    weights = cohort.weights
    weights = replace(weights, settings=replace(weights.settings, **differs))
    return blending.blend_new(cohort.paths[pid][:-1], weights, folder / "new.nii", folder)


def test_one_spike_empties_no_blend(tmp_path, volumes, plain):
    cohort, _ = plain
    blend_new(tmp_path, cohort, TEST)
    expected = read_volume(tmp_path / "new.nii")[1] != 0

    def spiked(voxels, pid):
        voxels[:-1, 20, 24, 18] = 20 * voxels[:-1].max()
        return voxels

    other = Cohort(tmp_path / "c", {TEST: volumes[TEST]}, spiked)
    seen = blending.blend_new(other.paths[TEST][:-1], cohort.weights, tmp_path / "new.nii", tmp_path)
    found = read_volume(tmp_path / "new.nii")[1] != 0
    assert expected.sum() > 10_000
    assert (found != expected).sum() <= 27
    assert seen.kept == pytest.approx(found.mean(), abs=1e-3)


def cut_in_two(voxels, pid):
    voxels[:, 18:21] = 0
    return voxels


def test_a_head_in_two_parts_is_blended_and_measured_whole(tmp_path, volumes):
    told = Cohort(tmp_path / "a", volumes, cut_in_two).evaluate()
    best = min(told[f"{model}@train-scale"]["mse"] for model in MODELS)
    assert told["blend"]["mse"] < best
    # By one component all methods lose the same voxels.
    one = Cohort(tmp_path / "b", volumes, cut_in_two, replace(SETTINGS, largest_component=True))
    _header, voxels = volumes[TEST]
    found = one.evaluate()
    part = (voxels[-1] > 0) & (np.arange(40)[:, None, None] >= 21)
    other = (voxels[-1] > 0) & (np.arange(40)[:, None, None] < 18)
    larger = part if part.sum() > other.sum() else other
    for model, volume in zip(MODELS, voxels, strict=False):
        assert found[model]["mse"] == pytest.approx(((volume - voxels[-1])[larger] ** 2).mean(), rel=1e-9)


def test_background_that_is_no_number(tmp_path, volumes):
    header, voxels = volumes[TEST]
    made = np.where(voxels[-1] > 0, voxels, np.nan)
    paths = [tmp_path / f"{v}.nii" for v in range(5)]
    for path, volume in zip(paths, made, strict=True):
        write_volume(path, header, volume.astype("<f4"))
    with pytest.raises(BadInput, match="--nan background"):
        take_moments(paths, SETTINGS)
    moments = take_moments(paths, replace(SETTINGS, nan="background"))
    assert moments.counts.sum() == (voxels[-1] > 0).sum()


# ------------------------------------------------------------------ experts that say nothing


@pytest.mark.parametrize("value", [1000.3, 1000.0])
def test_an_expert_of_one_value_has_no_part(tmp_path, volumes, value):
    def constant(voxels, pid):
        voxels[3] = np.where(voxels[-1] > 0, value, 0)
        return voxels

    without = Cohort(tmp_path / "a", volumes, lambda voxels, pid: voxels[[0, 1, 2, 4]])
    with_it = Cohort(tmp_path / "b", volumes, constant)
    assert with_it.moments[TEST].flat().tolist() == [False, False, False, True, False]
    assert not with_it.weights.W[:, 3].any()
    assert np.abs(with_it.weights.W[:, :3] - without.weights.W).max() < 1e-9
    found, expected = with_it.evaluate(), without.evaluate()
    assert found["blend"]["psnr"] >= expected["blend"]["psnr"] - 1e-3
    assert f"{MODELS[3]}@train-scale" not in found


def test_deviations_are_right_however_far_from_zero(tmp_path):
    rng = np.random.default_rng(0)
    voxels = (2.0**20 + rng.integers(0, 8, (20, 20, 20))).astype("<f4")
    header, _ = read_volume(paths_of(TEST)[0])
    write_volume(tmp_path / "x.nii", header, voxels)
    mean, deviation = take_moments([tmp_path / "x.nii"] * 2, SETTINGS).scale()
    assert mean == pytest.approx(voxels.astype(float).mean(), rel=1e-12)
    assert deviation == pytest.approx(voxels.astype(float).std(), rel=1e-9)


def test_one_large_expert_does_not_drown_the_others():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(50, 3)) * [1, 1, 1e8]
    Q, b = (A.T @ A)[None], (A.T @ A[:, 0])[None]
    W, gap = simplex.solve_simplex(Q, b, 1e-6)
    assert W[0] == pytest.approx([1, 0, 0], abs=1e-3)
    assert gap.max() < simplex.CERTIFIED


# ------------------------------------------------------------------ places and people


def turned_over(header, voxels):
    """The same head, stored from the other side."""
    raw = bytearray(header)
    affine = np.frombuffer(header[280:328], "<f4").reshape(3, 4).copy()
    affine[:, 3] += affine[:, 0] * (voxels.shape[-3] - 1)
    affine[:, 0] *= -1
    raw[280:328] = affine.tobytes()
    return bytes(raw), voxels[..., ::-1, :, :]


def test_a_mirrored_patient_is_refused(cohort, tmp_path, capsys):
    base, place = cohort
    for name in ("A", "B", "HR"):
        write_volume(place("P2", name), *turned_over(*read_volume(place("P2", name))))
    options = {
        "manifest": str(base / "manifest.json"),
        "root": str(base),
        "patch": 8,
        "stride": 4,
        "maps": False,
    }
    with penstock.Run(tmp_path / "run", budget="1GiB", backend="inline", set_aside=True) as opened:
        Superres().run(opened, **options)
    told = json.loads((tmp_path / "run/metrics.json").read_text())
    (aside,) = told["set_aside"]
    assert aside["patient"] == "P2"
    assert "its axes run LAS and theirs RAS" in aside["reason"]
    with penstock.Run(tmp_path / "index", budget="1GiB", backend="inline") as opened:
        Superres().run(opened, **options, same_grid="index")
    assert "1 of 4 patients lie up to" in capsys.readouterr().err
    # What was learnt on one side is not applied to the other.
    new = {name: {"3mm": {"t1c": str(place("P2", name))}} for name in ("A", "B")}
    (tmp_path / "new.json").write_text(json.dumps({"folds": [{"train": {}, "test": {"P2": new}}]}))
    weights = str(tmp_path / "run/fold-1/weights.npz")
    with (
        pytest.raises(BadInput, match="its axes run LAS"),
        penstock.Run(tmp_path / "new", budget="1GiB", backend="inline") as opened,
    ):
        SuperresBlend().run(opened, weights=weights, manifest=str(tmp_path / "new.json"))


def placed(header, affine):
    """A header with this sform."""
    raw = bytearray(header)
    raw[280:328] = affine[:3].astype("<f4").tobytes()
    return bytes(raw)


def test_oblique_heads_lie_in_one_place(cohort, tmp_path, capsys):
    base, place = cohort
    turn = np.eye(4)
    turn[:2, :2] = [[0.9949, -0.1009], [0.1009, 0.9949]]  # to two digits: 1.2 mm away at 240 voxels
    rng = np.random.default_rng(3)
    for pid in ("P0", "P1", "P2", "P3"):
        for name in ("A", "B", "HR"):
            header, _ = read_volume(place(pid, name))
            voxels = rng.uniform(50, 100, (240, 8, 4)).astype(np.float32)
            write_volume(place(pid, name), placed(header, turn), voxels)
    for kind in ("affine", "index"):
        with penstock.Run(tmp_path / kind, budget="1GiB", backend="inline") as opened:
            Superres().run(
                opened, manifest=str(base / "manifest.json"), root=str(base), patch=8, stride=4, maps=False,
                same_grid=kind,
            )  # fmt: skip
    assert "--same-grid" not in capsys.readouterr().err


SCANS = [f"BraTS-GLI-0000{person}-{visit}" for person in range(3) for visit in ("000", "100")]


def test_scans_of_a_person_are_in_one_fold(tmp_path, capsys):
    apart = manifest.split(SCANS, 3, 1)
    assert any(manifest.shared_people(train, test) for train, test in apart)
    people = manifest.groups_of(SCANS, r"^(BraTS-GLI-\d+)-")
    (tmp_path / "people.csv").write_text("".join(f"{scan},{people[scan]}\n" for scan in SCANS))
    assert manifest.groups_of(SCANS, str(tmp_path / "people.csv")) == people
    together = manifest.split(SCANS, 3, 1, people)
    assert sorted(pid for _, test in together for pid in test) == SCANS
    for train, test in together:
        assert not {people[pid] for pid in train} & {people[pid] for pid in test}
        assert manifest.shared_people(train, test) == []
    with pytest.raises(BadInput, match="6 of 6 scans not whose they are"):
        manifest.groups_of(SCANS, "nobody")
    with pytest.raises(UsageError, match="neither a file nor a regular expression"):
        manifest.groups_of(SCANS, "(")
    with pytest.raises(UsageError, match="4 folds of 3 people"):
        manifest.split(SCANS, 4, 1, people)
    options.warn_of_people(2, *next(fold for fold in apart if manifest.shared_people(*fold)))
    assert "learnt from and tested seems to be" in capsys.readouterr().err


def test_names_that_are_no_visits_are_people_of_their_own():
    assert manifest.shared_people(["SYN-0001", "SYN-0002"], ["SYN-0003"]) == []
    assert manifest.shared_people(["SYN-0001", "SYN-0002", "GLI-0001-0"], ["SYN-0003"]) == ["SYN"]
    assert manifest.shared_people(["sub-01_ses-1"], ["sub-01_ses-2", "sub-02_ses-1"]) == ["sub-01"]
    assert manifest.shared_people(["anna", "bert"], ["carla"]) == []


# ------------------------------------------------------------------ statistics


def rows_of(differences):
    rows = []
    for number, difference in enumerate(differences):
        for method, psnr in (("blend", 20 + difference), ("A", 20.0)):
            rows.append({"patient": str(number), "method": method, "psnr": psnr})
    return rows


def test_equal_differences_have_no_effect_size():
    assert summary.paired(rows_of([9.0]))["A"]["psnr"]["dz"] is None
    assert summary.paired(rows_of([0.1, 0.1, 0.1]))["A"]["psnr"]["dz"] is None
    told = summary.paired(rows_of([1.0, 2.0, 4.0]))["A"]["psnr"]
    assert told["dz"] == pytest.approx(np.mean([1, 2, 4]) / np.std([1, 2, 4], ddof=1))
    assert told["p"] == stats.binomtest(3, 3).pvalue


def test_p_values_are_corrected_for_their_number():
    assert summary.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert summary.holm([0.9, 0.8]) == [1.0, 1.0]
    assert summary.holm([]) == []
    assert any("takes 6" in note for note in summary.notes(4))
    assert not any("takes 6" in note for note in summary.notes(6))


def test_a_metric_that_is_unknown_for_one_patient_has_no_mean():
    rows = rows_of([1.0, 2.0])
    rows[0]["psnr"] = None
    assert summary.means(rows)["blend"]["psnr"] is None
    assert summary.paired(rows)["A"] == {}


def test_settings_are_chosen_without_the_folds_that_they_are_told_of():
    rows = [
        {"tau": 0.0, "fold": 1, "error": 5.0, "patients": 1, "inner_error": 1.0},
        {"tau": 0.0, "fold": 2, "error": 1.0, "patients": 3, "inner_error": 3.0},
        {"tau": 0.5, "fold": 1, "error": 2.0, "patients": 1, "inner_error": 2.0},
        {"tau": 0.5, "fold": 2, "error": 2.0, "patients": 3, "inner_error": 2.0},
        {"tau": 1.0, "fold": 1, "error": None, "patients": 0, "inner_error": None},
        {"tau": 1.0, "fold": 2, "error": None, "patients": 0, "inner_error": None},
    ]
    told = summary.choose(rows, [{"tau": 0.0}, {"tau": 0.5}, {"tau": 1.0}])
    assert told["selected_on"] == "test folds"
    # Means are over patients, and what is unknown is last.
    assert [(each["tau"], each["error"]) for each in told["means"]] == [(0.0, 2.0), (0.5, 2.0), (1.0, None)]
    assert [each["tau"] for each in told["nested"]["folds"]] == [0.0, 0.5]
    assert told["nested"]["error"] == (5.0 * 1 + 2.0 * 3) / 4


def test_a_sweep_has_nested_errors(tmp_path):
    with penstock.Run(tmp_path / "run", budget="1GiB", backend="inline") as opened:
        Superres().run(
            opened, manifest=str(DATA / "synthA/manifest.json"), root=str(DATA), patch=16, stride=8,
            sweep=["lambda_grad=0,0.2"],
        )  # fmt: skip
    told = json.loads((tmp_path / "run/sweep.json").read_text())
    assert len(told["nested"]["folds"]) == 4
    assert told["nested"]["error"] >= told["means"][0]["error"]


def test_a_perfect_expert_has_no_finite_psnr(tmp_path, volumes):
    cohort = Cohort(
        tmp_path, volumes, lambda voxels, pid: voxels[[4, 1, 4]], replace(SETTINGS, normalize="none")
    )
    told = cohort.evaluate()
    assert told[MODELS[0]] == {"mse": 0.0, "mae": 0.0, "psnr": None, "ssim": pytest.approx(1.0)}


def test_the_range_of_metrics_can_be_chosen(tmp_path, volumes, plain):
    def spiked(voxels, pid):
        voxels[-1, 20, 24, 18] = 5 * voxels[-1].max()
        return voxels

    told = {}
    for name, change in (("plain", lambda voxels, pid: voxels), ("spiked", spiked)):
        for choice in ("max", "p99.9", "1000"):
            chosen = replace(SETTINGS, data_range=choice)
            told[name, choice] = Cohort(tmp_path / f"{name}{choice}", volumes, change, chosen).evaluate()[
                "SMORE"
            ]
    assert told["spiked", "max"]["psnr"] - told["plain", "max"]["psnr"] > 5
    assert abs(told["spiked", "p99.9"]["psnr"] - told["plain", "p99.9"]["psnr"]) < 3
    mse = told["plain", "1000"]["mse"]
    assert told["plain", "1000"]["psnr"] == pytest.approx(20 * np.log10(1000 / np.sqrt(mse)))
    with pytest.raises(UsageError, match="data range"):
        replace(SETTINGS, data_range="wide")


def test_options_of_masks():
    assert options.mask_rule("auto", of_files=False) == ("auto", None)
    assert options.mask_rule("m/{patient}.nii", of_files=True) == ("file", "m/{patient}.nii")
    for given, of_files in (("positive", True), ("head", False), ("m/x.nii", True)):
        with pytest.raises(UsageError, match="--mask"):
            options.mask_rule(given, of_files=of_files)


def test_masks_in_files_are_used_from_end_to_end(cohort, tmp_path):
    base, place = cohort
    for number in range(4):
        pid = f"P{number}"
        header, voxels = read_volume(place(pid, "HR"))
        smaller = (voxels > 0) & (np.arange(voxels.shape[2]) > 3)
        write_volume(base / "masks" / f"{pid}.nii.gz", header, smaller.astype("u1"))
    with penstock.Run(tmp_path / "run", budget="1GiB", backend="inline") as opened:
        Superres().run(
            opened, manifest=str(base / "manifest.json"), root=str(base), patch=8, stride=4, maps=False,
            mask="masks/{patient}.nii.gz",
        )  # fmt: skip
    told = json.loads((tmp_path / "run/metrics.json").read_text())
    assert 0 < told["folds"][0]["mask_share"]["P2"] < 0.8
    rows = pq.read_table(tmp_path / "run/test/metrics/results.parquet").to_pylist()
    header, truth = read_volume(place("P0", "HR"))
    mask = read_volume_mask(base / "masks/P0.nii.gz")
    expert = read_volume(place("P0", "A"))[1].astype(float)
    (row,) = [row for row in rows if (row["patient"], row["method"]) == ("P0", "A")]
    assert row["mse"] == pytest.approx(((expert - truth)[mask] ** 2).mean(), rel=1e-9)
    blend = nibabel.load(next((tmp_path / "run/test/blends").glob("*P0*"))).get_fdata()
    assert not blend[~mask].any()


def read_volume_mask(path):
    return nibabel.load(path).get_fdata() != 0


def test_what_the_largest_component_leaves_out_is_told(cohort, tmp_path):
    base, place = cohort
    truths = {}
    for number in range(4):
        pid = f"P{number}"
        for name in ("A", "B", "HR"):
            header, voxels = read_volume(place(pid, name))
            voxels = voxels.copy()
            voxels[:2] = 0  # two empty planes between the head and a part of 2 x 3 x 4 voxels
            voxels[0, :4, :6] = 0
            voxels[0, :2, : 3 if name == "HR" else 6] = voxels.max()
            write_volume(place(pid, name), header, voxels)
            if name == "HR":
                truths[pid] = voxels
    options = {
        "manifest": str(base / "manifest.json"),
        "root": str(base),
        "patch": 8,
        "stride": 4,
        "maps": False,
    }
    for folder, chosen in (("all", False), ("one", True)):
        with penstock.Run(tmp_path / folder, budget="1GiB", backend="inline") as opened:
            Superres().run(opened, **options, largest_component=chosen)
    told = json.loads((tmp_path / "one/metrics.json").read_text())
    removed = {pid: each for fold in told["folds"] for pid, each in fold["removed"].items()}
    assert set(removed) == set(truths)
    for pid, truth in truths.items():
        parts, _ = ndimage.label(truth > 0, ndimage.generate_binary_structure(3, 2))
        sizes = np.bincount(parts.ravel())[1:]
        assert removed[pid]["removed"] == sizes.sum() - sizes.max() >= 6
    # What superres-blend tells of the same experts, by the same weights.
    for fold in told["folds"]:
        with penstock.Run(tmp_path / f"new-{fold['fold']}", budget="1GiB", backend="inline") as opened:
            SuperresBlend().run(
                opened, weights=str(tmp_path / f"one/fold-{fold['fold']}/weights.npz"), root=str(base),
                manifest=str(base / "manifest.json"), largest_component=True,
            )  # fmt: skip
        table = pq.read_table(tmp_path / f"new-{fold['fold']}/new/scales/results.parquet")
        for row in table.to_pylist():
            if row["patient"] in fold["removed"]:
                assert row["removed"] == fold["removed"][row["patient"]]["blend_removed"] >= 12
    # Unasked, nothing is left out, and the table is as it was.
    every = json.loads((tmp_path / "all/metrics.json").read_text())
    assert [fold["removed"] for fold in every["folds"]] == [{}, {}]
    assert "removed" not in pq.read_schema(tmp_path / "all/test/metrics/results.parquet").names


@pytest.mark.parametrize(
    "asked", [{"largest_component": True}, {"mask": "nonzero"}, {"mask": "m/{patient}.nii"}]
)
def test_what_the_published_program_does_otherwise_is_refused_under_its_rules(asked):
    usual = {"mask": "auto", "calibration": "train", "same_grid": "affine", "largest_component": False}
    options.check_compat(usual | {"mask": "positive"}, usual)
    (name,) = asked
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} has no effect under --compat upstream"):
        options.check_compat(usual | asked, usual)
