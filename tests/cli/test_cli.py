"""The verbs: what they ask of a run, what they print where, and the codes they exit with."""

import json
import subprocess
import sys

import pytest
from made_up_runs import failed, resumed, tiny, usual

import penstock
from penstock import errors
from penstock.cli import VERBS, _wrapped, main
from penstock.record.journal import Journal
from penstock.report.report import Report


def exit_codes():
    """Every error of ours, with one message each."""
    made = {
        errors.BadInput: errors.BadInput("no columns", file="a.csv", place="line 3"),
        errors.UnknownPlugin: errors.UnknownPlugin("sink", "x", ["y"]),
        errors.MissingExtra: errors.MissingExtra("x", "numba", "codons"),
    }
    found, rest = [], [errors.PenstockError]
    while rest:
        cls = rest.pop()
        rest.extend(cls.__subclasses__())
        if cls.__module__ == "penstock.errors":
            found.append(made.get(cls) or cls("what, why, and what next"))
    return found


@pytest.mark.parametrize("error", exit_codes(), ids=lambda error: type(error).__name__)
def test_every_error_is_one_line_and_its_exit_code(error, told, runner, tmp_path):
    told.error = error
    result = runner.invoke(main, ["run", "fake", "--into", str(tmp_path / "r")])
    assert result.exit_code == error.exit_code
    assert f"penstock: {type(error).__name__}: {error}" in result.stderr
    assert ("Traceback" in result.stderr) == isinstance(error, errors.PenstockBug)
    assert result.stdout == ""


def test_what_nobody_foresaw_is_shown_whole_and_asked_to_be_reported(told, runner, tmp_path):
    told.error = ZeroDivisionError("of theirs")
    result = runner.invoke(main, ["run", "fake", "--into", str(tmp_path / "r")])
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "raised by the workload 'fake' (fake_workload:Fake, from penstock-fake)" in result.stderr
    assert "please report it to its authors" in result.stderr


def test_a_file_that_is_not_there_is_bad_input(told, runner, tmp_path):
    told.error = FileNotFoundError(2, "No such file or directory", "data.csv")
    result = runner.invoke(main, ["run", "fake", "--into", str(tmp_path / "r")])
    assert result.exit_code == 4
    assert "penstock: FileNotFoundError: data.csv: No such file" in result.stderr


def test_vv_shows_the_traceback(told, runner, tmp_path):
    told.error = errors.RunFailed("no")
    result = runner.invoke(main, ["run", "fake", "-vv", "--into", str(tmp_path / "r")])
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("events", "code"), [(tiny, 0), (usual, 5), (failed, 1)], ids=["done", "set aside", "failed"]
)
def test_the_outcome_is_the_exit_code(events, code, told, runner, tmp_path):
    told.events = events()
    result = runner.invoke(main, ["run", "fake", "--into", str(tmp_path / "r")])
    assert result.exit_code == code
    assert result.stdout == ""
    assert "usage.parquet" in result.stderr


def test_an_interrupted_run_says_how_to_go_on(told, runner, tmp_path):
    told.events = list(resumed())[:200]
    for error in (None, KeyboardInterrupt()):
        told.error = error
        result = runner.invoke(main, ["run", "fake", "--into", str(tmp_path / "r")])
        assert result.exit_code == 130
        assert f"to go on: penstock resume {tmp_path / 'r'}" in result.stderr


def test_quiet_says_nothing(told, runner, tmp_path):
    told.events = tiny()
    result = runner.invoke(main, ["run", "fake", "-q", "--into", str(tmp_path / "r")])
    assert (result.exit_code, result.output) == (0, "")


def test_options_reach_the_run_and_the_workload(told, runner, tmp_path):
    data = tmp_path / "a.fa"
    data.touch()
    ours = ["--budget", "2GiB", "--workers", "3", "--call", "5", "--set-aside", "7"]
    ours += ["--accept-changes", "--retry-set-aside"]
    runner.invoke(main, ["run", "fake", str(data), "--code", "4", "--into", str(tmp_path / "r"), *ours])
    assert told.asked == {
        "budget": "2GiB", "workers": 3, "call": 5, "set_aside": 7, "accept_changes": True,
        "retry_set_aside": True, "private": False, "cluster": None, "output": "log", "progress": False,
        "history": True, "wait": "5min",
    }  # fmt: skip
    assert told.options == {"files": (str(data),), "code": 4, "strand": "both", "table": None}


