"""Options from Python are what the command line makes of them, or are refused as there: of every workload."""

import math
import os
from pathlib import Path

import click
import numpy
import pytest
from click.testing import CliRunner

from penstock import registry
from penstock.cli import main
from penstock.errors import UsageError
from penstock.workload_options import read_options

WORKLOADS = {name: registry.load("workload", name)() for name in registry.names("workload")}
NUMBERS = (type(click.INT), type(click.FLOAT))
NO_NUMBERS = [
    math.nan, math.inf, -math.inf, True, numpy.bool_(True), "", "many", "nan", "1e999", b"5", [1], {},
    object(), 10**30, -(10**30), 10**5000, 1j,
]  # fmt: skip


def options(wanted):
    return [
        pytest.param(workload, param, id=f"{name}-{param.name}")
        for name, workload in WORKLOADS.items()
        for param in workload.command.params
        if wanted(param)
    ]


def of_numbers(param):
    return isinstance(param.type, NUMBERS)


def refused(workload, param, value, how):
    start = workload.run if how == "run" else workload.plan
    with pytest.raises(UsageError) as caught:
        start(None if how == "run" else "1GB", **{param.name: value})
    assert type(caught.value) is UsageError
    assert f"'{param.opts[0]}'" in str(caught.value) or param.human_readable_name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_there_are_numbers_to_try():
    assert len(WORKLOADS) > 12
    assert len(options(of_numbers)) > 30


@pytest.mark.parametrize("how", ["run", "plan"])
@pytest.mark.parametrize(("workload", "param"), options(of_numbers))
def test_what_is_no_number_is_refused_by_name_before_anything_is_done(workload, param, how):
    for value in NO_NUMBERS:
        refused(workload, param, value, how)
    if isinstance(param.type, type(click.INT)):
        refused(workload, param, 1.5, how)
    for value in outside(param.type):
        refused(workload, param, value, how)


def outside(kind):
    """Numbers just beyond the range."""
    step = 1 if isinstance(kind, type(click.INT)) else 1e-9
    if getattr(kind, "min", None) is not None:
        yield kind.min if kind.min_open else kind.min - step
    if getattr(kind, "max", None) is not None:
        yield kind.max if kind.max_open else kind.max + step


@pytest.mark.parametrize(("workload", "param"), options(of_numbers))
def test_every_number_has_a_range(workload, param):
    """So that none is refused late, by arithmetic that it does not suit."""
    kind = param.type
    assert getattr(kind, "min", None) is not None or getattr(kind, "max", None) is not None


@pytest.mark.parametrize(
    ("workload", "param"), options(lambda param: isinstance(param.type, type(click.BOOL)))
)
def test_a_switch_is_true_or_false(workload, param):
    for value in ("yes", 1, 0.0, [True]):
        refused(workload, param, value, "run")


@pytest.mark.parametrize(("workload", "param"), options(lambda param: isinstance(param.type, click.Choice)))
def test_a_choice_is_one_of_its_words(workload, param):
    for value in ("other", 7.5, True, b"auto", {"a": 1}):
        refused(workload, param, value, "run")


@pytest.mark.parametrize(
    ("workload", "param"),
    [each for each in options(lambda param: isinstance(param.type, type(click.STRING) | click.Path))
     if each.values[1].name not in ("exclude", "contigs")],
)  # fmt: skip
def test_a_text_is_one(workload, param):
    for value in (
        True,
        b"\xff" if not isinstance(param.type, click.Path) else 7,
        {1: 2},
        {3},
        object(),
        "a\0b",
    ):
        refused(workload, param, value, "run")


@pytest.mark.parametrize("value", [True, -1, [7], {"a"}, 1.5, object()])
def test_what_only_python_may_give_is_looked_at_too(value):
    snv = WORKLOADS["snv"]
    with pytest.raises(UsageError, match="--exclude"):
        snv.run(None, exclude=value)
    with pytest.raises(UsageError, match="--contigs"):
        snv.plan("1GB", contigs=[0] if value == [7] else value)


@pytest.mark.parametrize(("name", "workload"), WORKLOADS.items())
def test_an_option_that_is_not_there_is_refused_by_name(name, workload):
    for given in ("no_such_option", "workerz"):
        with pytest.raises(UsageError, match=f"no option {given}: (did you mean|there are) "):
            workload.run(None, **{given: 1})


@pytest.mark.parametrize(("name", "workload"), WORKLOADS.items())
def test_defaults_are_those_of_the_command_line(name, workload):
    command = workload.command
    needed = [param for param in command.params if param.required]
    given = {param.name: "x,y" for param in needed}
    typed = [
        word
        for param in needed
        for word in ([param.opts[0], "x,y"] if isinstance(param, click.Option) else ["x,y"])
    ]
    there = command.make_context(name, typed).params
    here = read_options(command, given)
    assert here == there
    assert read_options(command, there) == there  # what a command line parsed is read again as it is


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize("typed", ["nan", "inf", "1e400"])
def test_a_command_line_refuses_them_before_there_is_a_folder(tmp_path, verb, typed):
    into = ["--into", str(tmp_path / "run")] if verb == "run" else []
    done = CliRunner().invoke(main, [verb, "superres", *into, "manifest.json", "--ridge", typed])
    assert done.exit_code == 2
    assert "Invalid value for '--ridge'" in done.output
    assert not (tmp_path / "run").exists()


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--most", type=click.IntRange(1), default=3, envvar="MOST_OF_A_TEST")
@click.option("--share", type=float, default=0.5)
@click.option("--name", multiple=True)
@click.option("--kind", type=click.Choice(["0", "all"]), default="all")
@click.option("--sort/--no-sort", default=None)
def command(**_options):
    """Nothing."""


def test_values_of_other_types_are_read_as_if_they_were_typed():
    found = read_options(
        command, {"files": Path("a"), "most": numpy.int32(7), "share": "0.25", "name": "x", "kind": 0}
    )
    assert found == {
        "files": ("a",), "most": 7, "share": 0.25, "name": ("x",), "kind": "0", "sort": None,
    }  # fmt: skip
    assert type(found["most"]) is int
    assert read_options(command, {"files": ["a", Path("b")], "name": iter(["x", "y"])})["name"] == ("x", "y")


def test_none_is_the_default_and_what_must_be_given_is_asked_for():
    assert read_options(command, {"files": ["a"], "most": None})["most"] == 3
    for missing in ({}, {"files": None}, {"files": []}):
        with pytest.raises(UsageError, match="Missing argument"):
            read_options(command, missing)


def test_the_environment_has_defaults_and_is_refused_as_on_a_command_line(monkeypatch):
    monkeypatch.setitem(os.environ, "MOST_OF_A_TEST", "9")
    assert read_options(command, {"files": ["a"]})["most"] == 9
    assert read_options(command, {"files": ["a"], "most": 2})["most"] == 2
    monkeypatch.setitem(os.environ, "MOST_OF_A_TEST", "many")
    with pytest.raises(UsageError, match=r"'--most'.*'many'"):
        read_options(command, {"files": ["a"]})


def test_what_python_may_give_in_another_form_is_taken_as_it_is():
    assert read_options(command, {"files": 3, "name": {"a"}}, free=("files", "name"))["name"] == {"a"}
