"""The sums, the weights, the blends and the metrics, against the oracle."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from superres_oracle import (
    CASES,
    DATA,
    EXPECTED,
    MODELS,
    SHAPE,
    paths_of,
    published,
    read_volume,
    settings_of,
    write_volume,
)

from penstock.errors import BadInput, UsageError
from penstock.workloads.superres import blending, simplex
from penstock.workloads.superres.components import Components
from penstock.workloads.superres.moments import Moments, Total, statistics_of, take_moments
from penstock.workloads.superres.settings import Settings, grid_of
from penstock.workloads.superres.weights import Weights, entropy, fit


@pytest.fixture(scope="module")
def moments_of():
    """Moments by patient and what they depend on, each taken once."""
    known = {}

    def take(pid, chosen):
        key = pid, *chosen.pass_key().values()
        if key not in known:
            known[key] = take_moments(paths_of(pid), chosen)
        return known[key]

    return take


def learn(moments_of, chosen):
    return fit([moments_of(pid, chosen) for pid in EXPECTED["train"]], MODELS, chosen)


@pytest.mark.parametrize("case", CASES)
def test_statistics_and_weights_equal_the_oracle(moments_of, case):
    expected, weights = np.load(DATA / f"synthA_{case}.npz"), learn(moments_of, settings_of(case))
    statistics = weights.statistics
    assert statistics.regions.tolist() == expected["rids"].tolist()
    assert statistics.n.tolist() == expected["n"].tolist()
    for mine, theirs in ((statistics.Q, expected["Q"]), (statistics.b, expected["B"])):
        scale = np.abs(theirs).reshape(len(theirs), -1).max(1)
        assert (np.abs(mine - theirs).reshape(len(theirs), -1).max(1) < 1e-6 * scale).all()
    assert np.abs(weights.W_exact - expected["W_exact"]).max() < 1e-6
    assert np.abs(weights.W - expected["W_smoothed"]).max() < 1e-6
    if weights.settings.simplex:
        assert weights.gap.max() < 1e-12
        assert weights.uncertified == 0


@pytest.mark.parametrize("case", CASES)
def test_blends_and_metrics_equal_the_oracle(moments_of, tmp_path, case):
    chosen, pid = settings_of(case), EXPECTED["test_patient"]
    told = blending.evaluate(
        paths_of(pid), moments_of(pid, chosen), learn(moments_of, chosen), tmp_path / "blend.nii.gz", tmp_path
    )
    assert told["blend"] == pytest.approx(published(EXPECTED[case]["metrics_exact"]), rel=1e-5)
    for model in MODELS:
        assert told[model] == pytest.approx(published(EXPECTED["expert_metrics"][model]), rel=1e-5)
    header, blend = read_volume(tmp_path / "blend.nii.gz")
    assert np.abs(blend[::5, ::5, ::5] - np.load(DATA / f"synthA_{case}.npz")["blend_probe"]).max() < 1e-3
    truth_header, _ = read_volume(paths_of(pid)[-1])
    assert header[252:344] == truth_header[252:344]  # the affine


def ssim_of(truth, volume, axis):
    """SSIM slice by slice, straight from its definition."""
    found = []
    for x, y in zip(np.moveaxis(truth, axis, 0), np.moveaxis(volume, axis, 0), strict=True):
        mask = x > 0
        x, y = x * mask, y * mask
        span = x.max() - x.min()
        if span < 1e-7:
            continue
        windows = [np.lib.stride_tricks.sliding_window_view(each, (7, 7)) for each in (x, y)]
        (ux, uy), n = (w.mean((2, 3)) for w in windows), 49 / 48
        vx, vy = (n * (w**2).mean((2, 3)) - n * u**2 for w, u in zip(windows, (ux, uy), strict=True))
        vxy = n * (windows[0] * windows[1]).mean((2, 3)) - n * ux * uy
        c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
        top = (2 * ux * uy + c1) * (2 * vxy + c2)
        found.append((top / ((ux**2 + uy**2 + c1) * (vx + vy + c2))).mean())
    return np.mean(found)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_published_ssim_across_every_axis(moments_of, tmp_path, axis):
    chosen = replace(settings_of("default"), ssim_axis=("axial", "coronal", "sagittal")[axis])
    paths = paths_of("SYN-0001")
    told = blending.evaluate(paths, moments_of("SYN-0001", chosen), learn(moments_of, chosen), None, tmp_path)
    truth = read_volume(paths[-1])[1].astype(float)
    for path, model in zip(paths[:-1], MODELS, strict=True):
        assert told[model]["ssim_slices"] == pytest.approx(
            ssim_of(truth, read_volume(path)[1].astype(float), axis), rel=1e-9
        )


@pytest.mark.parametrize("case", ["default", "scharr", "nonorm"])
def test_weights_of_whole_tiles_blend_better(moments_of, tmp_path, case):
    """What upstream learns on a tile's first cell it applies to the tile."""
    pid, chosen = EXPECTED["test_patient"], settings_of(case)
    ours = replace(chosen, upstream=False, ridge=1e-6, calibration="truth", mask="auto")
    told = [
        blending.evaluate(paths_of(pid), moments_of(pid, each), learn(moments_of, each), None, tmp_path)[
            "blend"
        ]["mse"]
        for each in (ours, chosen)
    ]
    assert told[0] < 0.95 * told[1]


