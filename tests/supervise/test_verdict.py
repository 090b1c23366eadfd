"""Who ended the command? A table of evidence and what may be said of it."""

import signal

import pytest

from penstock.budget import MiB
from penstock.supervise.verdict import Evidence, Gone, Over, Rise, SentSignal, is_settled, judge, told_by

NOW = 1_000_000.0
KILL = int(signal.SIGKILL)


def evidence(**given):
    usual = {"code": None, "signal": None, "pid": 10, "ended": NOW, "used": 300 * MiB, "read_at": NOW - 0.1}
    return Evidence(**usual | given)


def gone(pid, memory=200 * MiB, *, reaped=False, number=None, noticed=NOW):
    return Gone(pid, f"work {pid}", memory, noticed - 0.02, noticed, number, reaped)


def rise(scope="ours", count=1):
    return Rise(count, "/the/group", scope, NOW - 0.05, NOW - 0.01, 310 * MiB)


def text(verdict):
    return "\n".join(verdict.lines)


@pytest.mark.parametrize("code", [0, 1, 137])
def test_what_ends_by_itself_has_no_culprit(code):
    verdict = judge(evidence(code=code))
    assert (verdict.by, verdict.lines) == ("itself", ())


def test_the_kernel_killed_the_command():
    verdict = judge(evidence(signal=KILL, rises=[rise()], gone=[gone(10, reaped=True, number=KILL)]))
    assert (verdict.by, verdict.killed) == ("kernel", (10,))
    for part in ("oom_kill of /the/group rose by 1", "process 10 (work 10)", "200 MiB", "310 MiB", "0.02 s"):
        assert part in text(verdict)


def test_the_kernel_killed_one_child_and_the_command_failed():
    verdict = judge(evidence(code=1, rises=[rise()], gone=[gone(12)]))
    assert (verdict.by, verdict.killed) == ("kernel", (12,))
    assert "then the command itself ended with exit code 1" in text(verdict)


def test_the_kernel_killed_one_child_and_the_command_did_without():
    verdict = judge(evidence(code=0, rises=[rise()], gone=[gone(12)]))
    assert (verdict.by, verdict.killed) == ("itself", (12,))


def test_of_two_that_went_at_once_none_is_accused():
    verdict = judge(evidence(code=1, rises=[rise()], gone=[gone(12), gone(13, 5 * MiB)]))
    assert verdict.killed == ()
    assert "which one is not told" in text(verdict)
    assert text(verdict).index("process 12") < text(verdict).index("process 13")


def test_one_that_was_seen_to_exit_is_not_the_victim():
    seen = [gone(12), gone(13, reaped=True, number=None), gone(14, reaped=True, number=15)]
    assert judge(evidence(code=1, rises=[rise()], gone=seen)).killed == (12,)


@pytest.mark.parametrize("scope", ["group", "machine"])
def test_a_counter_that_others_share_proves_nothing(scope):
    verdict = judge(evidence(signal=KILL, rises=[rise(scope)], gone=[gone(10, reaped=True, number=KILL)]))
    assert (verdict.by, verdict.killed) == ("unknown", ())
    assert "whether by the kernel or by somebody else is not told" in text(verdict)


@pytest.mark.parametrize("scope", ["group", "machine"])
def test_somebody_else_s_death_is_not_ours(scope):
    verdict = judge(evidence(code=0, rises=[rise(scope)], gone=[gone(12, noticed=NOW - 60)]))
    assert (verdict.by, verdict.lines) == ("itself", ())


def test_sigkill_without_a_rise_is_not_the_kernel_s():
    verdict = judge(evidence(signal=KILL, gone=[gone(10, reaped=True, number=KILL)]))
    assert verdict.by == "signal"
    assert "not by the kernel for memory" in text(verdict)
    assert "300 MiB" in text(verdict)


def test_sigkill_without_counters_cannot_be_known():
    verdict = judge(evidence(signal=KILL, counted=False))
    assert verdict.by == "unknown"
    assert "cannot be known" in text(verdict)


def test_a_signal_passed_on_names_its_sender():
    sent = [SentSignal(15, NOW - 0.1, 4711, "slurmstepd")]
    verdict = judge(evidence(signal=15, sent=sent))
    assert verdict.by == "signal"
    assert "ended by SIGTERM, sent by process 4711 (slurmstepd)" in text(verdict)
    assert "sent by the terminal" in text(judge(evidence(signal=2, sent=[SentSignal(2, NOW, 0)])))


def test_a_signal_that_did_not_come_through_us_has_no_known_sender():
    verdict = judge(evidence(signal=15, sent=[SentSignal(2, NOW, 0)]))
    assert "sent to it directly" in text(verdict)
    assert "not told by whom" in text(verdict)


def test_a_crash_is_a_crash():
    verdict = judge(evidence(signal=int(signal.SIGSEGV)))
    assert (verdict.by, "crashed with SIGSEGV" in text(verdict)) == ("itself", True)


def test_the_budget_is_named_before_everything_else():
    over = Over(320 * MiB, 300 * MiB, "as asked for", NOW, 12, "work 12", 290 * MiB)
    verdict = judge(evidence(signal=KILL, over=over, rises=[rise()]))
    assert verdict.by == "budget"
    for part in ("320 MiB of 300 MiB (as asked for)", "process 12 (work 12): 290 MiB"):
        assert part in text(verdict)


# --------------------------------------------------------------------------- while it runs


def test_a_kill_is_told_as_soon_as_its_victim_is_known():
    told = told_by(rise(), [gone(12)], "of 400 MiB (the group)", NOW)
    assert told.killed == (12,)
    assert "the kernel killed 1 process for memory" in text(told)
    assert "of 400 MiB (the group)" in text(told)


def test_a_victim_that_is_not_known_is_waited_for_a_while():
    assert told_by(rise(), [], "", NOW) is None
    assert told_by(rise(count=2), [gone(12)], "", NOW) is None
    late = told_by(rise(count=2), [gone(12)], "", NOW + 3)
    assert late.killed == (12,)
    nobody = told_by(rise(), [], "", NOW + 3)
    assert nobody.killed == ()
    assert "which one is not told" in text(nobody)
    assert not is_settled(rise(), NOW)
    assert is_settled(rise(), NOW + 3)


@pytest.mark.parametrize("scope", ["group", "machine"])
def test_a_kill_of_somebody_else_s_process_is_never_told(scope):
    assert told_by(rise(scope), [], "", NOW + 3) is None
    doubtful = told_by(rise(scope), [gone(12)], "", NOW + 3)
    assert doubtful.killed == ()