@pytest.mark.parametrize(("text", "value"), [("all", True), ("0", 0), ("12", 12)])
def test_set_aside_is_a_number_or_all(text, value, told, runner, tmp_path):
    runner.invoke(main, ["run", "fake", "--into", str(tmp_path / "r"), "--set-aside", text])
    assert told.asked["set_aside"] is value or told.asked["set_aside"] == value


@pytest.mark.parametrize(
    "wrong",
    [
        ["--budget", "16"], ["--budget", "lots"], ["--budget", "-1GiB"], ["--workers", "0"], ["--call", "0"],
        ["--set-aside", "some"], ["--strand", "no"], ["no such file"], ["--nonsense"],
    ],
)  # fmt: skip
def test_wrong_usage_is_2_and_runs_nothing(wrong, told, runner, tmp_path):
    result = runner.invoke(main, ["run", "fake", "--into", str(tmp_path / "r"), *wrong])
    assert result.exit_code == 2
    assert told.times == 0
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("budget", ["auto", "80%", "2GiB", "800MB", "12G"])
def test_budgets_as_people_write_them(budget, told, runner, tmp_path):
    runner.invoke(main, ["run", "fake", "--into", str(tmp_path / "r"), "--budget", budget])
    assert told.asked["budget"] == budget


# --------------------------------------------------------------------------- resume


def test_resume_builds_the_same_command_again_from_elsewhere(told, runner, tmp_path, monkeypatch):
    (tmp_path / "a.fa").touch()
    monkeypatch.chdir(tmp_path)
    told.events = list(tiny())
    command = ["run", "fake", "a.fa", "--table", "t.csv", "--code", "4", "--into", "r", "--budget", "2GiB"]
    assert runner.invoke(main, command).exit_code == 0
    kept = json.loads((tmp_path / "r/.penstock/command.json").read_text())
    assert kept == {
        "schema": 1,
        "workload": "fake",
        "options": {
            "code": 4, "files": [str(tmp_path / "a.fa")], "strand": "both", "table": str(tmp_path / "t.csv")
        },
        "asked": {"budget": "2GiB"},
    }  # fmt: skip
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = runner.invoke(main, ["resume", "../r", "--budget", "1GiB", "--workers", "2"])
    assert result.exit_code == 0, result.output
    assert told.times == 2
    assert told.options == {
        "files": (str(tmp_path / "a.fa"),), "code": 4, "strand": "both", "table": tmp_path / "t.csv"
    }  # fmt: skip
    assert (told.asked["budget"], told.asked["workers"]) == ("1GiB", 2)


@pytest.mark.parametrize("verb", ["run", "resume"])
def test_a_private_workload_runs_privately(verb, told, stranger, runner, tmp_path):
    file = stranger / "fake_workload.py"
    file.write_text(file.read_text().replace("class Fake:\n", "class Fake:\n    private = True\n"))
    told.events = list(tiny())
    folder = str(tmp_path / "r")
    assert runner.invoke(main, ["run", "fake", "--into", folder]).exit_code == 0
    if verb == "resume":
        told.asked = None
        assert runner.invoke(main, ["resume", folder]).exit_code == 0
    assert told.asked["private"] is True


def test_resume_asks_for_what_was_asked_for_last(told, runner, tmp_path):
    told.events = list(tiny())
    folder = str(tmp_path / "r")
    command = ["run", "fake", "--into", folder, "--budget", "2GiB", "--workers", "3", "--set-aside", "all"]
    assert runner.invoke(main, [*command, "--accept-changes", "--no-history"]).exit_code == 0
    assert runner.invoke(main, ["resume", folder]).exit_code == 0
    assert told.asked == {
        "budget": "2GiB", "workers": 3, "call": None, "set_aside": True, "accept_changes": False,
        "retry_set_aside": False, "private": False, "cluster": None, "output": "log", "progress": False,
        "history": False, "wait": "5min",
    }  # fmt: skip
    assert runner.invoke(main, ["resume", folder, "--budget", "auto", "--workers", "2"]).exit_code == 0
    assert (told.asked["budget"], told.asked["workers"]) == ("auto", 2)
    assert runner.invoke(main, ["resume", folder]).exit_code == 0
    assert (told.asked["budget"], told.asked["workers"], told.asked["set_aside"]) == ("auto", 2, True)


