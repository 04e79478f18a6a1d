"""What runs in a thread for a trigger is never broken off, whoever is cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_sm_git.clients.threads import in_thread, to_the_end

PATIENCE = 10.0


def test_a_cancelled_caller_goes_at_once_and_the_work_ends_in_its_own_time() -> None:
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        assert go_on.wait(PATIENCE)
        ended.set()

    async def scenario() -> None:
        caller = asyncio.create_task(in_thread(work))
        await asyncio.to_thread(began.wait, PATIENCE)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert not ended.is_set()
        go_on.set()
        assert await asyncio.to_thread(ended.wait, PATIENCE)

    asyncio.run(scenario())


def test_what_the_work_raises_reaches_its_caller() -> None:
    def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(in_thread(work))


def test_what_must_come_to_its_end_does_however_often_its_caller_is_cancelled() -> None:
    seen = []

    async def work() -> None:
        for number in range(5):
            await asyncio.sleep(0.02)
            seen.append(number)

    async def scenario() -> None:
        caller = asyncio.create_task(to_the_end(work(), PATIENCE))
        while not caller.done():
            await asyncio.sleep(0.005)
            caller.cancel()

    asyncio.run(scenario())
    assert seen == [0, 1, 2, 3, 4]


def test_it_is_waited_for_so_long_and_no_longer() -> None:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await to_the_end(asyncio.sleep(PATIENCE), 0.1)
        return loop.time() - began

    assert asyncio.run(scenario()) < PATIENCE
