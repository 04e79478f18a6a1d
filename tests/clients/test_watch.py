from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from asgiref.sync import async_to_sync

from airflow_sm_git.clients.sagemaker import SageMakerClient, status_phase
from airflow_sm_git.clients.watch import OVERLAP, Watcher, shared
from airflow_sm_git.core.errors import AccessDenied, ServiceFault, SmGitError, Throttled
from airflow_sm_git.core.status import Phase
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import client, training_job, unique

TICK = 0.01
PATIENCE = 30.0  # seconds after which a test gives up; none should come near


class Account:
    """A source over resources of its own, which counts what it is asked. Like the API, it lists by time of change."""

    def __init__(self) -> None:
        self.resources: dict[str, tuple[Phase, datetime]] = {}
        self.listings: list[datetime] = []
        self.times: list[float] = []
        self.looks: list[str] = []
        self.connections = 0
        self.errors: list[Exception] = []
        self.lists = True
        self._lock = threading.Lock()

    def connect(self) -> Account:
        self.connections += 1
        return self

    def end(self, name: str, phase: Phase = Phase.SUCCEEDED, at: datetime | None = None) -> None:
        """Let a resource change."""
        with self._lock:
            self.resources[name] = (phase, at or datetime.now(UTC))

    def changed(self, since: datetime) -> list[tuple[str, Phase]]:
        with self._lock:
            self.listings.append(since)
            self.times.append(time.monotonic())
            if self.errors:
                raise self.errors.pop(0)
            return [(name, phase) for name, (phase, at) in self.resources.items() if self.lists and at >= since]

    def relistings(self) -> list[Any]:
        return [self.changed]

    def look(self, name: str) -> Phase:
        with self._lock:
            self.looks.append(name)
            return self.resources[name][0] if name in self.resources else Phase.GONE

    async def listed(self, more: int) -> None:
        """Wait until it was listed some times more."""
        wanted = len(self.listings) + more
        await until(lambda: len(self.listings) >= wanted)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(TICK / 2)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario; afterwards nothing of it may be left, not even a watcher that still polls."""

    async def whole() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(TICK)

    asyncio.run(whole())


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def waiting(
    watcher: Watcher, name: str, *, interval: float = TICK, since: datetime | None = None, seconds: float = PATIENCE
) -> asyncio.Task[Phase]:
    return asyncio.create_task(watcher.wait(name, since=since or ago(0), interval=interval, deadline=ago(-seconds)))


def running(account: Account, *names: str) -> None:
    for name in names:
        account.end(name, Phase.RUNNING)


def test_one_listing_serves_all_waits() -> None:
    async def scenario() -> None:
        account, names = Account(), [f"job-{number}" for number in range(200)]
        running(account, *names)
        watcher = Watcher(account.connect)
        waits = [waiting(watcher, name, interval=0.2) for name in names]
        await account.listed(2)
        for name in names:
            account.end(name)
        assert await asyncio.gather(*waits) == [Phase.SUCCEEDED] * 200
        assert len(account.listings) < 20
        assert len(account.looks) == 1
        assert account.connections == 1

    run(scenario())


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.STOPPED])
def test_a_wait_ends_with_the_phase_and_two_waits_for_one_name_both_do(phase: Phase) -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "job", "job-1")
        watcher = Watcher(account.connect)
        waits = [waiting(watcher, "job"), waiting(watcher, "job")]
        other = waiting(watcher, "job-1")
        await account.listed(2)
        account.end("job", phase)
        assert await asyncio.gather(*waits) == [phase, phase]
        assert not other.done()
        account.end("job-1")
        assert await other is Phase.SUCCEEDED

    run(scenario())


def test_the_deadline_ends_a_wait_as_running_and_the_polling_with_it() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "job")
        assert await waiting(Watcher(account.connect), "job", seconds=0.1) is Phase.RUNNING
        listings = len(account.listings)
        await asyncio.sleep(10 * TICK)
        assert len(account.listings) <= listings + 1  # one may have been under way

    run(scenario())


def test_a_deadline_in_the_past_ends_at_once() -> None:
    async def scenario() -> None:
        assert await waiting(Watcher(Account().connect), "job", interval=600, seconds=-5) is Phase.RUNNING

    run(scenario())


def test_a_deadline_comes_though_every_listing_fails() -> None:
    async def scenario() -> None:
        account = Account()
        account.errors = [Throttled("Slow down.")] * 1000
        assert await waiting(Watcher(account.connect), "job", seconds=0.2) is Phase.RUNNING

    run(scenario())


def test_throttling_doubles_the_pause_connects_anew_and_loses_nothing() -> None:
    async def scenario() -> None:
        account = Account()
        account.errors = [Throttled("Slow down.")] * 3 + [ServiceFault("Down.")]
        account.end("job")
        assert await waiting(Watcher(account.connect), "job", interval=0.02) is Phase.SUCCEEDED
        pauses = [after - before for before, after in zip(account.times, account.times[1:], strict=False)]
        for pause, expected in zip(pauses, [0.04, 0.08, 0.16, 0.32], strict=True):
            assert pause >= expected
        assert account.connections == 5

    run(scenario())


def test_after_a_listing_that_went_well_the_pause_is_short_again() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "job")
        account.errors = [Throttled("Slow down.")] * 4
        wait = waiting(Watcher(account.connect), "job", interval=0.001)
        await until(lambda: not account.errors)
        before = time.monotonic()
        await account.listed(10)  # at the pause of four failures these would take 30 s
        assert time.monotonic() - before < 15
        account.end("job")
        await wait

    run(scenario())


def test_listings_that_fail_are_told_once_to_each_who_waits_and_so_is_their_recovery() -> None:
    mine: ContextVar[str] = ContextVar("mine")
    told: list[tuple[str, str]] = []

    async def wait(watcher: Watcher, name: str) -> Phase:
        mine.set(name)  # by its own context Airflow knows into which task's log a line goes

        def tell(text: str) -> None:
            told.append((mine.get(), text))

        return await watcher.wait(name, since=ago(0), interval=TICK, deadline=ago(-PATIENCE), tell=tell)

    async def scenario() -> None:
        account, watcher = Account(), None
        running(account, "a", "b", "late")
        watcher = Watcher(account.connect)
        account.errors = [Throttled("Slow down.")] * 3
        waits = [asyncio.create_task(wait(watcher, name)) for name in ("a", "b")]
        await until(lambda: len(told) == 2)
        waits.append(asyncio.create_task(wait(watcher, "late")))
        await until(lambda: not account.errors)
        await account.listed(3)
        for name in ("a", "b", "late"):
            account.end(name)
        await asyncio.gather(*waits)

    run(scenario())
    for name in ("a", "b", "late"):
        first, second = (text for whose, text in told if whose == name)
        assert "cannot be listed" in first
        assert "Slow down." in first
        assert "go well again" in second


def test_after_ten_minutes_of_nothing_but_failures_those_who_wait_are_told_why() -> None:
    async def scenario() -> None:
        account = Account()
        account.errors = [ServiceFault("No answer.")] * 1000
        watcher = Watcher(account.connect)
        waits = [waiting(watcher, "a"), waiting(watcher, "b")]
        await until(lambda: watcher._trouble is not None)
        assert not any(wait.done() for wait in waits)
        watcher._since -= 600  # as if so much time had passed
        for wait in waits:
            with pytest.raises(ServiceFault, match="No answer"):
                await wait
        patient = waiting(watcher, "c")
        failed, _ = await asyncio.wait({patient}, timeout=2)  # a failing listing or two
        assert not failed, "who comes now has the same patience"
        patient.cancel()

    run(scenario())


def test_failures_with_successes_between_them_end_no_wait() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "a")
        watcher = Watcher(account.connect)
        wait = waiting(watcher, "a")
        for _ in range(2):
            account.errors = [ServiceFault("No answer.")]
            await until(lambda: not account.errors)
            await account.listed(1)
            watcher._since -= 600
        account.end("a")
        assert await wait is Phase.SUCCEEDED

    run(scenario())


def test_each_wait_is_described_in_its_turn() -> None:
    async def scenario() -> None:
        account, names = Account(), ["a", "b", "c", "d"]
        running(account, *names)
        watcher = Watcher(account.connect)
        waits = [waiting(watcher, name) for name in names]
        for number in range(1, 9):
            await until(lambda number=number: len(account.looks) == number)  # type: ignore[misc]
            watcher._last_look -= 60  # as if so much time had passed
        assert account.looks[:8] == [*names, *names]
        for name in names:
            account.end(name)
        await asyncio.gather(*waits)

    run(scenario())


@pytest.mark.parametrize("failures", [1, 5000])
def test_the_pause_after_failures_is_bounded(failures: int) -> None:
    async def scenario() -> None:
        watcher = Watcher(Account().connect)
        eager = waiting(watcher, "job", interval=5)
        await asyncio.sleep(0)
        assert watcher._interval(failures) == {1: 10.0, 5000: 60.0}[failures]
        eager.cancel()

    run(scenario())


def test_what_time_will_not_mend_is_raised_in_every_wait() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "a", "b")
        watcher = Watcher(account.connect)
        waits = [waiting(watcher, "a"), waiting(watcher, "b")]
        await account.listed(1)
        account.errors = [AccessDenied("No.", "Ask.")] * 2
        results = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(result) for result in results] == [AccessDenied, AccessDenied]
        account.end("c")
        assert await waiting(watcher, "c") is Phase.SUCCEEDED  # the watcher itself goes on

    run(scenario())


def test_a_refusal_that_a_new_connection_mends_is_raised_in_no_wait() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "a")
        watcher = Watcher(account.connect)
        wait = waiting(watcher, "a")
        await account.listed(1)
        account.errors = [AccessDenied("The security token included in the request is expired.", "")]
        await until(lambda: not account.errors)
        account.end("a")
        assert await wait is Phase.SUCCEEDED

    run(scenario())


def test_an_error_that_nobody_foresaw_is_raised_too() -> None:
    async def scenario() -> None:
        account = Account()
        account.errors = [KeyError("surprise")]
        with pytest.raises(SmGitError, match=r"Watching failed: KeyError\('surprise'\)"):
            await waiting(Watcher(account.connect), "job")

    run(scenario())


def test_a_source_that_cannot_be_made_is_raised_too() -> None:
    def connect() -> Account:
        raise AccessDenied("No such connection.")

    async def scenario() -> None:
        with pytest.raises(AccessDenied, match="No such connection"):
            await waiting(Watcher(connect), "job")

    run(scenario())


def test_what_ended_before_the_wait_began_is_seen_if_the_wait_asks_so_far_back() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "long")
        watcher = Watcher(account.connect)
        long = waiting(watcher, "long")
        await account.listed(3)
        account.end("late", at=ago(3600))
        # Deferred two hours ago; the triggerer was down meanwhile.
        assert await waiting(watcher, "late", since=ago(7200)) is Phase.SUCCEEDED
        account.end("long")
        await long

    run(scenario())


def test_a_late_wait_is_served_though_the_listing_that_reached_back_failed() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "long")
        watcher = Watcher(account.connect)
        long = waiting(watcher, "long")
        await account.listed(3)
        account.end("late", at=ago(3600))
        account.errors = [Throttled("Slow down.")] * 2
        assert await waiting(watcher, "late", since=ago(7200)) is Phase.SUCCEEDED
        account.end("long")
        await long

    run(scenario())


def test_later_listings_ask_only_for_what_is_new() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "job")
        began = ago(7200)
        wait = waiting(Watcher(account.connect), "job", since=began)
        await account.listed(3)
        account.end("job")
        await wait
        assert account.listings[0] == began - OVERLAP
        assert all(since > ago(2 * OVERLAP.total_seconds()) for since in account.listings[1:])

    run(scenario())


def test_a_new_wait_reaches_no_further_back_than_it_must_itself() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "long", "new")
        watcher = Watcher(account.connect)
        long = waiting(watcher, "long", since=ago(7200))
        await account.listed(2)
        seen = len(account.listings)
        new = waiting(watcher, "new", since=ago(600))
        await account.listed(3)
        assert ago(660) - OVERLAP < min(account.listings[seen:]) <= ago(600) - OVERLAP
        account.end("long")
        account.end("new")
        await asyncio.gather(long, new)

    run(scenario())


def test_what_every_listing_missed_is_listed_within_ten_minutes() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "job")
        watcher, began = Watcher(account.connect), ago(7200)
        wait = waiting(watcher, "job", since=began)
        await account.listed(2)
        seen = len(account.listings)
        watcher._last_relist -= 600 - 10  # as if so much time had passed; a poll and a pause fit into the rest
        await account.listed(2)
        assert began - OVERLAP in account.listings[seen:]
        account.end("job")
        await wait

    run(scenario())


def test_the_loop_goes_on_while_many_waits_end_at_once() -> None:
    async def scenario() -> None:
        account, names = Account(), [f"job-{number}" for number in range(300)]
        running(account, *names)
        turns: list[int] = []

        async def wait(name: str) -> None:
            await waiting(watcher, name)
            turns.append(turn)

        watcher, turn = Watcher(account.connect), 0
        waits = [asyncio.create_task(wait(name)) for name in names]
        await account.listed(2)
        for name in names:
            account.end(name)
        while len(turns) < len(names):
            turn += 1
            await asyncio.sleep(0)
        await asyncio.gather(*waits)
        assert len(set(turns)) > 100  # and not all in one

    run(scenario())


def test_a_watcher_that_starts_again_does_not_list_what_nobody_waited_for() -> None:
    async def scenario() -> None:
        account = Account()
        watcher = Watcher(account.connect)
        account.end("first")
        assert await waiting(watcher, "first") is Phase.SUCCEEDED
        await until(lambda: len(asyncio.all_tasks()) == 1)
        watcher._last_poll = ago(86400)
        account.end("second")
        assert await waiting(watcher, "second") is Phase.SUCCEEDED
        assert min(account.listings) > ago(60) - OVERLAP

    run(scenario())


def test_a_change_that_a_clock_ahead_dated_before_the_listing_is_seen() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "job")
        wait = waiting(Watcher(account.connect), "job")
        await account.listed(3)
        account.end("job", at=ago(OVERLAP.total_seconds() - 60))
        assert await wait is Phase.SUCCEEDED

    run(scenario())


def test_what_is_gone_ends_the_wait() -> None:
    async def scenario() -> None:
        assert await waiting(Watcher(Account().connect), "deleted") is Phase.GONE

    run(scenario())


def test_what_no_listing_shows_is_found_by_a_look() -> None:
    async def scenario() -> None:
        account = Account()
        account.lists = False
        account.end("job", Phase.FAILED)
        assert await waiting(Watcher(account.connect), "job") is Phase.FAILED
        assert account.looks == ["job"]

    run(scenario())


def test_polls_are_not_closer_than_was_asked() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "job")
        wait = waiting(Watcher(account.connect), "job", interval=0.3)
        await account.listed(5)
        account.end("job")
        await wait
        assert all(after - before >= 0.3 for before, after in zip(account.times, account.times[1:], strict=False))

    run(scenario())


def test_an_eager_wait_does_not_sleep_as_long_as_a_lazy_one() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "lazy", "eager")
        watcher = Watcher(account.connect)
        lazy = waiting(watcher, "lazy", interval=3600)
        await account.listed(1)
        eager = waiting(watcher, "eager")
        await account.listed(3)
        account.end("eager")
        assert await eager is Phase.SUCCEEDED
        lazy.cancel()

    run(scenario())


def test_a_lazy_wait_alone_is_not_polled_more_often_because_others_come_and_go() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "lazy")
        watcher = Watcher(account.connect)
        lazy = waiting(watcher, "lazy", interval=3600)
        await account.listed(1)
        for _ in range(20):
            waiting(watcher, "lazy", interval=3600).cancel()
            await asyncio.sleep(TICK)
        assert len(account.listings) == 1
        lazy.cancel()

    run(scenario())


def test_a_wait_that_is_cancelled_leaves_the_others_waiting() -> None:
    async def scenario() -> None:
        account = Account()
        running(account, "a", "b")
        watcher = Watcher(account.connect)
        one, other = waiting(watcher, "a"), waiting(watcher, "b")
        await account.listed(1)
        one.cancel()
        account.end("b")
        assert await other is Phase.SUCCEEDED
        assert one.cancelled()

    run(scenario())


def test_a_watcher_that_nobody_asked_for_a_while_starts_again() -> None:
    async def scenario() -> None:
        account = Account()
        watcher = Watcher(account.connect)
        for name in ("first", "second"):
            account.end(name)
            assert await waiting(watcher, name) is Phase.SUCCEEDED
            await until(lambda: len(asyncio.all_tasks()) == 1)
        assert account.connections == 1

    run(scenario())


def test_what_is_asked_in_a_thread_reaches_the_loop_of_the_waits() -> None:
    """Airflow 3.0's triggerer fetches connections so; from a thread that asgiref does not know it breaks down."""

    class Asking(Account):
        loops: ClassVar[list[asyncio.AbstractEventLoop]] = []

        def connect(self) -> Asking:
            async def loop() -> asyncio.AbstractEventLoop:
                return asyncio.get_running_loop()

            self.loops.append(async_to_sync(loop)())
            return self

    async def scenario() -> None:
        account = Asking()
        account.end("a")
        assert await waiting(Watcher(account.connect), "a") is Phase.SUCCEEDED
        assert account.loops == [asyncio.get_running_loop()]

    run(scenario())