def test_a_budget_too_small_is_followed_by_one_that_would_do(told, runner, tmp_path):
    told.events = list(tiny())
    told.error = errors.NoBudget("too small", needed=(100 << 20) + 1)
    result = runner.invoke(
        main, ["run", "fake", "--into", str(tmp_path / "r"), "--budget", "40MiB", "--for", "docker"]
    )
    assert result.exit_code == 3
    assert result.stderr.endswith(
        f"next time ask for --memory=128m\nto go on: penstock resume {tmp_path / 'r'} --budget 101MiB\n"
    )


def test_a_flag_is_named_once(told, runner, tmp_path):
    told.error = errors.JobChanged("pass accept_changes=True (--accept-changes), or set_aside=True")
    result = runner.invoke(main, ["run", "fake", "--into", str(tmp_path / "r")])
    assert "pass --accept-changes, or --set-aside all\n" in result.stderr


def test_the_place_in_the_function_is_told_and_the_traceback_when_asked(told, runner, tmp_path):
    trace = """Traceback (most recent call last):
  File "/home/me/mine.py", line 3, in f
  File "/opt/lib/python3.12/json/decoder.py", line 338, in decode
ValueError: no
"""
    told.error = errors.FunctionRaised("item 7: raised ValueError: no")
    told.error.__cause__ = ValueError("no")
    told.error.__cause__.add_note(trace)
    command = ["run", "fake", "--into", str(tmp_path / "r")]
    result = runner.invoke(main, command)
    assert "/home/me/mine.py, line 3, in f; -v shows the whole traceback\n" in result.stderr
    assert "Traceback" not in result.stderr
    assert trace in runner.invoke(main, [*command, "-v"]).stderr


def test_the_same_command_again_resumes_and_another_is_refused(told, runner, tmp_path):
    told.events = list(tiny())
    command = ["run", "fake", "--into", str(tmp_path / "r")]
    assert runner.invoke(main, command).exit_code == 0
    assert runner.invoke(main, command).exit_code == 0
    other = runner.invoke(main, [*command, "--code", "4"])
    assert other.exit_code == 1
    assert "JobChanged" in other.stderr
    assert "code was 11, is 4" in other.stderr
    assert told.times == 2
    assert runner.invoke(main, [*command, "--code", "4", "--accept-changes"]).exit_code == 0
    assert runner.invoke(main, [*command, "--code", "4"]).exit_code == 0  # the change is kept


def test_a_folder_of_another_workload_is_refused_whatever_is_accepted(told, runner, tmp_path):
    told.events = list(tiny())
    command = ["run", "fake", "--into", str(tmp_path / "r"), "--accept-changes"]
    assert runner.invoke(main, command).exit_code == 0
    path = tmp_path / "r/.penstock/command.json"
    path.write_text(path.read_text().replace('"fake"', '"other"'))
    result = runner.invoke(main, command)
    assert result.exit_code == 1
    assert "holds a run of other" in result.stderr


def test_a_run_that_a_script_made_is_left_to_the_script(told, runner, tmp_path):
    (tmp_path / ".penstock" / "survey").mkdir(parents=True)
    journal = Journal(tmp_path / ".penstock" / "survey" / "journal", durable=False)
    journal.write({"job": {}}, {"kept": [0, 1]})
    journal.close()
    resume = runner.invoke(main, ["resume", str(tmp_path)])
    assert resume.exit_code == 1
    assert "run your script again" in resume.stderr
    run = runner.invoke(main, ["run", "fake", "--into", str(tmp_path)])
    assert run.exit_code == 1
    assert "a script made" in run.stderr


