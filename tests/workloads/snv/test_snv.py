"""The workload from end to end: oracles, results, options, bad inputs, identical bytes, plans."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from compiled import check_warm, counted
from snv_runs import DATA, EXPECTED, changed, coverage, digests, positions, run, small_table, tensor
from test_snv_kernel import random_weights, slow
from waiting import read_bytes, until

import penstock
from penstock.errors import BadInput, UsageError
from penstock.testing import ReducerSuite
from penstock.workloads.snv import Snv, kernel
from penstock.workloads.snv.jobs import AddUp
from penstock.workloads.snv.results import final
from penstock.workloads.snv.table import open_table
from penstock.workloads.snv.verdicts import REASONS

# ------------------------------------------------------------------ oracles


@pytest.mark.parametrize("case", list(EXPECTED))
def test_positions_gaps_and_tensor_are_those_of_the_tool(case, tmp_path, model):
    told = EXPECTED[case]
    rows, summary = run(
        tmp_path / "run",
        table=str(DATA / f"{told['table']}_cmt.npz"),
        coverage=coverage(tmp_path / "cov.npz", told["medians"]),
        exclude=told["exclude"] or None,
        min_cov_samp=told["min_cov_samp"],
        tensor=True,
        model=model,
    )
    assert positions(rows, rows["kept"]) == told["pos"]
    assert positions(rows, [gap is not None for gap in rows["gap"]]) == told["judged"]
    assert positions(rows, [bool(gap) for gap in rows["gap"]]) == told["removed"]
    found = tensor(tmp_path / "run")
    assert list(found.shape) == told["shape"]
    assert hashlib.sha256(found.tobytes()).hexdigest() == told["tensor"]
    # The probabilities, by plain convolutions.
    kept = rows["prob"][rows["kept"].astype(bool)].astype(float)
    weights = random_weights(6)
    for i in range(0, len(kept), 97):
        assert kept[i] == pytest.approx(slow.network(found[i], weights), abs=1e-5)
    assert (rows["label"][rows["kept"].astype(bool)] == (kept > 0.5)).all()
    # Every position has one fate, and the counts add up.
    removed = [reason for reason in rows["removed_by"] if reason is not None]
    assert {reason: removed.count(reason) for reason in set(removed)} == summary["removed"]
    assert summary["kept"] + len(removed) == summary["positions"] == len(rows["pos"])
    assert set(removed) <= set(REASONS)
    assert not (tmp_path / "run" / "read").exists()


# ------------------------------------------------------------------ results


def test_what_nothing_can_be_done_without_is_told(small, tmp_path):
    with (
        pytest.raises(BadInput, match="quals: was set aside, and nothing can be done without it"),
        penstock.Run(tmp_path / "run", budget="1GiB", backend="inline", set_aside=True) as opened,
    ):
        Snv().run(opened, **small(**changed("quals", (7, 8), 3)))


def test_a_file_of_names_is_found_from_another_folder(small, tmp_path, monkeypatch):
    options = small()
    (tmp_path / "names.txt").write_text("s0001\n")
    monkeypatch.chdir(tmp_path)
    told = Snv.command.make_context("snv", ["--exclude", "names.txt", "--table", options["table"]]).params
    assert told["exclude"] == str(tmp_path / "names.txt")
    told = Snv.command.make_context("snv", ["--exclude", "s0001,x", "--table", options["table"]]).params
    assert told["exclude"] == "s0001,x"


def test_the_tensor_is_what_the_zarr_package_reads(small, tmp_path):
    run(tmp_path / "run", tensor=True, **small())
    opened = zarr.open_array(tmp_path / "run" / "tensor.zarr", mode="r")
    assert np.array_equal(opened[...], tensor(tmp_path / "run"))
    assert opened.attrs["holes"] == []
    assert len(opened.attrs["features"]) == opened.shape[2]


def test_the_final_table_has_the_kept_positions_of_all_samples(small, tmp_path, model):
    options = small()
    rows, _ = run(tmp_path / "run", model=model, exclude="s0001", **options)
    kept = rows["kept"].astype(bool)
    whole = small_table()
    with np.load(tmp_path / "run" / "candidate_mutation_table_final.npz", allow_pickle=False) as final:
        assert final["p"].tolist() == positions(rows, kept)
        assert np.array_equal(final["counts"], whole["counts"][:, kept, :8])
        assert np.array_equal(final["quals"], whole["quals"][:, kept])
        assert np.array_equal(final["indel_counter"], whole["indel_counter"][:, kept])
        assert final["sample_names"].tolist() == whole["sample_names"].tolist()
        assert final["in_outgroup"].tolist() == whole["in_outgroup"].tolist()
        assert final["prob"].tolist() == rows["prob"][kept].tolist()
        assert final["label"].tolist() == (rows["label"][kept] == 1).tolist()
        assert not final["recomb"].any()
        assert final["samples_exclude_bool"].sum() == 1
        kinds = {name: final[name].dtype.str for name in ("p", "counts", "quals", "indel_counter", "prob")}
    assert kinds == {"p": "<i8", "counts": "<u8", "quals": "<i8", "indel_counter": "<u8", "prob": "<f4"}
    # It is a table itself.
    again = open_table(str(tmp_path / "run" / "candidate_mutation_table_final.npz"), options["coverage"])
    assert again.positions == kept.sum()


def test_a_finished_run_that_is_run_again_leaves_no_drafts(small, tmp_path):
    options = small()
    for _ in range(2):
        run(tmp_path / "run", **options)
    assert list((tmp_path / "run").glob(".*.tmp")) == []


@pytest.mark.parametrize("compat", ["none", "accusnv-1.0"])
def test_predictions_of_large_tables_are_a_text_too(compat, tmp_path, model, monkeypatch):
    monkeypatch.setattr(final, "FAST", 1)
    told = EXPECTED["shallow"]
    path = DATA / f"{told['table']}_cmt.npz"
    cover = coverage(tmp_path / "cov.npz", told["medians"])
    rows, _ = run(tmp_path / "run", model=model, table=str(path), coverage=cover, compat=compat)
    kept = rows["kept"].astype(bool)
    lines = (tmp_path / "run" / "pred_res.txt").read_text().splitlines()
    with np.load(path) as saved:
        counts, names = saved["counts"], saved["sample_names"].tolist()
    assert lines[0].split("\t") == ["Pos", "Pred", "Prob", *names]
    assert len(lines) == kept.sum() + 1
    turned = 0
    for line, row in zip(lines[1:], np.flatnonzero(kept), strict=True):
        pos, label, prob, *letters = line.split("\t")
        reads = counts[:, row]
        assert int(pos) == rows["pos"][row]
        assert letters == ["NATCG"[slow.major(each)] for each in reads.tolist()]
        supported = slow.supported(reads.T.tolist())
        assert rows["read_support"][row] == supported
        rescued = compat != "none" and rows["label"][row] == 0 and supported
        turned += rescued
        expected = np.float32(1) - np.float32(rows["prob"][row]) if rescued else np.float32(rows["prob"][row])
        assert int(label) == (1 if rescued else rows["label"][row])
        assert np.float32(prob) == expected
    assert set(rows["read_support"][~kept]) == {None}
    # Without --compat a label has nothing to do with how many other positions the table has.
    assert (0 < turned < (rows["label"][kept] == 0).sum()) if compat != "none" else not turned


# ------------------------------------------------------------------ options


def test_samples_are_excluded_by_names_file_and_number(small, tmp_path, capsys):
    options = small()
    names = small_table()["sample_names"].tolist()
    _, by_name = run(tmp_path / "a", exclude=f"{names[2]}, {names[5]},nosuch", **options)
    assert by_name["excluded"] == [names[2], names[5]]
    assert by_name["unknown_names"] == ["nosuch"]
    (tmp_path / "names.txt").write_text(f"{names[2]}\n\n{names[5]}\nnosuch\n")
    _, by_file = run(tmp_path / "b", exclude=str(tmp_path / "names.txt"), **options)
    assert by_file["excluded"] == by_name["excluded"]
    counts = small_table()["counts"][:, :, :8].transpose(1, 2, 0)
    carried = slow.carriers(counts)
    limit = sorted(carried)[-3]
    expected = [n for n, c in zip(names, carried, strict=True) if c >= limit]
    for number, asked in enumerate(({"exclude": str(limit)}, {"carriers": limit})):
        _, summary = run(tmp_path / f"c{number}", compat="accusnv-1.0", **asked, **options)
        assert summary["excluded"] == expected
        assert summary["carriers"] == limit
    assert 0 < len(expected) < 12
    assert f"--exclude {limit} leaves out samples with the second allele" in capsys.readouterr().err
    with pytest.raises(UsageError, match="say one of them"):
        run(tmp_path / "d", exclude="12", carriers=3, **options)


def test_an_allele_of_the_outgroup_alone_makes_nobody_a_carrier(small, tmp_path):
    table = small_table()
    group = ~table["in_outgroup"].ravel()
    assert 0 < group.sum() < 12
    carried = slow.carriers(table["counts"][group][:, :, :8].transpose(1, 2, 0))
    limit = sorted(carried)[-3]
    _, summary = run(tmp_path / "run", carriers=limit, **small())
    names = table["sample_names"][group].tolist()
    assert summary["excluded"] == [n for n, c in zip(names, carried, strict=True) if c >= limit]


def test_a_name_that_is_a_number_is_the_sample(small, tmp_path):
    names = small_table()["sample_names"].astype("<U8")
    names[4] = "1001"
    _, summary = run(tmp_path / "run", exclude="1001", **small(sample_names=names))
    assert summary["excluded"] == ["1001"]
    assert summary["unknown_names"] == []


def test_names_that_are_no_utf8_stay_apart(small, tmp_path):
    names = small_table()["sample_names"].astype("S8")
    names[:2] = b"caf\xe9", b"caf\xe8"
    _, summary = run(tmp_path / "run", **small(sample_names=names))
    assert list(summary["median_coverage"])[:2] == ["caf\u00e9", "caf\u00e8"]


def test_a_run_of_another_version_is_refused_and_not_mixed(small, tmp_path, monkeypatch):
    options = small()
    for version, refused in (("0.1.0", False), ("0.1.0", False), ("0.2.0", True)):
        monkeypatch.setattr(
            "penstock.record.job_key._package_version", lambda module, v=version: f"penstock {v}"
        )
        if refused:
            with pytest.raises(
                penstock.JobChanged, match=r"penstock 0\.2\.0 is installed, and it was begun with 0\.1\.0"
            ):
                run(tmp_path / "run", **options)
        else:
            run(tmp_path / "run", **options)


def test_the_rules_about_quality_can_be_left_out(small, tmp_path):
    found = {}
    for name, options in {
        "rules": {"min_cov_samp": 100},
        "none": {"min_cov_samp": 100, "no_quality_rules": True},
        "as published": {"min_cov_samp": 100, "compat": "accusnv-1.0"},
        "nearly": {"min_cov_samp": 99.99},
    }.items():
        rows, summary = run(tmp_path / name, **options, **small())
        found[name] = rows["kept"].tolist()
        rules = name in ("rules", "nearly")
        assert summary["thresholds"]["quality_rules"] is rules
        assert rules or "low_quality" not in summary["removed"]
    assert found["rules"] == found["nearly"]
    assert found["none"] == found["as published"]


def test_without_a_network_there_are_no_probabilities(small, tmp_path):
    rows, summary = run(tmp_path / "run", **small())
    assert set(rows["prob"]) == {None}
    assert summary["network"] is False
    with np.load(tmp_path / "run" / "candidate_mutation_table_final.npz") as final:
        assert "prob" not in final.files


# ------------------------------------------------------------------ nothing left, and bad inputs


def test_one_sample_or_no_position_gives_an_empty_result(small, tmp_path, model):
    whole = small_table()
    outgroup = np.ones(12, bool)
    outgroup[3] = False
    rows, summary = run(tmp_path / "one", tensor=True, model=model, **small(in_outgroup=outgroup))
    assert summary["kept"] == 0
    assert set(rows["removed_by"]) == {"one_allele"}
    with np.load(tmp_path / "one" / "candidate_mutation_table_final.npz") as final:
        assert final["counts"].shape == (12, 0, 8)
    none = {name: whole[name][:, :0] for name in ("counts", "quals", "indel_counter")}
    rows, summary = run(tmp_path / "none", tensor=True, model=model, **small(p=whole["p"][:0], **none))
    assert summary["positions"] == summary["kept"] == len(rows["pos"]) == 0


def swapped():
    p = small_table()["p"].copy()
    p[[4, 9]] = p[[9, 4]]
    return {"p": p}


BAD = {
    "missing member": ({"indel_counter": None}, "has no member indel_counter"),
    "few statistics": ({"counts": np.zeros((12, 60, 7), int)}, "has 7 statistics"),
    "fractions": ({"counts": np.zeros((12, 60, 8))}, "holds float64; whole numbers"),
    "nan": (changed("quals", (1, 2), np.nan, float), "holds float64"),
    "two axes": ({"counts": np.zeros((12, 60), int)}, "has 2 axes"),
    "negative": (changed("counts", (3, 4, 5), -2, np.int32), "sample 3, position 4, statistic 5.*holds -2"),
    "too many": (changed("counts", (1, 1, 1), 2**40), "holds 1099511627776: more than"),
    "negative indel": (changed("indel_counter", (3, 4, 1), -1, np.int32), "cannot be negative"),
    "positive quals": (changed("quals", (7, 8), 3), "sample 7, position 8.*holds 3.*signs"),
    "other positions": ({"p": np.arange(59)}, r"shape \(59,\)"),
    "unsorted": (swapped(), "comes after"),
    "duplicate": ({"p": np.repeat(np.arange(30), 2)}, "the position 0 comes twice"),
    "negative position": ({"p": np.arange(60) - 5}, "holds the position -5"),
    "objects": ({"sample_names": np.array(["a"] * 12, object)}, "Python objects, which are never read"),
    "names not unique": ({"sample_names": np.array(["a"] * 12)}, "the name 'a' is there 12 times"),
    "numbers for names": ({"sample_names": np.arange(12)}, "text was expected"),
    "outgroup": ({"in_outgroup": np.zeros(11, bool)}, r"shape \(11,\); there are 12"),
    "all outgroup": ({"in_outgroup": np.ones(12, bool)}, "no samples are left: of 12, 12 are outgroup"),
}


@pytest.mark.parametrize("save", [np.savez_compressed, np.savez])
@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_told_with_its_place(case, save, small, tmp_path):
    changes, words = BAD[case]
    with pytest.raises(penstock.PenstockError, match=words) as caught:
        run(tmp_path / "run", **small(save=save, **changes))
    assert "cmt.npz" in str(caught.value)


def test_bad_coverage(small, tmp_path):
    options = small()
    coverage(tmp_path / "cov.npz", (40,) * 11)
    with pytest.raises(BadInput, match="has 11 samples, and the table has 12"):
        run(tmp_path / "a", **options)
    np.savez(tmp_path / "cov.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(BadInput, match="no member all_coverage_per_bp; it has a, b"):
        run(tmp_path / "b", **options)
    np.savez_compressed(tmp_path / "cov.npz", all_coverage_per_bp=np.full((12, 3), -1))
    with pytest.raises(penstock.PenstockError, match="holds -1: this is no coverage"):
        run(tmp_path / "c", **options)


def test_a_file_that_is_cut_off_or_damaged(small, tmp_path):
    options = small()
    path = Path(options["table"])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"no whole \.npz"):
        run(tmp_path / "a", **options)
    table = open_table(rewrite(path, whole), options["coverage"])
    for member, share in ((table.counts, 0.04), (table.counts, 0.08), (table.quals, 0.5), (table.indel, 0.9)):
        place = member.begin + int(member.packed * share)
        damaged = bytearray(whole)
        damaged[place : place + 40] = bytes(40)
        rewrite(path, bytes(damaged))
        with pytest.raises(penstock.PenstockError, match=r"damaged|cut off|no NumPy array|no whole|holds"):
            run(tmp_path / f"run-{place}", **options)
    rewrite(path, b"neither of them")
    with pytest.raises(BadInput, match=r"no \.npz, \.npy or Zarr"):
        run(tmp_path / "b", **options)


def rewrite(path, content):
    path.write_bytes(content)
    return str(path)


def test_options_that_make_no_sense(small, tmp_path):
    with pytest.raises(UsageError, match="needs --table and --coverage"):
        run(tmp_path / "a", table="x")
    with pytest.raises(BadInput, match="all would be dropped: raise --min-cov-samp"):
        run(tmp_path / "b", min_cov_samp=0, **small())
    with pytest.raises(BadInput, match="12 are excluded"):
        run(tmp_path / "c", exclude=small_table()["sample_names"].tolist(), **small())


# ------------------------------------------------------------------ identical bytes


def test_the_same_bytes_for_any_budget_workers_kill_and_resume(tmp_path, model):
    told = EXPECTED["lowcov"]
    table, cover = DATA / f"{told['table']}_cmt.npz", coverage(tmp_path / "cov.npz", told["medians"])
    run(tmp_path / "inline", table=str(table), coverage=cover, model=model, tensor=True)
    expected = digests(tmp_path / "inline")
    assert len(expected) >= 5
    command = [str(Path(sys.executable).with_name("penstock")), "run", "snv", "--table", str(table)]
    command += ["--coverage", cover, "--model", model, "--tensor", "--into", str(tmp_path / "killed")]
    command += ["--scratch", "never"]
    # Killed with its workers in the middle of one stage after the other, and resumed with other budgets.
    for stage, workers, budget in (("judge", 1, "400MiB"), ("network", 2, "1GiB"), ("final", 1, "512MiB")):
        given = ["--workers", str(workers), "--budget", budget]
        process = subprocess.Popen([*command, *given], stderr=subprocess.DEVNULL)
        events = tmp_path / "killed" / ".penstock" / "events.jsonl"
        begun = f'"stage":"{stage}"'.encode()
        until(lambda b=begun, p=process, e=events: b in read_bytes(e) or p.poll() is not None)
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (-signal.SIGKILL, 0)  # a busy machine may look after the end
    last = [*command, "--workers", "2", "--budget", "2GiB"]
    subprocess.run(last, check=True, stderr=subprocess.DEVNULL)
    assert digests(tmp_path / "killed") == expected


# ------------------------------------------------------------------ plans


def test_a_shape_is_planned_without_data():
    (plan,) = Snv().plan("1GiB", shape="700x800000", workers=2)
    assert plan.budget == 1 << 30
    assert plan.projected + plan.headroom == plan.budget
    assert plan.asked.memory < 512 << 20
    assert plan.asked.disk > 700 * 800_000 * 12
    shapes = {(each.samples, each.positions): each for each in plan.around}
    assert len(shapes) == 9
    # Memory does not grow with positions, disk and time do.
    half, twice = shapes[700, 400_000], shapes[700, 1_600_000]
    assert half.memory == twice.memory
    assert twice.disk == 4 * half.disk
    assert twice.network == pytest.approx(4 * half.network)
    assert "700     800,000" in str(plan)


def test_a_table_is_planned_by_its_shape(small):
    (plan,) = Snv().plan("1GiB", **small())
    assert (plan.asked.samples, plan.asked.positions) == (12, 60)


def test_plans_of_nothing(tmp_path):
    for shape in ("700", "0x5", "axb"):
        with pytest.raises(UsageError, match="samples x positions"):
            Snv().plan("1GiB", shape=shape)
    with pytest.raises(UsageError, match="--shape SAMPLESxPOSITIONS"):
        Snv().plan("1GiB")
    with pytest.raises(UsageError, match="is for penstock plan"):
        run(tmp_path / "run", shape="3x3")


# ------------------------------------------------------------------ conformance


class TestAddUp(ReducerSuite):
    def make(self):
        return AddUp()

    def result_of(self, item):
        return {"kept": item % 3, "zero": np.arange(4) * item}


def test_the_first_filter_counts_positions_without_reads():
    counts = np.zeros((2, 8, 3), np.int32)
    counts[0, 0, 0], counts[0, 5, 1] = 4, 2  # A in one sample, T in another, none in the third
    counts[1, 2, :2] = 3  # C in both: nothing varies
    keep, zero = np.zeros(2, bool), np.zeros(3, np.int64)
    kernel.first_filter(counts, keep, zero)
    assert keep.tolist() == [True, False]
    assert zero.tolist() == [0, 0, 1]


@pytest.mark.parametrize("options", [{"tensor": True, "carriers": 1000}, {"scratch": "never"}])
def test_workers_find_all_compiled_code_loaded(options, small, model, tmp_path):
    with counted(tmp_path / "notes") as calls:
        run(tmp_path / "run", backend="local", model=model, **small(), **options)
    check_warm(calls())
