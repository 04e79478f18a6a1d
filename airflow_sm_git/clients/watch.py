"""Many waits, few calls: one watcher per connection and region lists what has changed, for all who wait.

The listing (``ListTrainingJobs`` or ``ListEndpoints`` by last-modified time) is one call per poll whatever the number
of waits. Two slow nets catch what it missed: now and then everything that has ended since the oldest wait is listed
again, and every minute one wait is described, each in its turn, which also notices what was deleted: of a thousand
waits the last comes after a thousand minutes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from math import inf
from typing import Protocol
from weakref import WeakKeyDictionary

from airflow_sm_git.clients.threads import in_thread
from airflow_sm_git.core.errors import SmGitError
from airflow_sm_git.core.status import Phase

OVERLAP = timedelta(minutes=2)  # what clocks may differ by, and listings be late
RELIST_SECONDS = 540.0  # for all parts of what has ended: with the poll that follows less than ten minutes
DESCRIBE_SECONDS = 60.0
PAUSE = (1.1, 1.15)  # times the interval: with a relisting now and then no more calls than the interval alone gives
MIN_INTERVAL = 0.2  # whatever is asked for: a listing must not follow upon the other
MAX_BACKOFF = 60.0
PATIENCE_SECONDS = 600.0  # of nothing but failures; then those who wait may find another way


Listing = Callable[[datetime], list[tuple[str, Phase]]]


class Source(Protocol):
    """What a watcher asks; blocking, called in a thread."""

    def changed(self, since: datetime) -> list[tuple[str, Phase]]:
        """Name and phase of everything modified since a time."""

    def relistings(self) -> Sequence[Listing]:
        """What to ask, one after the other, for name and phase of everything that has ended since a time."""

    def look(self, name: str) -> Phase:
        """The phase of one, `Phase.GONE` if there is none."""


@dataclass(eq=False)
class _Wait:
    name: str
    since: datetime
    interval: float
    result: asyncio.Future[Phase]
    tell: Callable[[str], object]
    turn: int  # that with the least is described next
    context: Context = field(default_factory=copy_context)

    def note(self, text: str) -> None:
        """Tell who waits, in its own context: by that Airflow knows into which task's log a line goes."""
        self.context.run(self.tell, text)