def test_a_run_that_ended_before_it_kept_anything_is_nobodys(told, runner, tmp_path):
    """A journal is begun before the command is written: a run may be killed between the two."""
    (tmp_path / ".penstock" / "survey").mkdir(parents=True)
    journal = Journal(tmp_path / ".penstock" / "survey" / "journal", durable=False)
    journal.write({"job": {}})
    journal.close()
    assert "nothing was begun" in runner.invoke(main, ["resume", str(tmp_path)]).stderr
    told.events = list(tiny())
    assert runner.invoke(main, ["run", "fake", "--into", str(tmp_path)]).exit_code == 0


def test_an_option_that_changes_nothing_may_be_another_one(told, runner, tmp_path, stranger):
    source = stranger / "fake_workload.py"
    source.write_text(source.read_text().replace("class Fake:", 'class Fake:\n    incidental = ("code",)\n'))
    told.events = list(tiny())
    command = ["run", "fake", "--into", str(tmp_path / "r")]
    assert runner.invoke(main, command).exit_code == 0
    assert runner.invoke(main, [*command, "--code", "4"]).exit_code == 0
    assert json.loads((tmp_path / "r/.penstock/command.json").read_text())["options"]["code"] == 4
    assert "strand was" in runner.invoke(main, [*command, "--strand", "plus"]).stderr


def test_a_run_that_failed_before_its_first_stage_can_be_tried_again(told, runner, tmp_path):
    command = ["run", "fake", "--into", str(tmp_path / "r")]
    told.error = errors.BadInput("no such column")
    assert runner.invoke(main, command).exit_code == 4
    assert "nothing was begun" in runner.invoke(main, ["resume", str(tmp_path / "r")]).stderr
    for verb in (["report"], ["verify"], ["watch", "--no-wait"]):
        told_of_none = runner.invoke(main, [*verb, str(tmp_path / "r")])
        assert (told_of_none.exit_code, told_of_none.stdout) == (2, ""), verb
        assert "nothing was begun" in told_of_none.stderr
    assert "not begun" in runner.invoke(main, ["ls", str(tmp_path)]).stdout
    told.error, told.events = None, tiny()
    assert runner.invoke(main, command).exit_code == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"schema": 1, "workload": "fake", "asked": 3}', "no object"),
        ("{", "not the command"), ("[]", "neither"), ('{"schema": 1}', "neither"),
        ('{"schema": 9, "workload": "fake"}', "version 9"),
        ('{"schema": 1, "workload": "fake", "options": {"colour": 1}}', "no longer has the option 'colour'"),
        ('{"schema": 1, "workload": "fake", "options": {"code": "x"}}', "not a valid integer"),
        ('{"schema": 1, "workload": "fake", "options": {"files": ["/no/such"]}}', "does not exist"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_read_is_bad_input(text, says, told, runner, tmp_path):
    (tmp_path / ".penstock").mkdir()
    (tmp_path / ".penstock/command.json").write_text(text)
    result = runner.invoke(main, ["resume", str(tmp_path)])
    assert result.exit_code == 4
    assert says in result.stderr
    assert told.times == 0


def test_a_workload_may_not_take_our_options(told, runner, tmp_path, stranger):
    text = (stranger / "fake_workload.py").read_text().replace('"--code"', '"--budget"')
    (stranger / "fake_workload.py").write_text(text)
    result = runner.invoke(main, ["run", "fake", "--into", str(tmp_path / "r")])
    assert result.exit_code == 2
    assert "--budget" in result.stderr


# --------------------------------------------------------------------------- the reading verbs


def test_plan_prints_to_stdout_and_runs_nothing(told, runner):
    result = runner.invoke(main, ["plan", "fake", "--budget", "12GiB"])
    assert result.exit_code == 0
    assert "footprint" in result.stdout
    assert result.stderr == ""
    values = json.loads(runner.invoke(main, ["plan", "fake", "--budget", "12GiB", "--json"]).stdout)
    assert values["plans"][0]["workers"] == 4
    assert "why" not in result.stdout
    assert "why" in runner.invoke(main, ["plan", "fake", "--budget", "12GiB", "-v"]).stdout
    assert values["plans"][0]["headroom"] == values["plans"][0]["budget"] - values["plans"][0]["projected"]
    assert told.times == 0


@pytest.mark.parametrize("before", [["--k", "2"], ["--k=2", "--canonical"], ["--budget", "2GiB", "--k", "2"]])
def test_a_workloads_own_options_may_stand_before_its_name(before, runner, tmp_path):
    (tmp_path / "one.fa").write_text(">a\nACGTACGT\n")
    into = ["--into", str(tmp_path / "run"), "--quiet"]
    told = runner.invoke(main, ["run", *before, "kmers", str(tmp_path / "one.fa"), *into])
    assert told.exit_code == 0, told.output
    assert json.loads((tmp_path / "run/summary.json").read_text())["k"] == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["--kk", "3", "kmers", "x.fa"],
            "kmers has no option '--kk'; what it takes: penstock run kmers --help",
        ),
        (["--k", "3"], "No such option '--k'; what a workload takes: penstock run WORKLOAD --help"),
    ],
)
def test_an_option_that_nobody_has_is_named_with_where_to_look(args, said, runner):
    told = runner.invoke(main, ["run", *args])
    assert told.exit_code == 2
    assert said in told.output


