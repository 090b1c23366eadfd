"""Who must wait, who must go? Backpressure: pause or kill workers before the kernel does.

    free >= 1 headroom     calm: run, and let a paused worker go on when there is room for it
    free <  1 headroom     high water: admit nobody; pause the youngest of several that still grow; somebody
                           always runs
    free <  0.75           the youngest of several, whether it grows or not
    free <  0.5 headroom   critical: kill the youngest; the oldest only when it is the only one; all others
                           are paused until the victim's memory is back

Never kills the oldest while there is another, so progress is guaranteed. Pure: readings and ``now``
in, orders out. Age is the time since a worker's batch began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.budget import GiB, MiB

_LOCK_SECONDS = 2.0
"""If nobody running uses CPU for so long while somebody is paused, the paused one may hold a lock."""
_REAP_SECONDS = 0.5
"""How long a killed worker may take to give its memory back before the next is killed."""
_GROWS_UNSEEN = 0.75
"""Below so many headrooms those are paused too that are not seen to grow."""
_FILL_RATE = 6 * GiB
"""Bytes that one core can touch in a second (measured: 5.7 GiB)."""
_CORES = 4
"""So many fill memory at that rate together: more of them share its bandwidth."""
_TURNS = 512
"""How many turns tell how late the next one may be: some seconds, as a crowd comes and goes."""
_ENOUGH = 64
"""From so many turns on they alone tell it."""
_ANEW = 8
"""It is told anew with each of so many turns."""
_SELDOM = 20
"""One turn in so many is the latest that is reckoned with."""


def headroom(budget: int) -> int:
    """Bytes that plans keep free: what could fill up before the governor has acted."""
    return int(max(budget * 0.06, min(64 * MiB, budget / 8)))


def interval(free: int, budget: int) -> float:
    """Seconds until the next reading: short when the critical line could be reached soon."""
    distance = free - 0.5 * headroom(budget)
    return min(max(distance / (_CORES * _FILL_RATE), 0.001), 0.02)


class Lateness:
    """How late the governor's last turns came: on a crowded machine it waits for a core, too.

    Args:
        before: seconds that this process waited for a core each time, so far: expected at least, until
            there were enough turns to tell.
    """

    def __init__(self, before: float = 0.0) -> None:
        self._before = before
        self._last: deque[float] = deque(maxlen=_TURNS)
        self._count = 0
        self.expected = before
        """Seconds that the next turn may be late: the median, or a third of what one turn in twenty is.

        Such a turn may use up all the headroom, at two thirds of the rate that is reckoned with: while it
        waits for a core so do others (seen: 20 MiB beyond a headroom of 31, one turn of twenty 14 ms late).
        """

    def note(self, seconds: float) -> None:
        """A turn came so much later than planned, or took so long."""
        self._last.append(max(seconds, 0.0))
        self._count += 1
        if self._count > _ENOUGH and self._count % _ANEW:
            return
        late = sorted(self._last)
        self.expected = max(late[len(late) // 2], late[len(late) * (_SELDOM - 1) // _SELDOM] / 3)
        if self._count < _ENOUGH:
            self.expected = max(self.expected, self._before)


def is_punctual(late: float, cores: int, budget: int) -> bool:
    """Whether calls that take too much together are paused before they exceed the budget. Pure.

    Args:
        late: seconds by which the governor's next turn may come late.
        cores: on which memory can be filled meanwhile.
        budget: in bytes.
    """
    return late * min(cores, _CORES) * _FILL_RATE <= 0.5 * headroom(budget)


@dataclass(frozen=True, slots=True)
class Watched:
    """A busy worker, as it is now."""

    worker: int
    began: float
    """When its batch began."""
    memory: int
    """Bytes it holds above idle, children included."""
    reserved: int
    """Bytes its batch was admitted with."""
    paused: bool
    cpu_idle: float
    """Seconds since it last used CPU (0 when it is paused)."""
    grows: bool = True
    """Whether it holds more than a reading ago."""


@dataclass(frozen=True, slots=True)
class Orders:
    """The governor's decisions for this turn."""

    pause: tuple[int, ...] = ()
    resume: tuple[int, ...] = ()
    kill: tuple[int, ...] = ()
    drop_idle: bool = False
    """Whether workers without a batch should give their memory back by ending."""
    admit: bool = True
    """Whether new batches may start."""


def decide(free: int, budget: int, watched: Sequence[Watched], now: float, last_kill: float) -> Orders:
    """Decide whom to pause, resume or kill, given the bytes free under the budget and all ceilings.

    Args:
        free: bytes free now; negative when over.
        budget: the budget in bytes; sets the headroom.
        watched: the workers that have a batch.
        now: monotonic seconds.
        last_kill: when a worker was last killed, by us or by the kernel, whose memory is still to come back;
            or -inf.
    """
    room = headroom(budget)
    by_age = sorted(watched, key=lambda each: (each.began, each.worker))
    running = [each for each in by_age if not each.paused]
    paused = [each for each in by_age if each.paused]
    if free < 0.5 * room:
        # The victim's memory takes 40 ms to come back, in which one core can fill 245 MiB: all others stop
        # meanwhile, the oldest too. It goes on first, as soon as there is room again.
        dying = now - last_kill < _REAP_SECONDS
        victim = None if dying or not by_age else by_age[-1]
        others = tuple(each.worker for each in running if each is not victim)
        killed = (victim.worker,) if victim else ()
        return Orders(kill=killed, pause=others, admit=False, drop_idle=True)
    if free < room:  # where admission stops too: two lines would fill up to one and pause at the other
        # Who has all that it needs gives it back by going on. Below the second line something grows that is
        # not seen to: a file in memory, many a little.
        growing = running if free < _GROWS_UNSEEN * room else [each for each in running if each.grows]
        youngest = growing[-1:] if len(running) > 1 else []
        # If all that run have ended, nobody is left to give memory back: the oldest goes on.
        stranded = paused[:1] if not running else []
        return Orders(
            pause=tuple(each.worker for each in youngest),
            resume=tuple(each.worker for each in stranded),
            admit=not by_age,  # somebody always runs
            drop_idle=True,
        )
    if not paused:
        return Orders()
    if not running:
        return Orders(resume=(paused[0].worker,), admit=False)
    if min(each.cpu_idle for each in running) > _LOCK_SECONDS:
        if paused[-1] is by_age[0]:  # the oldest is never killed: it goes on, and lets go
            return Orders(resume=(paused[-1].worker,), admit=False)
        return Orders(kill=(paused[-1].worker,), admit=False)
    oldest = paused[0]
    # It goes on when the rest of what it was admitted with fits; at high water it stops again.
    needs = max(oldest.reserved - oldest.memory, 0)
    if free - needs >= room or (free > 2.5 * room and needs == 0):
        return Orders(resume=(oldest.worker,), admit=False)
    return Orders(admit=False)
