"""Supervises a command: reaps processes, forwards signals, samples memory, kills what goes over budget.

One thread, no handlers: signals are blocked and waited for, together with the time of the next reading.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from penstock import advice, discover
from penstock import events as ev
from penstock.abc import Observer
from penstock.budget import Budget
from penstock.supervise import command
from penstock.supervise.budget_guard import BudgetGuard
from penstock.supervise.kill_reports import KillReports
from penstock.supervise.tree import command_of, slurp
from penstock.supervise.tree_events import TreeEvents
from penstock.supervise.verdict import CommandVerdict, Evidence, Over, SentSignal, judge
from penstock.supervise.watch import TreeMemory, own_peak

CANNOT_FIT = 3
_PASSED_ON = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT,
)  # fmt: skip
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_FROM_KERNEL = 0x80
"""si_code of what the terminal sends; it reaches the whole process group, the command too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The outcome of a command, and what it needed. Sizes in bytes, times in seconds."""

    code: int
    """For the shell: the command's own, 128 + its signal, or 3 when it went over the budget."""
    signal: int | None
    """The signal that ended the command, if one did."""
    from_terminal: bool
    """Whether that signal was the terminal's (Ctrl-C)."""
    verdict: CommandVerdict
    peak: int
    peak_at: float
    advised: int
    """A limit in which it passes; for what was killed, one to try."""
    complete: bool
    """Whether it ran to its own end, so that the peak is what it needed."""
    seconds: float
    cpu: float
    own_cpu: float
    """CPU seconds of this process."""
    own_memory: int
    """Anonymous + shared bytes of this process."""


class CommandDisplay(Protocol):
    """What people see of a supervised command."""

    def say(self, text: str) -> None:
        """A sentence, now and then."""

    def tick(self, watch: TreeMemory) -> None:
        """Called after every reading; draws the live line."""

    def clear(self) -> None:
        """Erase the live line: the terminal is about to be the shell's."""


