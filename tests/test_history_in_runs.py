"""Runs that begin with what earlier ones took: which do, what is kept, and that the results are the same."""

import functools
import json

import pytest
from click.testing import CliRunner

import penstock
from penstock import events as ev
from penstock.cli import main
from penstock.errors import FunctionRaised
from penstock.record import history
from penstock.runs import remembering


def square(item, times=1):
    return {"square": times * len(bytearray((1 + item % 5) << 20)) * item}


def cube(item):
    return {"cube": item**3}


def breaks(item):
    if item == 7:
        raise ValueError("seven")
    return {"item": item}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A history of its own."""
    place = tmp_path / "history"
    monkeypatch.setenv(history.VARIABLE, str(place))
    return place


def job(function=square, items=20, **more):
    source = penstock.sources.Range(items)
    return penstock.Job(source=source, function=function, **more)


def run(folder, *args, history=True, workers=1, private=False, **more):
    """The results, and what was said of earlier runs."""
    told = []
    done = job(*args, **more).run(
        folder, workers=workers, history=history, private=private, observers=[told.append]
    )
    assert done.outcome == "done"
    written = (folder / "results.jsonl").read_bytes()
    return written, [event.message for event in told if isinstance(event, ev.Recalled)]


def kept(place):
    return sorted(path.name for path in place.iterdir()) if place.exists() else []


def test_the_next_run_says_that_it_goes_by_the_last_and_writes_the_same(tmp_path, place):
    first, said = run(tmp_path / "a")
    assert said == []
    assert len(kept(place)) == 1
    again, said = run(tmp_path / "b", seed=4)
    assert again == first
    assert said[0].startswith("begins with what ")
    without, said = run(tmp_path / "c", history=False)
    assert not (tmp_path / "c" / ".penstock" / "job" / "learnt.json").exists()
    assert (without, said) == (first, [])
    assert len(kept(place)) == 1
    told = json.loads((place / kept(place)[0]).read_text())
    assert set(map(type, told["observations"][0])) <= {int, float}
    assert str(tmp_path) not in json.dumps(told)


def test_nothing_is_kept_of_what_is_private_or_a_step(tmp_path, place):
    run(tmp_path / "a", private=True)
    with penstock.Run(tmp_path / "c", workers=1) as some:
        some.stage("one", penstock.Job(source=penstock.sources.Range(3), function=cube, private=True))
        some.step("two", lambda folder: None)
    assert kept(place) == []
    assert (tmp_path / "a" / ".penstock" / "job" / "learnt.json").exists()  # for its resume


def test_a_resume_goes_by_its_own_folder(tmp_path, monkeypatch):
    with pytest.raises(FunctionRaised):
        job(breaks).run(tmp_path / "a", workers=1)
    told = []
    with pytest.raises(FunctionRaised):
        job(breaks).run(tmp_path / "a", workers=1, observers=[told.append])
    assert [event for event in told if isinstance(event, ev.Recalled)]


def test_damage_is_as_if_there_were_none(tmp_path, place):
    path = place / f"{digest()}.json"
    place.mkdir(mode=0o700)
    path.write_text(json.dumps({"schema": 1, "key": digest(), "observations": [[1, 1, -1]]}))
    _, said = run(tmp_path / "a")
    assert said == []
    assert remembering.in_history(place, digest()) is not None  # by this run


# --------------------------------------------------------------------------- which jobs are alike


def digest(function=square, **more):
    inputs = more.pop("inputs", {})
    made = job(function, inputs=inputs, **more)
    return remembering.alike(made.key(), made.threads)


def test_jobs_are_alike_by_what_their_calls_should_take(tmp_path):
    small, other, large = (tmp_path / name for name in ("small", "other", "large"))
    small.write_bytes(b"x" * 1000)
    other.write_bytes(b"y" * 900)
    large.write_bytes(b"x" * 9000)
    assert digest(items=20) == digest(items=2000) == digest(seed=7)
    assert digest(inputs={"table": small}) == digest(inputs={"table": other})
    different = [
        digest(),
        digest(cube),
        digest(functools.partial(square, times=2)),
        digest(batched=True),
        digest(batched=8),
        digest(threads=2),
        digest(inputs={"table": small}),
        digest(inputs={"table": large}),
        digest(inputs={"shelf": small}),
        digest(inputs={"table": 5}),
        digest(inputs={"table": tmp_path}),
    ]
    assert len(set(different)) == len(different)


# --------------------------------------------------------------------------- penstock plan --grow

PROGRAM = """
import penstock

def grow(item):
    return len(bytearray((4 + item % 3) << 20))

job = penstock.Job(source=penstock.sources.Range(30), function=grow)
"""


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_ten_times_the_data(tmp_path, place, monkeypatch):
    program = tmp_path / "grows_in_a_test.py"
    program.write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    missing = invoke("plan", f"{program}:job", "--grow", "items=10")
    assert missing.exit_code != 0
    assert "nothing is known of" in missing.stderr
    done = invoke("run", f"{program}:job", "--into", tmp_path / "run", "--workers", "1")
    assert done.exit_code == 0, done.output
    for what in (f"{program}:job", tmp_path / "run"):
        told = invoke("plan", what, "--grow", "items=10,size=2", "--json")
        assert told.exit_code == 0, told.output
        found = json.loads(told.stdout)
        assert found["grow"] == {"items": 10, "size": 2}
        (plan,) = found["plans"]
        assert plan["items"] == 300
        assert 10 << 20 <= plan["footprint"] <= 20 << 20
        text = invoke("plan", what, "--grow", "items=10,size=2").stdout
        assert text.startswith("10 times the items, each 2 times as large, by what the last run took:\n")
    again = invoke("run", f"{program}:job", "--into", tmp_path / "again", "--workers", "1", "--no-history")
    assert "earlier runs" not in again.stderr
    asked = json.loads((tmp_path / "again" / ".penstock" / "command.json").read_text())["asked"]
    assert asked["history"] is False  # and so it is when it is resumed
    missing = invoke("plan", tmp_path / "nowhere")
    assert missing.exit_code == 2
    assert "is not there, or is no folder; expected the folder of a run" in missing.stderr
    unknown = invoke("plan", tmp_path / "again")
    assert "does not say what its calls took" in unknown.stderr


def test_a_workload_may_have_such_an_option_of_its_own():
    told = invoke("plan", "rank-train", "--help")
    assert told.exit_code == 0, told.output
    assert "items=N" not in told.output


@pytest.mark.parametrize(
    "wrong",
    [
        "items",
        "items=0",
        "items=x",
        "size=nan",
        "size=-1",
        "a=1",
        "items=1,items=2",
        "",
        "items=1e9",
        "size=1e-7",
    ],
)
def test_what_growth_may_be(tmp_path, wrong):
    (tmp_path / ".penstock").mkdir()
    told = invoke("plan", tmp_path, "--grow", wrong)
    assert told.exit_code == 2
    assert "items=N, size=N or both were expected" in told.output
