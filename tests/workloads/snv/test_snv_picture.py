"""The picture: counts against whole columns, what is drawn when, the same bytes, and how it is asked for."""

import importlib.util
import json
import os
import sys
from itertools import combinations
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from snv_runs import coverage, run, small_table
from test_snv_kernel import random_weights

from penstock.cli import main
from penstock.errors import MissingExtra, UsageError
from penstock.workloads.snv.results import binned
from penstock.workloads.snv.results.picture import NAMED, draw
from penstock.workloads.snv.verdicts import ONE_ALLELE, REASONS


def save(path, p, codes, prob, group=700):
    """A positions.parquet, as far as it is drawn."""
    reasons = [REASONS[code] if code else None for code in codes.tolist()]
    columns = {
        "pos": pa.array(p, pa.int64()),
        "removed_by": pa.array(reasons, pa.string()),
        "prob": pa.array(prob, pa.float32(), mask=(codes != 0) | np.isnan(prob)),
    }
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def some(seed, count, length=4_000_000, share=0.6):
    """Positions, codes and probabilities; most are kept."""
    rng = np.random.default_rng(seed)
    p = np.sort(rng.choice(length, count, replace=False)) + 1
    codes = np.where(rng.random(count) < share, 0, rng.integers(1, len(REASONS), count))
    return p, codes, rng.beta(0.4, 0.3, count).astype(np.float32)


def summary_of(codes, medians=(40.0, 1.0, 38.5), network=True, **more):
    names = medians if isinstance(medians, dict) else {f"s{i}": median for i, median in enumerate(medians)}
    told = {"outgroup": [], "excluded": [], "dropped": [], "network": network, "median_coverage": names}
    told |= {"samples": len(names), "positions": len(codes), "kept": int((codes == 0).sum())}
    return told | {"thresholds": {"group_depth": float(np.median(list(names.values())))}} | more


@pytest.fixture
def drawn(tmp_path):
    """Draws; gives the texts and the tags of the SVG."""

    def make(p, codes, prob, dots=4000, **more):
        if not more.get("network", True):
            prob = np.full(len(p), np.nan, np.float32)
        path = save(tmp_path / "positions.parquet", p, codes, prob)
        draw(path, summary_of(codes, **more), tmp_path / "picture.svg", dots=dots)
        return read(tmp_path / "picture.svg")

    return make


def read(path):
    elements = list(ElementTree.parse(path).iter())
    return (
        [each.text.strip() for each in elements if each.tag.endswith(("}text", "}tspan")) and each.text],
        [each.tag.partition("}")[2] for each in elements],
    )


# ------------------------------------------------------------------ counting


@pytest.mark.parametrize(
    ("count", "length"), [(0, 1), (1, 5_000_000), (90, 120), (3000, 5_000_000), (9999, 10_000)]
)
def test_counts_are_those_of_whole_columns(count, length, tmp_path, monkeypatch):
    monkeypatch.setattr(binned, "_ROWS", 512)
    p, codes, prob = some(count, count, length)
    special = [0, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 1, np.nan, 0.02][:count]
    codes[: len(special)], prob[: len(special)] = 0, special
    found = binned.bin_positions(save(tmp_path / "x.parquet", p, codes, prob), dots=2000)
    edges = found.edges
    assert len(edges) <= binned.BINS + 2
    assert found.width in {digit * 10**e for digit in (1, 2, 5) for e in range(7)}
    assert not count or edges[0] <= p[0] <= p[-1] < edges[-1]
    for code in range(len(REASONS)):
        assert found.fates[code].tolist() == np.histogram(p[codes == code], edges)[0].tolist()
    known = (codes == 0) & ~np.isnan(prob)
    for level in range(binned.LEVELS):
        low, high = (level if level else -1) / binned.LEVELS, (level + 1) / binned.LEVELS
        inside = known & (prob.astype(float) > low) & (prob.astype(float) <= high)
        assert found.levels[level].tolist() == np.histogram(p[inside], edges)[0].tolist()
    assert found.labels == ((prob[known] <= 0.5).sum(), (prob[known] > 0.5).sum())
    if known.sum() > 2000:
        assert found.dots is None
    else:
        assert [each.tolist() for each in found.dots] == [p[known].tolist(), prob[known].tolist()]


