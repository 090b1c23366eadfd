"""Every name inside a run folder; together they are its file format.

RUN/                          results of a run of one job; of several stages, a folder for each
    report.html, report.json  what was done, for people and for programs
    .penstock/                the state folder
        lock, owner           who writes here
        events.jsonl          what happened
        command.json          how the run was called; exec.json for a supervised command
        workers.log           what workers printed
        described.json        what a workload says of its input and settings
        made_with.json        command, host, versions and code of the run
        drafts/TOKEN/         files of an owner that have no final name yet
        STAGE/                for each stage; ``job`` for a run of one job
            journal           what is kept
            report.json       of the stage
            learnt.json       what its calls took
            result.json       of a reducer, result-NAME.json of one of several
            states/           what a reducer keeps of each grain, where it is large
            scratch/TOKEN/    what workers need for a while
            trial             the journal of a plan
"""

from __future__ import annotations

from pathlib import Path

STATE = ".penstock"
EVENTS, WORKERS_LOG = "events.jsonl", "workers.log"
COMMAND, EXEC = "command.json", "exec.json"
LOCK, GUARD, OWNER = "lock", "lock.guard", "owner"
DRAFTS, SCRATCH, STATES = "drafts", "scratch", "states"
DESCRIBED, MADE_WITH = "described.json", "made_with.json"
LEARNT = "learnt.json"
JOURNAL, TRIAL = "journal", "trial"
REPORT, PAGE = "report.json", "report.html"
FACTS = ".facts.json"
"""Inside the folder that a step made."""
OURS = frozenset({STATE, PAGE, REPORT})
"""At the top of a run folder, and of no stage."""
RESERVED = frozenset({DRAFTS, LOCK, GUARD, OWNER, EVENTS, WORKERS_LOG, COMMAND, EXEC, DESCRIBED, MADE_WITH})
"""In the state folder, so that no stage can be called so."""
JOB = "job"


def stage_folder(stage: str) -> str:
    """Name of a stage's folder in the state folder; the only stage of a job's run has no name."""
    return stage or JOB


def journal_of(stage: str) -> str:
    """Path of a stage's journal, relative to the run folder."""
    return f"{STATE}/{stage_folder(stage)}/{JOURNAL}"


def journals(state: Path) -> list[Path]:
    """The journals of all stages."""
    return sorted(state.glob(f"*/{JOURNAL}"))


def is_begun(state: Path) -> bool:
    """Whether a stage was ever begun in a run: a call that is wrong ends before it."""
    events = state / EVENTS
    return bool(journals(state)) or (events.is_file() and events.stat().st_size > 0)


def result_name(output: str) -> str:
    """File name of a reducer's result in its stage's folder; the only one of a stage has no name."""
    return f"result-{output}.json" if output else "result.json"
