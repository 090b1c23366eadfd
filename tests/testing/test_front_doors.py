"""The packages' front doors: names, lazily."""

import importlib
import subprocess
import sys

import pytest

PACKAGES = ["penstock.sources", "penstock.sinks", "penstock.reducers", "penstock.testing"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_there(package):
    module = importlib.import_module(package)
    assert dir(module) == module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_lists_the_known_ones(package):
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match=rf"has no attribute 'Nope'; it has .*{module.__all__[0]}"):
        module.Nope


@pytest.mark.parametrize(
    "use",
    [
        "",
        "penstock.sources.Range(3).read(0, 2)",
        "penstock.sources.Files([__import__('sys').executable]).fingerprint()",
        "penstock.sources.Chain(penstock.sources.Range(3)).read(0, 3)",
        "penstock.sinks.Parquet(); penstock.sinks.Arrays(); penstock.sinks.Files(); penstock.sinks.Collect()",
        "penstock.reducers.Sum().step(None, 3); penstock.reducers.Count(); penstock.reducers.Fold",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(use):
    program = (
        "import sys, penstock.sources, penstock.sinks, penstock.reducers;"
        f"{use or 'pass'};"
        "print([name for name in ('numpy', 'pyarrow', 'cloudpickle', 'pytest') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