def test_the_file_is_not_held(tmp_path, monkeypatch):
    rng, count = np.random.default_rng(0), 1_500_000
    p, prob = rng.integers(1, 1000, count).cumsum(), rng.random(count).astype(np.float32)
    path = save(tmp_path / "x.parquet", p, np.zeros(count, int), prob, group=1 << 16)
    held, before, levels = [], pa.total_allocated_bytes(), binned._levels

    def seen(prob):
        held.append(pa.total_allocated_bytes() - before)
        return levels(prob)

    monkeypatch.setattr(binned, "_levels", seen)
    binned.bin_positions(path, dots=4000)
    assert len(held) > 20
    assert max(held) < path.stat().st_size / 2


# ------------------------------------------------------------------ what is drawn


def test_few_probabilities_are_dots_and_many_a_density(drawn):
    p, codes, prob = some(1, 900)
    known = int((codes == 0).sum())
    dots, density = drawn(p, codes, prob), drawn(p, codes, prob, dots=known - 1)
    assert dots[1].count("use") > known > density[1].count("use")
    assert density[1].count("image") == dots[1].count("image") + 3  # the densities, and a bar for each
    assert "positions in 20 kb × 0.02 of probability" in density[0]
    for texts, _ in (dots, density):
        ones = int((prob[codes == 0] > 0.5).sum())
        assert f"3 samples, 900 positions: {known} kept, {ones} with label 1" in texts
        assert {"label 1", f"{ones}", "label 0", f"{known - ones}", *REASONS[1:]} <= set(texts)
        for code in range(1, len(REASONS)):
            assert f"{(codes == code).sum()}" in texts
        assert "position in the genome (Mb)" in texts


def test_without_a_network_there_is_no_label(drawn):
    p, codes, prob = some(2, 900)
    texts, _ = drawn(p, codes, prob, network=False)
    assert f"3 samples, 900 positions: {(codes == 0).sum()} kept" in texts
    assert "Positions that are kept (without a network there are no probabilities)" in texts
    assert not any("label" in text for text in texts)


@pytest.mark.parametrize("network", [True, False])
def test_nothing_to_draw_is_said(drawn, network):
    p, codes, prob = some(3, 40)
    texts, _ = drawn(p, np.full(40, ONE_ALLELE), prob, network=network)
    assert "no position is kept" in texts
    assert "the table has no positions" not in texts
    texts, _ = drawn(p[:0], codes[:0], prob[:0], network=network, medians=(40.0,))
    assert {"no position is kept", "the table has no positions"} < set(texts)
    assert any(text.startswith("1 sample, 0 positions: 0 kept") for text in texts)


def test_samples_are_sorted_and_told_apart(drawn):
    texts, _ = drawn(
        *some(4, 50), medians={"B": 30.0, "a $x$": 0.0, "c\x01\n": 30.5, "d" * 40: 90.0, "o": 7.0, "e": 8.0},
        dropped=["a $x$"], outgroup=["o"], excluded=["e"],
    )  # fmt: skip
    shown = [text for text in texts if text in ("B", "a $x$", "c??", "d" * 23 + "…", "o", "e")]
    assert shown == ["a $x$", "o", "e", "B", "c??", "d" * 23 + "…"]
    assert {"in the tensor 3", "dropped 1", "outgroup 1", "excluded 1"} < set(texts)
    many = {f"s{i:03d}": 100.0 - i for i in range(NAMED + 1)}
    texts, _ = drawn(*some(4, 50), medians=many)
    assert (
        "samples, the lowest median first: s060 (40), s059 (41), s058 (42), s057 (43), s056 (44), …" in texts
    )
    assert "s030" not in texts


def test_probabilities_that_were_set_aside_are_counted(drawn):
    p, codes, prob = some(5, 50)
    prob[:20] = np.nan
    lost = int((codes[:20] == 0).sum())
    assert any(f"Kept without a probability: {lost}." in text for text in drawn(p, codes, prob)[0])


PAGES = {
    "dots": (some(6, 3000), {"medians": tuple(np.linspace(0, 70, 60))}),
    "density": (some(7, 20_000), {"medians": tuple(np.linspace(20, 400, 700)), "dropped": ["s3", "s5"]}),
    "no network": (some(8, 20_000), {"medians": tuple(np.linspace(1, 9, 80)), "network": False}),
    "long names": (
        some(9, 500),
        {
            "medians": {f"{i:02d}-isolate-of-ward-{'W' * 20}": 300.0 + i for i in range(60)},
            "outgroup": [f"o{i}" for i in range(3)], "excluded": ["e1"],
        },
    ),
    "many long names": (
        some(10, 500), {"medians": {f"{i:03d}-isolate-of-ward-{'W' * 20}": 1e5 * i for i in range(90)}}
    ),
    "one": (some(11, 1), {"medians": (8.0,)}),
    "none": (some(12, 0), {"medians": (12.0, 0.0)}),
}  # fmt: skip


