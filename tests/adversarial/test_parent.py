"""The parent killed at any moment, or asked to stop: the same command again goes on."""

import collections
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from programs import digest, finished, lines, python, start, write
from waiting import LIMIT, MARK, left_behind, until

SCRIPT = """
import os, sys, time
import penstock

def work(item):
    descriptor = os.open("worked", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"%d\\n" % item)
    os.close(descriptor)
    held = bytearray(b"x") * (10 << 20)
    time.sleep(float(os.environ.get("ITEM_SECONDS", "0.01")))
    return {"square": item * item, "text": str(item) * 500}

job = penstock.Job(source=penstock.sources.Range(240), function=work, into="collect")
if __name__ == "__main__":
    report = job.run(sys.argv[1], budget="300MiB")
    print(report.done, report.resumed_from)
"""


def slow(seconds):
    """The environment of a program whose items take so long."""
    return {**os.environ, "ITEM_SECONDS": str(seconds)}


def alone(tmp_path):
    """The result of an undisturbed run; its file of calls is taken away."""
    finished(python(write(tmp_path, "script.py", SCRIPT), "alone", cwd=tmp_path, env=slow(0)))
    (tmp_path / "worked").unlink()
    return digest(tmp_path / "alone")


def nobody_left():
    assert not left_behind(os.environ[MARK])


@pytest.mark.long
def test_the_parent_killed_at_twenty_random_moments(tmp_path):
    expected = alone(tmp_path)
    chance = random.Random(2)
    running = 0
    for _ in range(20):
        program = python(tmp_path / "script.py", "r", cwd=tmp_path)
        begun = lines(tmp_path / "r")
        if chance.random() < 0.7:
            until(lambda begun=begun, p=program: p.poll() is not None or lines(tmp_path / "r") > begun + 2)
        time.sleep(chance.random() * 0.4)
        program.kill()
        program.communicate()
        running += 2  # batches
        nobody_left()
    out, _ = finished(python(tmp_path / "script.py", "r", cwd=tmp_path))
    assert digest(tmp_path / "r") == expected
    done, before = map(int, out.split())
    assert done == 240
    assert before > 0
    # Only what was running when the parent was killed was worked twice. A batch is short here.
    worked = collections.Counter((tmp_path / "worked").read_text().split())
    assert set(worked) == {str(item) for item in range(240)}
    assert sum(worked.values()) - 240 <= running * 60


def test_only_the_running_batches_are_repeated(tmp_path):
    """What the journal says is kept when the parent dies is never worked again."""
    write(tmp_path, "script.py", SCRIPT)
    for _ in range(3):
        program = python(tmp_path / "script.py", "r", cwd=tmp_path, env=slow(0.05))
        begun = lines(tmp_path / "r")
        until(lambda begun=begun: lines(tmp_path / "r") > begun + 4, program=program)
        program.kill()
        program.communicate()
        nobody_left()
        kept = kept_items(tmp_path / "r")
        worked = len((tmp_path / "worked").read_text().split())
        program = python(tmp_path / "script.py", "r", cwd=tmp_path, env=slow(0.05))
        begun = lines(tmp_path / "r")
        until(lambda begun=begun: lines(tmp_path / "r") > begun + 3, program=program)
        program.kill()
        program.communicate()
        nobody_left()
        later = (tmp_path / "worked").read_text().split()[worked:]
        assert later
        assert not kept & {int(item) for item in later}


def kept_items(folder):
    from penstock.record import journal

    past = journal.read(Path(folder) / ".penstock" / "job" / "journal")
    return {item for a, b in past.done for item in range(a, b)}


# ------------------------------------------------------------------ asked to stop


