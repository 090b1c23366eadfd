"""Options of a wrong kind: a value of any type is taken, or refused by the option's name."""

import inspect
import math
import warnings

import numpy as np
import pytest

import penstock
from penstock.errors import PenstockError, UsageError

NOT_OPTIONS = ("function", "items", "folder", "into", "backend")
OPTIONS = [name for name in inspect.signature(penstock.run).parameters if name not in NOT_OPTIONS]
VALUES = (
    None, True, 0, 1, -1, 1.5, 10**400, math.nan, math.inf, "", "x", "no", b"x", [], {}, {1: 2}, len,
    np.array(5), np.array([1, 2]), object(),
)  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_no_option_of_a_run_ends_in_an_error_that_is_not_ours(option):
    taken, refused = [], []
    for value in VALUES:
        options = {"budget": "2GiB", "backend": "inline", option: value}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                taken.append(penstock.run(str, range(3), **options).result)
            except PenstockError as error:
                refused.append(str(error))
    assert all(result == ["0", "1", "2"] for result in taken)
    named = [said for said in refused if option in said or "size" in said]
    assert len(named) > len(VALUES) / 2 or option in TAKE_MOST, refused


TAKE_MOST = ("progress", "output", "cluster")
"""What anything may be, or is looked up by name."""


NUMPY = {
    "workers": 2, "seed": 3, "budget": 2 << 30, "batched": 2, "memory": 30 << 20, "threads": 1, "call": 2,
    "set_aside": 4,
}  # fmt: skip


@pytest.mark.parametrize("option", NUMPY)
def test_whole_numbers_of_numpy_are_numbers(option, tmp_path):
    def work(value):
        return value if option == "batched" else value + 1

    options = {"budget": "2GiB", "backend": "inline", option: np.int64(NUMPY[option])}
    report = penstock.run(work, np.int64(6), folder=tmp_path / "run", **options)
    assert list(report.result) == [*range(6)] if option == "batched" else [*range(1, 7)]
    assert penstock.run(work, 6, folder=tmp_path / "run", **{**options, option: NUMPY[option]}).done == 6


OF_AN_EXECUTOR = {
    "workers": [True, 1.5, np.array(5)], "max_workers": [1.5, [], np.array([1, 2])],
    "backend": [None, 5, object(), np.array(5)], "modules": [None, 5, "numpy", [5], np.array(5)],
    "folder": [5, b"x", [], np.array(5)], "observers": [5, "x", np.array(5), [5]],
    "initargs": [5, "x"], "mp_context": [5, "fork", object()], "budget": [np.array([1, 2]), None],
    "arrays": [5, "x"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, values in OF_AN_EXECUTOR.items() for value in values]
)
def test_what_is_no_option_of_an_executor_is_refused_by_its_name(option, value):
    with pytest.raises(UsageError, match=rf"size|budget|{option}"):
        penstock.Executor(**{"budget": "2GiB", option: value})


@pytest.mark.parametrize(
    "make",
    [
        lambda: penstock.sources.Files(5), lambda: penstock.sources.Files([5]), lambda: penstock.verify(None),
        lambda: penstock.ByteLRU(None), lambda: penstock.ByteLRU(math.nan), lambda: penstock.ByteLRU(True),
        lambda: penstock.sources.Files(np.array(5)), lambda: penstock.run(str, 3, inputs=""),
    ],
)  # fmt: skip
def test_what_is_no_path_and_no_size_is_refused(make):
    with pytest.raises(UsageError, match=r"expected|must be"):
        make()


DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("budget", DIGITS + "GiB"), ("memory", "9" * 400 + "GiB"),
        ("workers", lambda: 10**5000), ("seed", lambda: 10**5000),
        ("cluster", "local:" + DIGITS), ("cluster", "local:\xb2"), ("timeout", lambda: 10**5000),
    ],
)  # fmt: skip
def test_a_number_too_large_for_anything_is_refused_in_a_sentence(option, value):
    with pytest.raises(UsageError) as told:
        penstock.run(str, 3, **{"budget": "2GiB", option: value() if callable(value) else value})
    assert len(str(told.value)) < 400


@pytest.mark.parametrize("text", [DIGITS, "\xb2", "4.5", "-1"])
def test_a_number_of_workers_in_the_environment_is_read_or_refused_by_its_name(monkeypatch, text):
    monkeypatch.setenv("PENSTOCK_WORKERS", text)
    with pytest.raises(UsageError, match="the environment variable PENSTOCK_WORKERS is"):
        penstock.run(str, 3, backend="inline")


NO_NAMES = (
    "a/b",
    "..",
    ".",
    "a\0b",
    "x" * 300,
    "report.json",
    "report.html",
    ".penstock",
    3,
    None,
    b"x",
    ("a",),
)


@pytest.mark.parametrize("name", NO_NAMES, ids=lambda name: repr(name)[:12].replace("\\", ""))
def test_what_names_no_folder_is_no_name_of_a_stage_or_an_output(tmp_path, name):
    """An output of such a name was a mistake of ours; a stage of such a name left no report."""
    with pytest.raises(UsageError, match=r"an output .* cannot be called"):
        penstock.run(abs, 3, tmp_path / "job", into={name: "collect", "b": "collect"}, backend="inline")
    job = penstock.Job(source=penstock.sources.Range(3), function=abs)
    with (
        penstock.Run(tmp_path / "run", backend="inline") as run,
        pytest.raises(UsageError, match="a stage cannot be called"),
    ):
        run.stage(name, job)


def test_results_that_nothing_is_written_of_are_refused_in_a_run_folder(tmp_path):
    with pytest.raises(UsageError, match="a run folder would keep no results"):
        penstock.run(abs, 3, tmp_path, into=penstock.sinks.Collect(anything=True), backend="inline")


def test_a_switch_of_a_sink_is_true_or_false():
    with pytest.raises(UsageError, match="one_file=1"):
        penstock.sinks.Parquet(one_file=1)