def test_help_is_given_behind_options_too(runner):
    told = runner.invoke(main, ["run", "--budget", "1GiB", "-h"])
    assert told.exit_code == 0
    assert "Workloads:" in told.output


@pytest.mark.parametrize("before", [["--workers", "2"], ["--workers=2"], ["-q", "--workers", "2"]])
def test_options_of_ours_may_stand_before_what_is_run(before, told, runner, tmp_path):
    told.events = list(usual())
    found = runner.invoke(main, ["run", *before, "fake", "--code", "4", "--into", str(tmp_path / "r")])
    assert found.exit_code == 5, found.output
    assert runner.invoke(main, ["run", "--nonsense", "fake"]).exit_code == 2
    assert "Workloads" in runner.invoke(main, ["run", "--help"]).output


def test_two_forms_at_once_are_wrong_usage(told, runner, tmp_path):
    runner.invoke(main, ["run", "fake", "--into", str(tmp_path / "r")])
    (tmp_path / "r" / ".penstock").mkdir(parents=True, exist_ok=True)
    (tmp_path / "r" / ".penstock" / "events.jsonl").touch()
    found = runner.invoke(main, ["report", "--csv", "--json", str(tmp_path / "r")])
    assert found.exit_code == 2
    assert "give one of them" in found.stderr


def test_report_prints_numbers_and_draws_the_page_when_asked(told, runner, tmp_path):
    told.events = list(usual())
    folder = tmp_path / "r"
    runner.invoke(main, ["run", "fake", "--into", str(folder)])
    text = runner.invoke(main, ["report", str(folder)])
    assert text.exit_code == 0
    assert "898 of 900 items" in text.stdout
    assert not (folder / "report.html").exists()
    result = runner.invoke(main, ["report", str(folder), "--json", "--page"])
    report = Report.from_json(result.stdout)
    assert (report.done, report.set_aside_total, report.folder) == (898, 2, folder)
    assert (folder / "report.html").read_text().startswith("<!doctype html>")


def fail_on_three(item):
    if item == 3:
        raise ValueError("three is no number of ours")
    return item


def reported(runner, folder):
    return json.loads(runner.invoke(main, ["report", str(folder), "--json"], catch_exceptions=False).stdout)


@pytest.mark.parametrize("stage", ["", "numbers"])
def test_report_has_the_error_and_the_traceback_of_what_was_set_aside(stage, runner, tmp_path):
    folder = tmp_path / "r"
    with penstock.Run(folder, set_aside=True, backend="inline") as run:
        job = penstock.Job(source=penstock.sources.Range(9), function=fail_on_three)
        run.stage(stage, job) if stage else run._stage("", job)
    (aside,) = reported(runner, folder)["set_aside"]
    assert (aside["item"], aside["error"]) == (3, "ValueError")
    assert "three is no number of ours" in aside["traceback"]
    assert "in fail_on_three" in aside["traceback"]
    assert (
        reported(runner, folder)["set_aside"] == json.loads((folder / "report.json").read_text())["set_aside"]
    )