def interrupted(tmp_path, number, command):
    """Ask it to stop, early in its run."""
    program = start(*command, cwd=tmp_path, env=slow(0.1))
    until(lambda: lines(tmp_path / "r") > 5, program=program)
    program.send_signal(number)
    out, told = program.communicate(timeout=LIMIT)
    nobody_left()
    return program.returncode, out, told


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_ends_well_and_the_command_goes_on(number, code, tmp_path):
    expected = alone(tmp_path)
    command = [
        Path(sys.executable).with_name("penstock"),
        "run",
        "script.py:job",
        "--into",
        "r",
        "--budget",
        "300MiB",
    ]
    returned, out, told = interrupted(tmp_path, number, command)
    assert (returned, out) == (code, ""), told
    assert "penstock resume r" in told
    assert (tmp_path / "r" / "report.json").is_file()
    assert (tmp_path / "r" / "report.html").is_file()
    kept = kept_items(tmp_path / "r")
    worked = len((tmp_path / "worked").read_text().split())
    assert len(kept) == worked  # the running batches were finished, none dropped
    finished(start(*command, cwd=tmp_path, env=slow(0)))
    assert digest(tmp_path / "r") == expected
    assert len((tmp_path / "worked").read_text().split()) == 240


def test_in_the_background_of_a_script_ctrl_c_is_not_meant_for_it(tmp_path):
    """A shell without job control starts what ends in ``&`` with Ctrl-C ignored, and SIGTERM not."""
    write(tmp_path, "script.py", SCRIPT)
    command = [Path(sys.executable).with_name("penstock"), "run", "script.py:job", "--into", "r"]
    program = start(
        *command, "--budget", "300MiB", cwd=tmp_path, env=slow(0.2),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    until(lambda: lines(tmp_path / "r") > 3, program=program)
    program.send_signal(signal.SIGINT)
    begun = lines(tmp_path / "r")
    until(lambda: lines(tmp_path / "r") > begun + 1, program=program)
    program.send_signal(signal.SIGTERM)
    _, told = program.communicate(timeout=LIMIT)
    assert program.returncode == 143, told
    nobody_left()


def test_an_interrupt_in_python_is_a_keyboard_interrupt_with_a_note(tmp_path):
    script = SCRIPT.replace(
        'report = job.run(sys.argv[1], budget="300MiB")',
        "try:\n        report = job.run(sys.argv[1], budget='300MiB')\n"
        "    except KeyboardInterrupt as error:\n"
        "        print(error.__notes__); sys.exit(7)",
    )
    write(tmp_path, "script.py", script)
    code, out, told = interrupted(tmp_path, signal.SIGINT, [sys.executable, "script.py", "r"])
    assert code == 7, told
    assert "can be resumed" in out


TWICE = """
import penstock.engine.parent.interrupts, penstock.engine.parent.loop

penstock.engine.parent.loop._GRACE = 10_000.0  # seconds
take = penstock.engine.parent.interrupts.Interrupts._take

def told(interrupts, number, frame):
    open("asked", "w").close()
    take(interrupts, number, frame)

penstock.engine.parent.interrupts.Interrupts._take = told
"""


def test_an_item_that_lasts_is_dropped_after_a_while(tmp_path):
    program = python(write(tmp_path, "script.py", SCRIPT), "r", cwd=tmp_path, env=slow(3 * LIMIT))
    until((tmp_path / "worked").exists, program=program)
    program.send_signal(signal.SIGINT)
    _, told = program.communicate(timeout=LIMIT)
    assert program.returncode in (-signal.SIGINT, 130, 1), told
    nobody_left()


def test_the_second_signal_waits_for_nothing(tmp_path):
    program = python(write(tmp_path, "script.py", TWICE + SCRIPT), "r", cwd=tmp_path, env=slow(3 * LIMIT))
    until((tmp_path / "worked").exists, program=program)
    program.send_signal(signal.SIGINT)
    until((tmp_path / "asked").exists, program=program)
    program.send_signal(signal.SIGINT)
    _, told = program.communicate(timeout=LIMIT)
    assert program.returncode in (-signal.SIGINT, 130, 1), told
    nobody_left()


def test_a_terminal_that_goes_away_takes_the_whole_run_along(tmp_path):
    write(tmp_path, "script.py", SCRIPT)
    program = start(
        sys.executable, "script.py", "r", cwd=tmp_path, env=slow(0.05), start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # ignored under nohup
    )  # fmt: skip
    until(lambda: lines(tmp_path / "r") > 4, program=program)
    os.killpg(program.pid, signal.SIGHUP)
    program.communicate(timeout=LIMIT)
    nobody_left()
    finished(python(tmp_path / "script.py", "r", cwd=tmp_path, env=slow(0)))
