"""What :mod:`penstock.pool.by_value` takes from cloudpickle beside its public names is as it expects it.

pyproject.toml has an upper bound for cloudpickle. To raise it: install the newer one, run this, and mend in
``by_value`` what it names; then run ``tests/test_main_script.py`` and ``tests/test_inherited.py``.
"""

import importlib.metadata
import inspect
import io
import re
import tomllib
import types
from pathlib import Path

import cloudpickle
import pytest
from cloudpickle import cloudpickle as inner

VERSION = importlib.metadata.version("cloudpickle")
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def module_of_its_own():
    """A module that cannot be imported, so that what it defines goes by value."""
    module = types.ModuleType("not_to_be_imported")
    exec("factor = 3\ndef function(x):\n    return x * factor\nclass Kind:\n    size = 3\n", vars(module))
    return module


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_class_setstate", ["obj", "state"]),
        ("_function_setstate", ["obj", "state"]),
        ("_lookup_class_or_track", ["class_tracker_id", "class_def"]),
    ],
)
def test_a_private_function_is_there_and_takes_what_it_is_given(name, parameters):
    function = getattr(inner, name, None)
    assert function is not None, f"cloudpickle {VERSION} has no {name}, which by_value calls in workers"
    assert list(inspect.signature(function).parameters) == parameters, f"cloudpickle {VERSION}: {name}"


@pytest.mark.parametrize("name", ["_dynamic_function_reduce", "reducer_override"])
def test_a_method_that_is_overridden_is_there_and_takes_one_thing(name):
    method = getattr(cloudpickle.Pickler, name, None)
    assert method is not None, f"cloudpickle {VERSION} calls no Pickler.{name}: ours is not heard"
    assert len(inspect.signature(method).parameters) == 2, f"cloudpickle {VERSION}: Pickler.{name}"


def test_the_dispatch_table_is_an_attribute_of_the_class():
    assert "dispatch_table" in vars(cloudpickle.Pickler), f"cloudpickle {VERSION}: by_value extends it"


def test_a_function_is_taken_apart_as_expected():
    module = module_of_its_own()
    reduced = cloudpickle.Pickler(io.BytesIO())._dynamic_function_reduce(module.function)
    assert len(reduced) == 6, f"cloudpickle {VERSION} takes functions apart into {len(reduced)} things"
    code, about, _, _, closure = reduced[1]
    attributes, slots = reduced[2]
    assert code is module.function.__code__
    assert about["__name__"] == "not_to_be_imported"
    assert closure is None
    assert attributes == {}
    assert slots["__globals__"] == {"factor": 3}
    assert reduced[5] is inner._function_setstate


def test_a_class_is_taken_apart_as_expected():
    kind = module_of_its_own().Kind
    reduced = cloudpickle.Pickler(io.BytesIO()).reducer_override(kind)
    assert len(reduced) == 6, f"cloudpickle {VERSION} takes classes apart into {len(reduced)} things"
    _, arguments, state = reduced[:3]
    assert inner._lookup_class_or_track(arguments[-2], kind) is kind, "the last but one is a class's number"
    assert state[0]["size"] == 3
    assert reduced[5] is inner._class_setstate


def test_a_class_without_state_is_no_surprise():
    """One that can be imported goes by its name: by_value leaves it to pickle."""
    assert cloudpickle.Pickler(io.BytesIO()).reducer_override(Path) is NotImplemented


def test_the_version_has_an_upper_bound_and_is_below_it():
    (declared,) = [each for each in PROJECT["dependencies"] if each.startswith("cloudpickle")]
    bound = re.fullmatch(r"cloudpickle>=[\d.]+,<(\d+)\.(\d+)", declared)
    assert bound, f"{declared!r} has no upper bound"
    have = tuple(int(part) for part in VERSION.split(".")[:2])
    assert have < tuple(map(int, bound.groups())), f"cloudpickle {VERSION} has not been tried"