def test_report_tells_what_a_run_said_of_its_input_though_it_was_killed(runner, tmp_path):
    folder = tmp_path / "r"

    def fails(folder):
        raise ZeroDivisionError

    with penstock.Run(folder, backend="inline") as run:
        run.describe(samples="7 rows", sampling="all")
        run.describe(samples="8 rows", odd="a\x1b[31mb")
        with pytest.raises(penstock.FunctionRaised):
            run.step("one", fails, threads=1)
    told = runner.invoke(main, ["report", str(folder)]).stdout
    assert "samples     8 rows\nsampling    all\n" in told
    assert "\x1b" not in told
    assert reported(runner, folder)["described"]["samples"] == "8 rows"
    for damage in ("", "[1]", "{" * 9, json.dumps({"a": 3})):
        (folder / ".penstock" / "described.json").write_text(damage)
        assert reported(runner, folder)["described"] == {}


@pytest.mark.parametrize("damage", ["gone", "damaged", "empty"])
def test_report_tells_what_the_events_know_where_the_journal_is_no_help(damage, runner, tmp_path):
    folder = tmp_path / "r"
    penstock.run(fail_on_three, 9, folder, set_aside=True, backend="inline")
    journal = folder / ".penstock/job/journal"
    {"gone": journal.unlink, "damaged": lambda: journal.write_text("nonsense\n" * 3),
     "empty": lambda: journal.write_text("")}[damage]()  # fmt: skip
    (aside,) = reported(runner, folder)["set_aside"]
    assert (aside["item"], aside["error"], aside["traceback"]) == (3, "", "")
    assert "three is no number of ours" in aside["message"]


def test_report_says_how_to_go_on(told, runner, tmp_path):
    told.events = list(resumed())[:200]
    folder = tmp_path / "r"
    runner.invoke(main, ["run", "fake", "--into", str(folder)])
    assert f"to go on: penstock resume {folder}\n" in runner.invoke(main, ["report", str(folder)]).stderr
    told.events = list(tiny())
    runner.invoke(main, ["run", "fake", "--into", str(tmp_path / "done")])
    assert "to go on" not in runner.invoke(main, ["report", str(tmp_path / "done")]).stderr


@pytest.mark.parametrize("verb", ["report", "verify", "resume"])
def test_a_folder_without_a_run_is_wrong_usage_of_every_verb(verb, runner, tmp_path):
    for folder, says in ((tmp_path, "holds no run"), (tmp_path / "none", "is not there")):
        result = runner.invoke(main, [verb, str(folder)])
        assert result.exit_code == 2
        assert says in result.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rnu", "No such command 'rnu': did you mean 'run'?"),
        ("fake", "did you mean `penstock run fake`?"),
        ("mine.py", "did you mean `penstock run mine.py`?"),
        ("xyz", "there are limits, nodes, plan, run"),
    ],
)
def test_a_verb_that_is_not_there_is_answered_by_the_nearest(name, says, stranger, runner):
    result = runner.invoke(main, [name])
    assert result.exit_code == 2
    assert says in result.stderr


def test_lines_are_broken_between_words_where_the_terminal_is_narrow():
    line = "  needed 1.3 GiB; to go on: penstock resume runs/a-folder-with-a-name-longer-than-that"
    assert _wrapped(line, 100) == line
    broken = _wrapped(line, 40).split("\n")
    assert " ".join(part.strip() for part in broken) == line.strip()
    assert [part for part in broken if len(part) > 40] == [f"    {line.split()[-1]}"]


def test_exit_zero_is_for_schedulers_that_take_5_for_a_failure(told, runner, tmp_path):
    told.events = usual()
    result = runner.invoke(main, ["run", "fake", "--exit-zero", "--into", str(tmp_path / "r")])
    assert result.exit_code == 0
    assert "set aside" in result.stderr
    told.events = failed()
    assert runner.invoke(main, ["run", "fake", "--exit-zero", "--into", str(tmp_path / "s")]).exit_code == 1


