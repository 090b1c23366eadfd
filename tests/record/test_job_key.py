"""The job's key: what tells one job from another, in words, the same in every process."""

import functools
import importlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from penstock import sinks, values
from penstock.record.job_key import describe, differences, digest_of, function_key, input_key, job_key
from penstock.sources import Range


def plain(item, threshold=3):
    return item


def key_of(function=plain, *, into=None, inputs=None, options=None, source=None):
    return job_key(
        function=function,
        source=source or Range(10),
        outputs=into or {"": sinks.Collect()},
        inputs=inputs or {},
        options=options or {"seed": 0},
    )


def changed(**parts):
    return differences(key_of(), key_of(**parts))


def test_the_same_job_has_the_same_key():
    assert key_of() == key_of()
    assert differences(key_of(), key_of()) == []
    assert digest_of(key_of()) == digest_of(key_of())


@pytest.mark.parametrize("value", [(1, 2), [np.arange(3)], float("nan"), {1: 2}, {3, 4}, {"__array__": 1}])
def test_a_key_comes_back_from_the_journal_as_it_went(value):
    key = key_of(inputs={"x": value})
    assert values.loads(values.dumps(key)) == key
    assert json.loads(json.dumps(key)) == key


# --------------------------------------------------------------------------- the function


def other(item):
    return item


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, item):
        return item * self.factor

    def method(self, item):
        return item


def captures(value):
    return lambda item: (item, value)


def default(value):
    def function(item, *, value=value):
        return item, value

    return function


def test_another_function_is_named():
    assert changed(function=other) == [f"the function is {__name__}.other now, it was {__name__}.plain"]


@pytest.mark.parametrize(
    "make",
    [
        captures,
        default,
        Scale,
        lambda value: functools.partial(plain, threshold=value),
        lambda value: functools.partial(plain, value),
        lambda value: captures(captures(value)),
        lambda value: captures([Scale(value)]),
        lambda value: functools.partial(captures(value)),
    ],
)
def test_captured_values_and_arguments_count(make):
    same, different = function_key(make(1)), function_key(make(2))
    assert function_key(make(1)) == same
    assert different != same
    told = differences(key_of(make(1)), key_of(make(2)))
    assert len(told) == 1
    assert told[0].startswith("the arguments or captured values of")


def test_a_name_that_is_never_set_is_no_matter():
    def function(item):
        return later

    assert function_key(function)
    if False:
        later = 1


def test_an_edited_module_is_told(tmp_path, monkeypatch):
    module = tmp_path / "users_module.py"
    module.write_text("def f(item):\n    return helper(item)\n\ndef helper(item):\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    users = importlib.import_module("users_module")
    before = key_of(users.f)
    assert key_of(users.f) == before
    module.write_text(module.read_text().replace("return 1", "return 2"))
    assert differences(before, key_of(users.f)) == ["the module of users_module.f was edited"]
    monkeypatch.delitem(sys.modules, "users_module")


def test_a_function_of_an_installed_package_goes_by_its_version():
    assert function_key(hypothesis.given)["code"].startswith("hypothesis 6")


def test_the_key_is_the_same_in_every_process(tmp_path):
    script = (
        "import json, sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from penstock.record.job_key import input_key\n"
        "values = [{'b', 'a', 'c', 'd'}, {'x': {('p', 1), ('q', 2)}}, frozenset('stuv'),\n"
        "          pathlib.Path(sys.argv[1]),\n"
        "          {1: {'k', 'l', 'm'}}, (None, {'f', 'g', 'h'})]\n"
        "print(json.dumps([input_key(value) for value in values]))\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": str(seed), "PATH": ""},
        ).stdout
        for seed in range(4)
    }
    assert len(told) == 1


# --------------------------------------------------------------------------- inputs and options