def test_waits_of_one_connection_share_a_watcher_and_others_do_not() -> None:
    async def watchers() -> tuple[Watcher, Watcher, Watcher]:
        connect = Account().connect
        return (
            shared(("TrainingJob", "a"), connect),
            shared(("TrainingJob", "a"), connect),
            shared(("Endpoint", "a"), connect),
        )

    one, same, other = asyncio.run(watchers())
    assert one is same
    assert one is not other
    assert asyncio.run(watchers())[0] is not one  # another event loop


class Listing:
    """A source over the real client."""

    def __init__(self, sagemaker: SageMakerClient) -> None:
        self._sagemaker = sagemaker

    def changed(self, since: datetime) -> list[tuple[str, Phase]]:
        listed = self._sagemaker.changed("TrainingJob", since)
        return [(name, status_phase("TrainingJob", status)) for name, status in listed]

    def relistings(self) -> list[Any]:
        return [self.changed]

    def look(self, name: str) -> Phase:
        answer = self._sagemaker.describe("TrainingJob", name)
        return Phase.GONE if answer is None else status_phase("TrainingJob", answer["TrainingJobStatus"])


def test_real_jobs_are_waited_for_with_few_calls(local_sagemaker: LocalSageMaker) -> None:
    boto = client(local_sagemaker, "sagemaker")
    ends = {unique("watch"): script for script in ("", "import sys; sys.exit(1)", "import time; time.sleep(600)")}
    begun = datetime.now(UTC)
    for name, script in ends.items():
        boto.create_training_job(**training_job(local_sagemaker, script, name=name))
    before = len(local_sagemaker.requests())

    async def scenario() -> None:
        watcher = Watcher(lambda: Listing(SageMakerClient(boto)))
        waits = [waiting(watcher, name, since=begun, interval=0.1) for name in [*ends, unique("none")]]
        completed, failed, slow, none = waits
        assert await completed is Phase.SUCCEEDED
        assert await failed is Phase.FAILED
        boto.stop_training_job(TrainingJobName=list(ends)[2])
        assert await slow is Phase.STOPPED
        none.cancel()

    run(scenario())
    names = [each["action"] for each in local_sagemaker.requests()[before:]]
    assert names.count("DescribeTrainingJob") <= 1
    assert names.count("ListTrainingJobs") >= 2