@dataclass
class Watcher:
    """Waits for many resources of one kind through one source.

    :param connect: makes the source; called in a thread, again after an error, so that credentials renew.
    """

    connect: Callable[[], Source]
    _waits: dict[str, list[_Wait]] = field(default_factory=dict)
    _intervals: Counter[float] = field(default_factory=Counter)
    _task: asyncio.Task[None] | None = None
    _source: Source | None = None
    _last_poll: datetime | None = None
    _reach: datetime | None = None  # how far back the waits go that no listing has served yet
    _last_relist: float = -inf
    _relisted: int = 0
    _turns: count[int] = field(default_factory=count)
    _last_look: float = -inf
    _trouble: SmGitError | None = None  # that of the last poll
    _since: float = 0.0  # the time from which on there was nothing but trouble
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(
        self,
        name: str,
        *,
        since: datetime,
        interval: float,
        deadline: datetime,
        tell: Callable[[str], object] = lambda text: None,
    ) -> Phase:
        """Wait until a resource has ended or is gone.

        :param since: when the wait was asked for; nothing that happened before it is missed.
        :param interval: seconds between two polls; the watcher polls as often as its most eager wait asks.
        :param deadline: when to give up.
        :param tell: is told, in the context of this call, when listings begin to fail and when they go well again.
        :return: its phase; `Phase.RUNNING` says that the deadline has passed.
        :raises SmGitError: it cannot be watched, for a reason that time will not mend, or has not for ten minutes.
        """
        future: asyncio.Future[Phase] = asyncio.get_running_loop().create_future()
        wait = _Wait(name, since, interval, future, tell, next(self._turns))
        self._waits.setdefault(name, []).append(wait)
        self._intervals[interval] += 1
        self._changed.set()
        self._reach = since if self._reach is None else min(self._reach, since)
        if self._task is None or self._task.done():
            self._last_poll = None  # however long ago that was
            self._trouble = None
            self._task = asyncio.create_task(self._run())
        elif self._trouble is not None:
            wait.note(_fails(self._trouble))
        try:
            async with asyncio.timeout(max(0.0, (deadline - datetime.now(UTC)).total_seconds())):
                return await future
        except TimeoutError:
            return Phase.RUNNING
        finally:
            self._forget(wait)

    def _forget(self, wait: _Wait) -> None:
        self._waits[wait.name].remove(wait)
        if not self._waits[wait.name]:
            del self._waits[wait.name]
        self._intervals[wait.interval] -= 1
        if not self._intervals[wait.interval]:
            del self._intervals[wait.interval]
        self._changed.set()

    def _pending(self) -> list[_Wait]:
        return [wait for same in self._waits.values() for wait in same if not wait.result.done()]

    async def _run(self) -> None:
        failures = 0
        while self._waits:
            try:
                await self._poll()
                failures = 0
                await self._note_trouble(None)
            except SmGitError as error:
                fresh = self._source is None or failures > 0  # else its credentials may merely have expired
                self._restart()
                failures += 1
                if (fresh and not error.retryable) or self._is_out_of_patience():
                    self._fail(error)
                    self._trouble = None  # who comes now has the same patience
                else:
                    await self._note_trouble(error)
            except Exception as error:  # whatever it is, those who wait must hear of it
                self._restart()
                self._fail(SmGitError(f"Watching failed: {error!r}."))
            await self._pause(failures)

    async def _note_trouble(self, error: SmGitError | None) -> None:
        """Tell all who wait when listings begin to fail, and when one goes well again."""
        before, self._trouble = self._trouble, error
        if (before is None) == (error is None):
            return
        self._since = time.monotonic()
        for wait in self._pending():
            wait.note("The listings go well again." if error is None else _fails(error))
            await asyncio.sleep(0)  # as long as a thousand lines take to write, nothing else would run

    def _is_out_of_patience(self) -> bool:
        return self._trouble is not None and time.monotonic() - self._since >= PATIENCE_SECONDS

    def _restart(self) -> None:
        self._source = None
        self._last_poll = None  # what the failed listing should have told is asked again

    async def _pause(self, failures: int) -> None:
        """Sleep as long as the most eager wait allows, whoever comes and goes meanwhile."""
        started, jitter = time.monotonic(), random.uniform(*PAUSE)  # noqa: S311  jitter, not a secret
        while (left := started + self._interval(failures) * jitter - time.monotonic()) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    def _interval(self, failures: int) -> float:
        eager = max(min(self._intervals, default=0.0), MIN_INTERVAL)
        return min(eager * 2.0 ** min(failures, 20), max(eager, MAX_BACKOFF))

    def _fail(self, error: SmGitError, name: str | None = None) -> None:
        for wait in self._pending():
            if name in (None, wait.name):
                wait.result.set_exception(error)

    async def _poll(self) -> None:
        started, clock = datetime.now(UTC), time.monotonic()
        source = self._source if self._source is not None else await in_thread(self.connect)
        self._source = source
        for listing, since in self._listings(source, clock):
            for name, phase in await in_thread(partial(listing, since)):
                if self._tell(name, phase):
                    await asyncio.sleep(0)  # a thousand at once must not hold up the loop
        self._last_poll = started
        if clock - self._last_look >= DESCRIBE_SECONDS and (waiting := self._pending()):
            self._last_look = clock
            next_one = min(waiting, key=lambda wait: wait.turn)
            next_one.turn, name = next(self._turns), next_one.name
            try:
                self._tell(name, await in_thread(lambda: source.look(name)))
            except SmGitError as error:
                if not error.retryable:  # what is wrong with one is no other's fault
                    self._fail(error, name)

    def _listings(self, source: Source, clock: float) -> list[tuple[Listing, datetime]]:
        """What to ask for at this poll, and since when: what has changed, and now and then a part of what has ended."""
        reach, self._reach = self._reach, None
        oldest = min((wait.since for wait in self._pending()), default=datetime.now(UTC)) - OVERLAP
        relistings = source.relistings()
        if self._last_poll is None:
            self._last_relist = clock
            return [(each, oldest) for each in relistings]
        listings: list[tuple[Listing, datetime]] = [
            (source.changed, min(reach or self._last_poll, self._last_poll) - OVERLAP)
        ]
        if clock - self._last_relist >= RELIST_SECONDS / len(relistings):
            self._last_relist = clock
            self._relisted += 1
            listings.append((relistings[self._relisted % len(relistings)], oldest))
        return listings

    def _tell(self, name: str, phase: Phase) -> bool:
        """Tell those who wait for a resource, if it has ended; whether there was one."""
        told = False
        for wait in self._waits.get(name, ()) if phase.ended else ():
            if not wait.result.done():
                wait.result.set_result(phase)
                told = True
        return told


def _fails(error: SmGitError) -> str:
    return f"What is waited for cannot be listed, so it is tried again: {error}"


_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Watcher]] = WeakKeyDictionary()


def shared(key: Hashable, connect: Callable[[], Source]) -> Watcher:
    """The watcher that all waits with one key share in this process and event loop."""
    watchers = _watchers.setdefault(asyncio.get_running_loop(), {})
    return watchers.setdefault(key, Watcher(connect))
