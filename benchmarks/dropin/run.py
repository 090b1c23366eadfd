"""Others' test suites on our pools: CPython's executor and Pool, joblib's, scikit-learn's model selection.

    python benchmarks/dropin/run.py
    python benchmarks/dropin/run.py --suites futures,pool -k traceback --show
    timeout 900 python benchmarks/dropin/run.py --suites joblib --doors backend --part 1/4

Every test that does not succeed is told at once, and every half minute how far it is; a run that is ended
(Ctrl-C, ``timeout``) sums up what it has seen.

A difference is a test that succeeds with the original pool and not with ours. All are listed, each with its
reason in ``expected.toml``; one that has none there is new, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suites import HERE, SUITES, Found, Missing, Suite

SECONDS = 60
"""One test may take so long; the original's take up to 15 s on two busy cores."""
GOOD = ("passed", "skipped", "xfailed")
_TELL_SECONDS = 30.0


@dataclass
class Outcome:
    """How the tests of one suite ended, through one door."""

    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    cpu: float = 0.0
    ended: bool = True
    """False where the run was ended before its last test."""

    @property
    def failed(self) -> list[str]:
        """Those that did not succeed."""
        return [name for name, told in self.tests.items() if told["outcome"] not in GOOD]


def run(
    suite: Suite, found: Found, door: str, options: argparse.Namespace, only: Iterable[str] | None = None
) -> Outcome:
    """Run a suite; where a test ends or blocks the process, the others after it are run by another one."""
    outcome, telling = Outcome(), Telling(f"{suite.name} by {door}")
    with tempfile.TemporaryDirectory(prefix="dropin-") as folder:
        record = Path(folder, "record.jsonl")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, [HERE, *([found.path] if found.path else [])])),
            "PENSTOCK_DROPIN_DOOR": door,
            "PENSTOCK_DROPIN_RECORD": str(record),
            "PENSTOCK_DROPIN_ONLY": json.dumps(None if only is None else list(only)),
            "PENSTOCK_DROPIN_PART": json.dumps(options.part),
        }
        selected = " and ".join(f"({each})" for each in (suite.select, options.k) if each)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "door",
            "-p",
            "no:cacheprovider",
            "-c",
            os.devnull,
        ]
        command += ["--rootdir", folder, f"--timeout={SECONDS}", "--timeout-method=signal", "-W", "ignore"]
        command += ["-k", selected] if selected else []
        began, cpu = time.monotonic(), _cpu()
        going = True
        while going:
            record.write_text("")
            environment["PENSTOCK_DROPIN_DONE"] = json.dumps(list(outcome.tests))
            try:
                code = _process([*command, *map(str, found.files)], environment, folder, record, telling)
            except Ended:
                going = outcome.ended = False
            running = _read(record, outcome)
            if running is None or not going:
                if going and code not in (0, 1, 5) and not outcome.tests:
                    raise SystemExit(Path(folder, "output").read_text()[-3000:])
                break
            outcome.tests[running] = {
                "outcome": "ended",
                "said": f"the process ended with {code}",
                "text": "",
            }
            print(f"   ... {running}: ended the process with {code}", flush=True)
        outcome.seconds, outcome.cpu = time.monotonic() - began, _cpu() - cpu
    return outcome


class Ended(Exception):
    """Somebody asked us to end: Ctrl-C, or SIGTERM of ``timeout``."""


def _end(*_: object) -> None:
    raise Ended


class Telling:
    """Prints how a suite goes, from what is written about its tests.

    Args:
        what: runs.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._selected = self._over = self._at = 0
        self._now = ""
        self._told = time.monotonic()

    def read(self, record: Path) -> None:
        """Take in the lines that are new; a file that has become shorter is another process's."""
        data = record.read_bytes()
        self._at = min(self._at, len(data)) if data else 0
        end = data.rfind(b"\n") + 1
        for line in data[self._at : end].splitlines():
            self._take(json.loads(line))
        self._at = end
        if time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            print(f"   ... {self._what}: {self._over} of {self._selected} tests; at {self._now}", flush=True)

    def _take(self, told: dict[str, Any]) -> None:
        if "selected" in told:
            self._selected = self._over + told["selected"]
        elif "began" in told:
            self._now = told["test"]
        elif "over" in told:
            self._over += 1
        elif told["outcome"] not in GOOD:
            print(f"   ... {told['test']}: {told['outcome']}: {told['said']}", flush=True)


