"""That plug-ins are found where importlib.metadata finds them."""

import os
import resource
import sys
import zipfile
from importlib.metadata import entry_points as ask

import pytest

from penstock import entry_points
from penstock.entry_points import Entry
from penstock.registry import KINDS

GROUP = "penstock.limits"
TEXT = f"[other]\na = b\n\n# none\n[{GROUP}]\n; = odd\nquota = lustre.quota:Quota.of [extra]\n"


def make(folder, name="Lustre-Quota", entries=TEXT, metadata="METADATA"):
    folder.mkdir(parents=True)
    if metadata:
        (folder / metadata).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\nName: no\n")
    (folder / "entry_points.txt").write_text(entries)


def found(*groups):
    """What is found, and what importlib.metadata finds."""
    every = ask()
    told = [(e.group, e.name, e.value, e.module, e.attr or "", e.dist.name)
            for group in groups for e in every.select(group=group) if e.name != ";"]  # fmt: skip
    ours = [(e.group, e.name, e.value, e.module, e.attr, e.package)
            for e in entry_points.installed(groups) if e.name != ";"]  # fmt: skip
    return sorted(ours), sorted(told)


def test_what_is_installed_here():
    groups = [*(f"penstock.{kind}s" for kind in KINDS), "pytest11"]
    ours, told = found(*groups)
    assert ours == told
    assert {group for group, *_ in ours} == set(groups)


@pytest.mark.parametrize(
    ("folder", "metadata"),
    [
        ("lustre_quota-1.0.dist-info", "METADATA"),
        ("Lustre.Quota-1.0-py3.11.egg-info", "PKG-INFO"),
        ("lustre_quota-1.0-py3.11.egg/EGG-INFO", "PKG-INFO"),
    ],
)
def test_a_package_of_any_layout(tmp_path, monkeypatch, folder, metadata):
    make(tmp_path / folder, metadata=metadata)
    monkeypatch.syspath_prepend((tmp_path / folder).parent)
    ours, told = found(GROUP)
    assert ours == told
    assert (
        GROUP,
        "quota",
        "lustre.quota:Quota.of [extra]",
        "lustre.quota",
        "Quota.of",
        "Lustre-Quota",
    ) in ours


def test_the_first_package_of_a_name_counts(tmp_path, monkeypatch):
    make(tmp_path / "late/lustre_quota-1.0.dist-info", entries=f"[{GROUP}]\nlate = a:b\n")
    make(tmp_path / "first/Lustre.quota-2.0.dist-info", entries=f"[{GROUP}]\nfirst = a:b\n")
    for place in ("late", "first"):
        monkeypatch.syspath_prepend(tmp_path / place)
    ours, told = found(GROUP)
    assert ours == told
    assert {"first", "late"} & {each[1] for each in ours} == {"first"}


def test_a_package_in_a_zip_file_is_found(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("lustre_quota-1.0.dist-info/entry_points.txt", TEXT)
        archive.writestr("lustre_quota-1.0.dist-info/METADATA", "Name: lustre-quota\n")
    monkeypatch.syspath_prepend(tmp_path / "all.zip")
    ours, told = found(GROUP)
    assert ours == told
    assert "quota" in {each[1] for each in ours}


def test_a_finder_of_its_own_is_asked(tmp_path, monkeypatch):
    make(tmp_path / "lustre_quota-1.0.dist-info")

    class Finder:
        @staticmethod
        def find_spec(*_):
            return None

        @staticmethod
        def find_distributions(context):
            from importlib.metadata import Distribution

            yield Distribution.at(tmp_path / "lustre_quota-1.0.dist-info")

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    ours, told = found(GROUP)
    assert ours == told
    assert "quota" in {each[1] for each in ours}


def test_damage_and_places_that_are_gone_are_no_error(tmp_path, monkeypatch):
    make(tmp_path / "nameless_one-1.0.dist-info", metadata="")
    (tmp_path / "empty-1.0.dist-info").mkdir()
    (tmp_path / "text-1.0.dist-info").write_text("none")
    (tmp_path / "bytes-1.0.dist-info").mkdir()
    (tmp_path / "bytes-1.0.dist-info/entry_points.txt").write_bytes(
        f"[{GROUP}]\nodd = \xff:b\n".encode("latin-1")
    )
    for place in (tmp_path, tmp_path / "none"):
        monkeypatch.syspath_prepend(place)
    entries = [each for each in entry_points.installed([GROUP]) if each.name in ("quota", "odd")]
    assert {each.package for each in entries} == {"nameless-one", "bytes"}
    assert entry_points.installed([]) == []


@pytest.mark.parametrize(("left", "opened"), [(0, False), (1, True)])
def test_where_no_more_files_may_be_opened_nothing_is_called_unknown(left, opened):
    lowest = os.open("/", os.O_RDONLY)
    os.close(lowest)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, before[1]))
    try:
        if opened:
            assert entry_points.installed([GROUP])
        else:
            with pytest.raises(OSError, match="Too many open files"):
                entry_points.installed([GROUP])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("value", "module", "attr"),
    [("a.b:C", "a.b", "C"), ("a.b", "a.b", ""), ("a.b : C.d", "a.b", "C.d"), ("a:b[x, y]", "a", "b")],
)
def test_a_value_is_taken_apart(value, module, attr):
    entry = Entry(GROUP, "name", value, "package")
    assert (entry.module, entry.attr) == (module, attr)
