import base64
import sys

import pytest

from penstock import registry
from penstock.errors import MissingExtra, PenstockBug, PluginError, UnknownPlugin


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a package with entry points on the path, as an installer would."""

    def put(package, entry_points, **modules):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        registry._scan.cache_clear()

    registry._scan.cache_clear()
    yield put
    registry._scan.cache_clear()


def test_built_ins_come_through_the_same_door():
    assert registry.names("limit") == ["cgroup", "machine", "rlimit", "slurm"]
    assert registry.load("limit", "cgroup").__name__ == "Cgroup"
    assert registry.owner("limit", "cgroup") == "penstock"


def test_a_strangers_package(install):
    install(
        "penstock-lustre",
        "[penstock.limits]\nlustre = stranger_lustre:Quota\n",
        stranger_lustre="class Quota: ...\n",
    )
    assert "lustre" in registry.names("limit")
    assert "stranger_lustre" not in sys.modules  # not before it is used
    assert registry.load("limit", "lustre").__name__ == "Quota"
    assert registry.owner("limit", "lustre") == "penstock-lustre"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownPlugin, match=r"did you mean 'cgroup'.* cgroup, machine, rlimit, slurm"):
        registry.load("limit", "cgruop")
    with pytest.raises(UnknownPlugin):
        registry.owner("limit", "cgruop")


def test_an_unknown_kind_is_our_bug():
    with pytest.raises(PenstockBug):
        registry.names("limits")


def test_a_strangers_package_that_lacks_a_module(install):
    install(
        "stranger", "[penstock.sinks]\nzarr = stranger_sink:Zarr\n", stranger_sink="import not_there_at_all\n"
    )
    with pytest.raises(PluginError, match=r"stranger_sink:Zarr, from stranger.*not_there_at_all") as caught:
        registry.load("sink", "zarr")
    assert not isinstance(caught.value, MissingExtra)


def test_an_entry_point_that_names_nothing(install):
    install("stranger", "[penstock.sinks]\nzarr = stranger_sink:Zarr\n", stranger_sink="")
    with pytest.raises(PluginError, match="has no attribute 'Zarr'"):
        registry.load("sink", "zarr")


def test_a_name_claimed_twice_names_both(install):
    install("stranger", "[penstock.limits]\ncgroup = stranger_limit:Cgroup\n", stranger_limit="Cgroup = 1\n")
    with pytest.raises(PluginError, match=r"claimed twice: penstock\S+ of penstock, stranger\S+ of stranger"):
        registry.load("limit", "cgroup")


def test_a_built_in_that_lacks_a_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "penstock.limits.cgroup", None)
    with pytest.raises(PluginError) as caught:
        registry.load("limit", "cgroup")
    assert not isinstance(caught.value, MissingExtra)  # our own module is no extra

    class Lacking:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "penstock.limits.cgroup":
                raise ModuleNotFoundError("No module named 'isal'", name="isal")

    monkeypatch.delitem(sys.modules, "penstock.limits.cgroup")
    monkeypatch.setattr(sys, "meta_path", [Lacking, *sys.meta_path])
    with pytest.raises(MissingExtra, match=r"pip install 'penstock\[codons\]'"):
        registry.load("limit", "cgroup")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("raise RuntimeError('no licence\\x1b[2J')", r"RuntimeError: no licence\\x1b\[2J"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def (", "SyntaxError"),
    ],
)
def test_a_strangers_module_that_does_anything_when_it_is_imported(install, text, why):
    install("penstock-odd", "[penstock.sinks]\nodd = stranger_odd:Odd\n", stranger_odd=text)
    with pytest.raises(PluginError, match=rf"'odd' .*cannot be imported: {why}.*update penstock-odd"):
        registry.load("sink", "odd")


def test_a_strangers_class_that_cannot_be_made(install):
    text = "class Odd:\n    def __init__(self):\n        raise KeyError('key')\n"
    install("penstock-odd", "[penstock.sinks]\nodd = stranger_odd:Odd\n", stranger_odd=text)
    with pytest.raises(PluginError, match=r"from penstock-odd\) cannot be made: KeyError: 'key'"):
        registry.make("sink", "odd")


def test_whose_code_raised_is_told_by_the_innermost_frame_of_ours_or_theirs(install):
    install(
        "penstock-theirs",
        "[penstock.workloads]\nodd = theirs:odd\n",
        theirs="import base64\nfrom penstock.budget import parse_size\n"
        "def own(): 1 // 0\ndef library(): base64.b64decode(b'x')\ndef ours(): parse_size('lots')\n",
    )
    import theirs

    told = {}
    for name, call in (
        ("own", theirs.own), ("library", theirs.library), ("ours", theirs.ours),
        ("nobody", lambda: base64.b64decode(b"x")),
    ):  # fmt: skip
        with pytest.raises(Exception, match=r".") as raised:
            call()
        told[name] = registry.raised_by(raised.value)
    said = "the workload 'odd' (theirs:odd, from penstock-theirs)"
    assert told == {"own": said, "library": said, "ours": "", "nobody": ""}