def _cpu() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _process(
    command: list[str], environment: dict[str, str], folder: str, record: Path, telling: Telling
) -> int:
    """Run pytest until it ends, or says nothing for long: then it is killed, with all that it started."""
    with open(Path(folder, "output"), "ab") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        said, size = time.monotonic(), 0
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
                telling.read(record)
                if record.stat().st_size != size:
                    said, size = time.monotonic(), record.stat().st_size
                if time.monotonic() - said > 2 * SECONDS:
                    break
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        return code


def _read(record: Path, outcome: Outcome) -> str | None:
    """Take in what was written; the test that was not over, if there is one."""
    running = None
    for line in record.read_text().splitlines():
        told = json.loads(line)
        if (name := told.get("test")) is None:
            continue
        if "began" in told:
            running = name
        elif "over" in told:
            outcome.tests.setdefault(name, {"outcome": "ended", "said": "it told nothing", "text": ""})
            running = None
        elif name not in outcome.tests or outcome.tests[name]["outcome"] in GOOD:
            outcome.tests[name] = told
    if running is not None:
        outcome.tests.pop(running, None)
    return running


def reason(expected: list[dict[str, Any]], suite: str, door: str, test: str) -> str | None:
    """Why a difference is expected; None: it is new."""
    for each in expected:
        ours = each["suite"] == suite and door in each.get("doors", [door])
        if ours and any(fnmatch.fnmatchcase(test.partition("::")[2], f"*{name}") for name in each["tests"]):
            return str(each["reason"])
    return None


def compare(
    suite: Suite, door: str, expected: list[dict[str, Any]], options: argparse.Namespace
) -> list[str]:
    """Run one suite through one door, print how it went; the differences that are new."""
    found = suite.find()
    ours = run(suite, found, door, options)
    unknown = [name for name in ours.failed if reason(expected, suite.name, door, name) is None]
    theirs = Outcome()
    timed = suite.timed and ours.ended
    if timed or unknown:
        theirs = run(suite, found, "stock", options, None if timed else unknown)
    new = [name for name in unknown if name not in theirs.failed]
    known = [name for name in ours.failed if name not in unknown]
    print(
        f"== {suite.name} by {door}: {len(ours.tests)} tests, {len(known) + len(new)} differences, "
        f"{len(new)} of them new; {ours.seconds:.0f} s, {ours.cpu:.0f} CPU s"
        + (
            f"; the original {theirs.seconds:.0f} s, {theirs.cpu:.0f} CPU s: "
            f"{ours.seconds / theirs.seconds:.1f} times as long"
            if timed
            else ""
        )
        + ("" if ours.ended and theirs.ended else "; ENDED before the last of them"),
        flush=True,
    )
    for name in sorted(known):
        print(f"   {name.partition('::')[2]}: {reason(expected, suite.name, door, name)}")
    for name in sorted(new):
        print(f"   NEW {name.partition('::')[2]}: {ours.tests[name]['said']}")
        if options.show:
            print(ours.tests[name]["text"])
    if options.json:
        with open(options.json, "a") as file:
            told = {
                "suite": suite.name,
                "door": door,
                "tests": len(ours.tests),
                "expected": known,
                "new": new,
            }
            file.write(json.dumps({**told, "seconds": ours.seconds, "cpu": ours.cpu}) + "\n")
    if not ours.ended or not theirs.ended:
        raise Ended
    return new


def _part(text: str) -> tuple[int, int]:
    part, parts = map(int, text.split("/"))
    if not 1 <= part <= parts:
        raise ValueError(text)
    return part, parts


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [suite.name for suite in SUITES]
    parser.add_argument("--suites", default=",".join(names), help=f"some of {', '.join(names)}")
    parser.add_argument("--doors", default="executor,rescue,backend", help="some of these")
    parser.add_argument("-k", default="", help="only tests that pytest would take for this")
    parser.add_argument("--part", type=_part, default=(1, 1), help="of each suite: 2/5 is the second fifth")
    parser.add_argument("--show", action="store_true", help="print what new differences say")
    parser.add_argument("--json", help="append the result to this file")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    expected = tomllib.loads((HERE / "expected.toml").read_text())["difference"]
    new: list[str] = []
    for suite in SUITES:
        for door in suite.doors:
            if suite.name in options.suites.split(",") and door in options.doors.split(","):
                try:
                    new += compare(suite, door, expected, options)
                except Missing as why:
                    print(f"== {suite.name} by {door}: not run: {why}", flush=True)
                except Ended:
                    return 1
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
