"""What a key calls our own code: the same wherever it lies, and in the words of earlier versions."""

import pytest

from penstock import sinks
from penstock.record import public_names
from penstock.record.job_key import describe, differences, function_key
from penstock.registry import load, names
from penstock.testing import misfortune


@pytest.mark.parametrize("kind", ["sink", "reducer"])
def test_each_of_ours_goes_by_its_registered_name(kind):
    for name in names(kind):
        cls = load(kind, name)
        if cls.__module__.startswith("penstock."):
            assert public_names.of(f"{cls.__module__}.{cls.__qualname__}") == name
            assert public_names.of(name) == name


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("penstock.workloads.snv.results.table.Table", "penstock.workloads.snv.Table"),
        ("penstock.workloads.snv.Table", "penstock.workloads.snv.Table"),
        ("penstock.workloads.snv.kernel._Counts.of", "penstock.workloads.snv._Counts.of"),
        ("penstock.workloads.snv.stages.make", "penstock.workloads.snv.make"),
        ("penstock.testing.misfortune.Grows", "penstock.Grows"),
        ("theirs.sinks.parquet.Parquet", "theirs.sinks.parquet.Parquet"),
        ("__main__.f", "__main__.f"),
    ],
)
def test_what_is_private_is_left_out(place, name):
    assert public_names.of(place) == name
    assert public_names.of(name) == name


def test_code_of_ours_goes_by_the_version():
    assert function_key(misfortune.answer)["code"] == public_names.version()


def test_a_key_of_before_names_the_same():
    before = {
        "function": {"name": "penstock.workloads.codons.job.Count", "code": "0" * 32},
        "rooms": {"": {"type": "penstock.sinks.parquet.Parquet", "options": {"grain": 3}}},
        "inputs": {"x": [{"name": "users.f", "code": "1" * 32}]},
    }
    now = public_names.as_named_now(before)
    assert now == {
        "function": {"name": "penstock.workloads.codons.Count", "code": "penstock 0.2.0"},
        "rooms": {"": {"type": "parquet", "options": {"grain": 3}}},
        "inputs": before["inputs"],
    }
    assert public_names.as_named_now(now) == now
    assert differences(before, now) == []
    assert differences(before, {**now, "rooms": {"": describe(sinks.Collect())}})