def test_tiles_are_the_sums_of_their_cells(moments_of):
    chosen = Settings(patch=24, stride=8)
    total = Total(int(np.prod(grid_of(SHAPE, 8))), 4)
    total.add(statistics_of(moments_of("SYN-0001", chosen), chosen))
    grid = grid_of(SHAPE, 8)
    cells = {
        int(r): (n, Q)
        for r, n, Q in zip(*(getattr(total.cells(), x) for x in ("regions", "n", "Q")), strict=True)
    }
    tiles = total.tiles(grid, 3)
    for r, n, Q in list(zip(tiles.regions, tiles.n, tiles.Q, strict=True))[::7]:
        first = np.unravel_index(r, grid)
        inside = [
            np.ravel_multi_index(at, grid)
            for at in np.ndindex(*grid)
            if all(0 <= a - f < 3 for a, f in zip(at, first, strict=True))
        ]
        parts = [cells[int(cell)] for cell in inside if int(cell) in cells]
        assert n == sum(part[0] for part in parts)
        assert np.allclose(Q, sum(part[1] for part in parts), rtol=1e-12)


def test_moments_and_weights_are_kept(moments_of, tmp_path):
    chosen = Settings(patch=16, stride=8)
    moments = moments_of("SYN-0001", chosen)
    moments.save(tmp_path / "m.npz")
    again = Moments.load(tmp_path / "m.npz")
    assert again.shape == moments.shape
    assert again.sums.tobytes() == moments.sums.tobytes()
    assert (again.steepest, again.lowest, again.highest) == (
        moments.steepest,
        moments.lowest,
        moments.highest,
    )
    weights = learn(moments_of, chosen)
    weights.save(tmp_path / "w.npz")
    loaded = Weights.load(tmp_path / "w.npz")
    assert loaded.W.tobytes() == weights.W.tobytes()
    assert (loaded.models, loaded.settings, loaded.shape) == (MODELS, chosen, SHAPE)
    (tmp_path / "x.npz").write_text("no")
    with pytest.raises(BadInput, match=r"no weights\.npz"):
        Weights.load(tmp_path / "x.npz")


def test_experts_that_are_the_truth_are_given_back(moments_of, tmp_path):
    """No window is 0 anywhere, so that nothing becomes the mean."""
    header, _ = read_volume(paths_of("SYN-0001")[-1])
    voxels = np.random.default_rng(1).uniform(100, 900, (20, 21, 22)).astype("<f4")
    write_volume(tmp_path / "x.nii", header, voxels)
    paths = [tmp_path / "x.nii"] * 3
    chosen = Settings(patch=8, stride=4)
    moments = take_moments(paths, chosen)
    weights = fit([moments], ("A", "B"), chosen)
    assert np.allclose(weights.W, 0.5)  # of least length
    blending.evaluate(paths, moments, weights, tmp_path / "b.nii.gz", tmp_path)
    assert np.abs(read_volume(tmp_path / "b.nii.gz")[1] - voxels).max() < 1e-2


# ------------------------------------------------------------------ the simplex