@pytest.mark.parametrize("case", list(PAGES))
def test_no_text_lies_on_another_or_leaves_the_page(case, drawn, monkeypatch):
    pages = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: pages.append(boxes(figure)))
    monkeypatch.setattr(sys.modules[__name__], "read", lambda path: None)
    columns, more = PAGES[case]
    drawn(*columns, **more)
    (((width, height), texts),) = pages
    assert len(texts) > 20
    for told, (left, bottom, right, top) in texts:
        assert left > 0, told
        assert bottom > 0, told
        assert right < width, told
        assert top < height, told
    for (told, a), (other, b) in combinations(texts, 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, (told, other)


def boxes(figure):
    """The page, and where each text of it lies, in pixels; letters leave some of the height free."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = []
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text():
            box = text.get_window_extent(canvas.get_renderer())
            margin = 0.1 * min(box.width, box.height)
            found.append(
                (text.get_text(), (box.x0 + margin, box.y0 + margin, box.x1 - margin, box.y1 - margin))
            )
    return canvas.get_width_height(), found


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_bytes_whatever_the_settings(kind, tmp_path):
    p, codes, prob = some(13, 300)
    path = save(tmp_path / "x.parquet", p, codes, prob)
    for number, settings in enumerate(({}, {"font.size": 30, "savefig.dpi": 11, "svg.hashsalt": "other"})):
        with matplotlib.rc_context(settings):
            draw(path, summary_of(codes), tmp_path / f"{number}.{kind}", dots=20)
            assert settings.items() <= matplotlib.rcParams.items()
    assert (tmp_path / f"0.{kind}").read_bytes() == (tmp_path / f"1.{kind}").read_bytes()


# ------------------------------------------------------------------ runs


@pytest.fixture
def options(tmp_path):
    np.savez(tmp_path / "cmt.npz", **small_table())
    np.savez(tmp_path / "weights.npz", **random_weights(6))
    cover = coverage(tmp_path / "cov.npz", (40,) * 12)
    return {
        "table": str(tmp_path / "cmt.npz"), "coverage": cover, "model": str(tmp_path / "weights.npz"),
    }  # fmt: skip


def test_a_run_draws_both(options, tmp_path):
    rows, summary = run(tmp_path / "run", picture=["svg", "png"], **options)
    with Image.open(tmp_path / "run" / "picture.png") as image:
        assert min(image.size) > 1000
        colours = image.convert("RGB").getcolors(1 << 20)
    assert len(colours) > 20
    assert 0.5 < max(number for number, _ in colours) / sum(number for number, _ in colours) < 0.98
    texts, _ = read(tmp_path / "run" / "picture.svg")
    ones = sum(label == 1 for label in rows["label"])
    assert f"12 samples, 60 positions: {summary['kept']} kept, {ones} with label 1" in texts
    assert set(REASONS[1:]) & set(texts) == set(rows["removed_by"]) - {None}  # empty rows are hidden


@pytest.mark.usefixtures("worked_here")
def test_a_picture_is_added_to_a_finished_run(options, tmp_path):
    into = tmp_path / "run"
    command = ["run", "snv"]
    command += [word for name, value in options.items() for word in (f"--{name}", value)]
    command += ["--into", str(into), "--budget", "1GiB"]
    assert CliRunner().invoke(main, [*command, "--picture", "png"]).exit_code == 0
    assert [path.name for path in into.glob("picture.*")] == ["picture.png"]
    more = ["--picture", "png", "--picture", "svg", "--accept-changes"]
    assert CliRunner().invoke(main, [*command, *more]).exit_code == 0
    expected = run(tmp_path / "inline", picture="svg", **options)[1]
    assert json.loads((into / "summary.json").read_text()) == expected
    assert (into / "picture.svg").read_bytes() == (tmp_path / "inline" / "picture.svg").read_bytes()
    assert not (tmp_path / "inline" / "picture.png").exists()


def test_without_matplotlib_nothing_is_begun(options, tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "matplotlib" else there(name, *more)
    )
    with pytest.raises(MissingExtra, match=r"the picture needs .*'matplotlib'.*penstock\[plot\]"):
        run(tmp_path / "run", picture="png", **options)
    assert [name for name in os.listdir(tmp_path / "run") if name[0] != "."] == []
    assert run(tmp_path / "other", **options)


def test_no_other_format(options, tmp_path):
    with pytest.raises(UsageError, match="'gif' is not one of 'png', 'svg', 'pdf'"):
        run(tmp_path / "run", picture=("svg", "gif"), **options)
    assert not (tmp_path / "run" / "read").exists()