class Supervisor:
    """Runs one command to its end, with all that it starts.

    Args:
        argv: the command and its arguments.
        budget: bytes that its tree may hold; None only watches.
        over: what happens when it goes over: ``"kill"`` ends it, ``"warn"`` says so.
        wait: whether to wait for processes that the command leaves behind.
        observers: called with every event.
        display: for people.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        budget: Budget | None = None,
        over: Literal["kill", "warn"] = "kill",
        wait: bool = True,
        observers: Sequence[Observer] = (),
        display: CommandDisplay,
    ) -> None:
        self._argv = list(argv)
        self._budget, self._wait, self._display = budget, wait, display
        self._events = TreeEvents(observers)
        self._watch = watch = TreeMemory(discover.Gauge(), None if budget is None else budget.bytes)
        self._guard: BudgetGuard | None = None
        if budget is not None:
            self._guard = BudgetGuard(
                budget, watch, kills=over == "kill", events=self._events, say=display.say
            )
        self._kills = KillReports(watch, self._events, display.say)
        self._pid = 0
        self._status: int | None = None
        self._ended = 0.0
        self._sent: list[SentSignal] = []
        self._asked = 0
        self._told_left = False
        self._own_peak = 0
        self._at_end: tuple[int, float, str] | None = None

    # ------------------------------------------------------------------ the loop

    def run(self) -> Ending:
        """Start the command and wait until it, and what it left behind, has ended.

        Raises:
            CannotStart: it is not there or cannot be executed.
        """
        began = time.time()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # What was ignored when we started (nohup) stays ignored, by the command too.
        ours = {signal.SIGCHLD, *(each for each in _PASSED_ON if signal.getsignal(each) != signal.SIG_IGN)}
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ours)
        command.adopt_orphans()
        self._own_peak = own_peak()
        try:
            self._pid = command.start(self._argv, mask)
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise
        self._step_aside()
        self._watch.listen()  # not before: the command is forked from one thread
        self._begin(began)
        due = 0.0
        while self._reap():
            now = time.monotonic()
            if now >= due:
                due = now + self._read()
            # A short rest at least: a storm of ending children must not become ours.
            found = signal.sigtimedwait(ours, max(due - time.monotonic(), 0.0005))
            if found is not None and found.si_signo != signal.SIGCHLD:
                self._take(found)
        return self._end(began)

    def _step_aside(self) -> None:
        """Hold nothing of the pipeline: its other ends must see when the command closes its own."""
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        # An orphan's memory may be read late: more files open than a login shell allows.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(nothing, descriptor)
        os.close(nothing)

    def _reap(self) -> bool:
        """Take the children that have ended, ours by birth or adoption; whether to go on."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return False  # every descendant has an ancestor among our children: none is left
            if pid == 0:
                return self._status is None or self._is_waiting()
            if os.WIFSTOPPED(status):
                if pid == self._pid:
                    self._stop_too(os.WSTOPSIG(status))
                continue
            # A child's peak begins with ours, which it was for a moment.
            most = usage.ru_maxrss << 10
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
            if number == signal.SIGKILL:
                self._watch.count_kills()
            if pid == self._pid:
                self._status, self._ended = status, time.time()
                self._at_end = (*self._watch.last_second(), self._watch.nearest())
            faults = usage.ru_minflt + usage.ru_majflt
            self._watch.ended(pid, number, most if most > self._own_peak else 0, faults)

    def _is_waiting(self) -> bool:
        """Whether to stay for what the command left behind."""
        if not self._wait:
            return False
        if not self._told_left and time.time() - self._ended > 1.0:
            self._told_left = True
            left = self._watch.tree.largest(3)
            names = "; ".join(f"process {each.pid} ({each.command})" for each in left)
            self._display.say(
                f"the command has ended; waiting for what it left running: {names}. Ctrl-C ends these."
            )
        return True

    def _stop_too(self, number: int) -> None:
        """The terminal stopped the command (Ctrl-Z): stop, so that the shell sees it, and go on with it."""
        if number not in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
            return
        self._display.clear()
        os.kill(os.getpid(), signal.SIGSTOP)
        if command.is_stopped(self._pid):
            command.send(self._pid, signal.SIGCONT)

    def _take(self, found: signal.struct_siginfo) -> None:
        """Pass a signal on, unless the command has it already or sent it itself."""
        number = found.si_signo
        by_terminal = found.si_code == _FROM_KERNEL
        sender = 0 if by_terminal else found.si_pid
        if not by_terminal and (sender == self._pid or sender in self._watch.tree.members()):
            return  # meant for the whole group, from inside it
        if number in _ENDING:
            name = "" if by_terminal else slurp(f"/proc/{sender}/comm").decode(errors="replace").strip()
            self._sent.append(SentSignal(number, time.time(), sender, name))
            del self._sent[:-64]
        if self._status is not None:
            if number in _ENDING:  # what was left behind, perhaps in sessions of its own
                self._asked += 1
                for pid in self._watch.tree.members():
                    command.send(pid, number if self._asked == 1 else signal.SIGKILL)
            return
        if number == signal.SIGCONT and not command.is_stopped(self._pid):
            return
        if not by_terminal:
            command.send(self._pid, number)

    # ------------------------------------------------------------------ reading

    def _read(self) -> float:
        watch = self._watch
        interval = watch.read()
        if self._guard is not None:
            self._guard.check()
        self._kills.look(running=self._status is None)
        self._events.read(watch, time.time())
        self._display.tick(watch)
        return interval

    # ------------------------------------------------------------------ begin and end

    def _begin(self, at: float) -> None:
        watch = self._watch
        if self._budget is not None:
            budget, origin = self._budget.bytes, self._budget.origin
        else:
            tight = watch.tightest()
            budget, origin = (0, "no limit was found") if tight is None else (tight.bytes, tight.origin)
        self._events(ev.StageStarted(at=at, items=1, done=0, budget=budget, origin=origin, workers=None))
        argv, folder = tuple(self._argv), str(Path.cwd())
        self._events(ev.CommandStarted(at=at, pid=self._pid, command=argv, folder=folder))
        self._events.name(at, self._pid, command_of(self._pid))

    def _end(self, began: float) -> Ending:
        watch = self._watch
        watch.close()
        watch.count_kills()
        status = self._status if self._status is not None else 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = None if number is not None else os.WEXITSTATUS(status)
        used, read_at, limit = self._at_end or (*watch.last_second(), watch.nearest())
        over = None if self._guard is None else self._guard.over
        verdict = judge(
            Evidence(
                code=code, signal=number, pid=self._pid, ended=self._ended, used=used, read_at=read_at,
                limit=limit, over=over, rises=watch.kills.rises, counted=watch.kills.are_counted,
                gone=tuple(watch.gone), sent=self._sent,
            )
        )  # fmt: skip
        complete = number is None and verdict.by == "itself" and not verdict.killed
        own = watch.own()
        # The next time we are in that limit as well.
        advised = advice.enough(watch.peak + own, watch.tables)
        if not complete:
            advised = max(advised, advice.rounded(2 * watch.peak))
        shell = CANNOT_FIT if over else 128 + number if number is not None else code or 0
        last = self._sent[-1] if self._sent else None
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        ending = Ending(
            code=shell, signal=None if over else number,
            from_terminal=last is not None and last.sender == 0 and last.signal == number,
            verdict=verdict, peak=watch.peak, peak_at=watch.peak_at, advised=advised, complete=complete,
            seconds=time.time() - began, cpu=spent.ru_utime + spent.ru_stime,
            own_cpu=time.process_time(), own_memory=own,
        )  # fmt: skip
        self._tell_end(ending, over)
        return ending

    def _tell_end(self, ending: Ending, over: Over | None) -> None:
        now = time.time()
        self._events.tell_reading(now)
        self._events.killed(now, self._watch.gone, ending.verdict.killed)
        outcome = "done" if ending.code == 0 else "failed"
        if ending.verdict.by == "signal" and over is None:
            outcome = "interrupted"
        said = "; ".join(ending.verdict.lines) or (
            f"it ended with exit code {ending.code}" if ending.code else ""
        )
        self._events(
            ev.StageEnded(
                at=now, outcome=outcome, done=int(ending.code == 0), set_aside=0, seconds=ending.seconds,
                cpu=ending.cpu, peak=ending.peak, projected=0, message=said,
                code=ending.code,
            )
        )  # fmt: skip