def problems(experts, count, seed):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(count, 30, experts)) + rng.normal(size=(count, 30, 1)) * rng.uniform(
        0, 5, (count, 1, 1)
    )
    y = rng.normal(size=(count, 30))
    scale = 10.0 ** rng.uniform(-3, 8, (count, 1, 1))
    return (A.transpose(0, 2, 1) @ A) * scale, (A.transpose(0, 2, 1) @ y[..., None])[..., 0] * scale[..., 0]


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 8), st.integers(0, 10_000))
def test_both_ways_to_the_optimum_meet(experts, seed):
    Q, b = problems(experts, 20, seed)
    W, gap = simplex.solve_simplex(Q, b)
    assert gap.max() < 1e-12
    assert np.allclose(W.sum(1), 1)
    assert (W >= 0).all()
    scaled, divided = simplex.scale(Q, b, 0.0, absolute=False)
    for r in range(len(b)):
        walked = np.empty(experts)
        simplex._active_set(scaled[r], divided[r], walked)
        assert np.abs(walked - W[r]).max() < 1e-7


def test_many_experts_are_certified():
    Q, b = problems(14, 100, 3)
    W, gap = simplex.solve_simplex(Q, b, 1e-6)
    assert gap.max() < 1e-12
    assert (np.abs(W.sum(1) - 1) < 1e-12).all()
    # Nothing between two experts is better, either.
    for r in range(0, 100, 10):
        value = W[r] @ Q[r] @ W[r] - 2 * b[r] @ W[r]
        for one, other in combinations(range(14), 2):
            moved = W[r].copy()
            step = 0.1 * moved[one]
            moved[[one, other]] += [-step, step]
            assert moved @ Q[r] @ moved - 2 * b[r] @ moved >= value - 1e-5 * abs(value)


def test_one_expert_and_one_voxel():
    assert simplex.solve_simplex(np.full((1, 1, 1), 4.0), np.ones((1, 1)))[0].tolist() == [[1.0]]
    x = np.array([1.0, 2.0])
    W, gap = simplex.solve_simplex(np.outer(x, x)[None], (1.5 * x)[None])
    assert np.allclose(W, 0.5)
    assert gap[0] < 1e-12


def test_a_region_of_zeros_mixes_all_alike_or_is_certified():
    W, gap = simplex.solve_simplex(np.zeros((1, 3, 3)), np.zeros((1, 3)), 1e-6)
    assert W.sum() == pytest.approx(1)
    assert gap[0] <= 1e-12


# ------------------------------------------------------------------ components, settings


def flood(mask):
    """Components by flooding: a number for each voxel, 0 outside."""
    labels, steps = (
        np.zeros(mask.shape, int),
        [d for d in np.ndindex(3, 3, 3) if 0 < np.abs(np.array(d) - 1).sum() < 3],
    )
    for seed in zip(*np.nonzero(mask), strict=True):
        if labels[seed]:
            continue
        number, todo = labels.max() + 1, [seed]
        labels[seed] = number
        while todo:
            at = np.array(todo.pop())
            for step in steps:
                near = tuple(at + step - 1)
                inside = all(0 <= a < n for a, n in zip(near, mask.shape, strict=True))
                if inside and mask[near] and not labels[near]:
                    labels[near] = number
                    todo.append(near)
    return labels


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.02, 0.4))
def test_the_largest_component_is_found(seed, share):
    mask = np.random.default_rng(seed).random((7, 6, 5)) < share
    components = Components(mask.shape)
    for k in range(5):
        components.add(np.ascontiguousarray(mask[:, :, k].T))
    found = np.zeros_like(mask)
    for k in range(5):
        plane = np.empty((6, 7), bool)
        components.plane(k, plane)
        found[:, :, k] = plane.T
    labels = flood(mask)
    sizes = np.bincount(labels[mask])
    assert found.sum() == sizes.max(initial=0)
    assert len(set(labels[found].tolist())) <= 1
    assert mask[found].all()


def test_settings_that_make_no_sense():
    for wrong in (
        {"patch": 0},
        {"patch": 20, "stride": 16},
        {"stride": 64},
        {"tau": 2},
        {"ridge": float("nan")},
    ):
        with pytest.raises(UsageError):
            Settings(**wrong)
    assert Settings(patch=8, stride=12, upstream=True).pass_key()["gaps"] == 8


def test_entropy():
    assert entropy(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx([0, np.log(2)])