def test_a_changed_input_is_named(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    before = key_of(inputs={"weights": file, "minimum": 3, "same": "x"})
    file.write_bytes(b"other")
    after = key_of(inputs={"weights": file, "minimum": 4, "same": "x", "more": None})
    # An input of None and no input are told apart by the function only.
    assert differences(before, after) == [
        "the input 'minimum' changed",
        f"the input 'weights' changed ({file})",
    ]


def test_what_changed_of_an_input_of_several_is_named(tmp_path):
    """The file by its path; an option by its name and never by its value."""
    files = {name: tmp_path / name for name in "abcdefgh"}
    for file in files.values():
        file.write_bytes(b"one")
    rules = {"window": 3, "of": {"views": "AP", "deep": 1}}
    before = key_of(inputs={"tables": files, "rules": rules, "list": [files["a"], 1]})
    files["b"].write_bytes(b"other")
    same = key_of(inputs={"tables": files, "rules": rules, "list": [files["a"], 1]})
    assert differences(before, same) == [f"the input 'tables' changed ({files['b']})"]
    other = {"window": 3, "of": {"views": "PA", "deep": 1}, "more": None}
    after = key_of(inputs={"tables": {"a": files["c"]}, "rules": other, "list": [files["a"], 2]})
    told = differences(same, after)
    assert told[0] == "the input 'list' changed (1)"
    assert told[1] == "the input 'rules' changed (more, views)"
    assert told[2].startswith(f"the input 'tables' changed ({files['c']}, it was {files['a']}, b, c, ")
    assert told[2].endswith(" and 3 more)")


class Bucket:
    """Told by where it is, and not by who pays."""

    def __init__(self, url, payer):
        self.url, self.payer = url, payer

    def __penstock_key__(self):
        return {"url": self.url}


def test_an_object_may_say_itself_what_tells_it():
    assert input_key(Bucket("gs://a", "one")) == input_key(Bucket("gs://a", "other"))
    assert input_key([Bucket("gs://a", "one")]) == input_key([Bucket("gs://a", "other")])
    before, after = (key_of(inputs={"films": Bucket(url, "one")}) for url in ("gs://a", "gs://b"))
    assert differences(before, after) == ["the input 'films' changed"]


class Fetch(Bucket):
    """The same as what works items."""

    def __call__(self, item):
        return item


def test_an_object_that_is_the_function_may_say_so_too():
    key = function_key(Fetch("gs://a", "one"))
    assert key["state"] == {"url": "gs://a"}
    assert key == function_key(Fetch("gs://a", "other")) != function_key(Fetch("gs://b", "one"))


def test_files_inside_containers_count(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    before = input_key({"files": [file, file], "deep": ({"x": file},)})
    assert input_key({"files": [file, file], "deep": ({"x": file},)}) == before
    file.write_bytes(b"other")
    assert input_key({"files": [file, file], "deep": ({"x": file},)}) != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, True),
        (1, 1.0),
        ("a" * 5000, "a" * 4999 + "b"),
        (np.arange(3), np.arange(3.0)),
        (np.zeros(10_000), np.ones(10_000)),
        ({1: 2}, {1: 3}),
        ({1, 2}, {1, 3}),
        (Scale(1), Scale(2)),
        (captures(1), captures(2)),
        ([b"x"], [b"y"]),
        (Path("/no/such/a"), Path("/no/such/b")),
    ],
)
def test_values_that_differ_have_keys_that_differ(one, other):
    assert values.dumps(input_key(one)) != values.dumps(input_key(other))
    assert values.dumps(input_key(one)) == values.dumps(input_key(one))


def test_a_large_value_makes_a_small_key():
    assert len(values.dumps(input_key(np.zeros(100_000)))) < 200
    assert len(values.dumps(input_key(list(range(100_000))))) < 200


def test_a_changed_option_is_named():
    assert changed(options={"seed": 1}) == ["the option 'seed' changed"]


# --------------------------------------------------------------------------- sinks


@dataclass(frozen=True)
class Plain:
    level: int = 1
    grain: int | None = None


class Undeclared:
    """No dataclass: a stranger's sink."""

    grain = None

    def __init__(self, level):
        self.level = level


@pytest.mark.parametrize("kind", [Plain, Undeclared])
def test_a_sinks_options_count(kind):
    told = differences(key_of(into={"": kind(1)}), key_of(into={"": kind(2)}))
    assert told == ["where the results go (into=) changed: level was 1, it is 2"]
    assert describe(kind(1)) == describe(kind(1))


def test_another_sink_is_named():
    (told,) = differences(key_of(into={"": Plain()}), key_of(into={"": Undeclared(1)}))
    assert told.endswith("Plain, it is " + f"{__name__}.Undeclared")


def test_several_sinks_are_told_apart():
    one = {"a": Plain(1), "b": Plain(1)}
    two = {"a": Plain(1), "b": Plain(2), "c": Plain()}
    (told,) = differences(key_of(into=one), key_of(into=two))
    assert "'b' level was 1, it is 2" in told
    assert "'c' was not there" in told