def test_plugins_tells_which_are_of_one_workload(runner):
    found = json.loads(runner.invoke(main, ["plugins", "--json"]).stdout)["plugins"]
    of = {each["name"]: each["of"] for each in found if each["kind"] == "workload"}
    five = {name for name, family in of.items() if family == "recsys"}
    assert five == {"behavior", "rank-train", "ranking", "shrink", "similar"}
    assert of["snv"] == of["superres"] == ""
    lines = runner.invoke(main, ["plugins"]).stdout.splitlines()
    assert any(line.split()[1:] == ["ranking", "penstock", "(of", "recsys)"] for line in lines)


def test_plugins_names_the_strangers_package(stranger, runner):
    values = json.loads(runner.invoke(main, ["plugins", "--json"]).stdout)
    fake = {"kind": "workload", "name": "fake", "package": "penstock-fake", "of": ""}
    assert fake in values["plugins"]
    assert "penstock-fake" in runner.invoke(main, ["plugins"]).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell, runner, monkeypatch):
    assert "_PENSTOCK_COMPLETE" in runner.invoke(main, ["completion", shell]).stdout


def test_completion_knows_workloads(stranger):
    from click.shell_completion import get_completion_class

    complete = get_completion_class("bash")(main, {}, "penstock", "_PENSTOCK_COMPLETE")
    assert "fake" in [item.value for item in complete.get_completions(["run"], "fa")]
    assert "--budget" in [item.value for item in complete.get_completions(["run", "fake"], "--bu")]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(verb, stranger, runner):
    result = runner.invoke(main, [verb, "--help"])
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_help_has_the_exit_codes_and_the_workloads(stranger, runner):
    help_text = runner.invoke(main, ["--help"]).stdout
    for code in ("0  done", "3  cannot fit", "5  done, with some items set aside", "130  interrupted"):
        assert code in help_text
    assert "Count what is in FILES." in runner.invoke(main, ["run", "--help"]).stdout
    ours_too = runner.invoke(main, ["run", "fake", "--help"]).stdout
    for option in ("--into", "--budget", "--strand"):
        assert option in ours_too


def test_nothing_of_the_command_line_is_imported_with_penstock():
    code = "import penstock, sys; print([m for m in ('click', 'rich', 'penstock.cli') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_nothing_of_dask_is_imported_with_penstock_nor_with_nodes_of_this_machine():
    code = (
        "import penstock, sys; from penstock.runs import on_nodes; on_nodes.find('local:2', 'local')\n"
        "print([m for m in ('dask', 'distributed', 'dask_jobqueue', 'tornado') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_version_is_fast_because_verbs_are_imported_when_used():
    code = (
        "import sys\nfrom penstock.cli import main\n"
        "try: main(['--version'])\nexcept SystemExit: pass\n"
        "print([m for m in ('rich', 'numpy', 'penstock.runs.run', 'penstock.engine') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["penstock 0.2.0", "[]"]


@pytest.mark.parametrize(
    "words", [["run", "{}.py:job"], ["resume", "{}"], ["run", "codons", __file__, "--into", "{}"]]
)
def test_a_name_that_no_file_can_have_is_told_without_a_traceback(runner, words):
    result = runner.invoke(main, [word.format("x" * 300) for word in words])
    assert "File name too long" in result.stderr
    assert result.exit_code == 4
    assert "Traceback" not in result.stderr


def test_numpy_has_one_thread_where_a_workload_of_ours_runs_and_workers_are_not_told_so():
    code = (
        "import os, sys; os.environ.pop('OPENBLAS_NUM_THREADS', None)\n"
        "from penstock.cli import run\n"
        "assert 'numpy' not in sys.modules\n"
        "run._import_numpy()\n"
        "import threadpoolctl\n"
        "threads = [pool['num_threads'] for pool in threadpoolctl.threadpool_info()]\n"
        "print(threads, 'OPENBLAS_NUM_THREADS' in os.environ)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[1] False\n"
