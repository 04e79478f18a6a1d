"""Work that blocks, in threads in which a triggerer can still be asked for Airflow's connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

T = TypeVar("T")

WATCHING = ThreadPoolExecutor(max_workers=4, thread_name_prefix="sm-git-watch")
READING = ThreadPoolExecutor(max_workers=2, thread_name_prefix="sm-git-logs")  # no log may hold up a watcher


async def in_thread(function: Callable[[], T], pool: ThreadPoolExecutor = WATCHING) -> T:
    """Run something that blocks in a thread that asgiref knows; to its end, even when the caller is cancelled.

    From any other thread, a look at an Airflow connection ends the triggerer of Airflow 3.0: there it goes through
    ``asgiref.sync.async_to_sync``, which must find the triggerer's own event loop (triggerer_job_runner.py,
    ``TriggerCommsDecoder.send``). So does a look that is broken off: its answer is then taken for the next one's.
    """
    work = asyncio.ensure_future(sync_to_async(function, thread_sensitive=False, executor=pool)())
    work.add_done_callback(_take)
    return await asyncio.shield(work)


async def to_the_end(work: Coroutine[Any, Any, None], seconds: float) -> None:
    """Await something that must not be broken off, however often the caller is cancelled meanwhile.

    :param seconds: how long to wait for it; it goes on after that.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_take)
    deadline = asyncio.get_running_loop().time() + seconds
    while not task.done() and (left := deadline - asyncio.get_running_loop().time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=left)


def _take(done: asyncio.Future[Any]) -> None:
    """Whoever still waits gets the error; asyncio need not say that nobody did."""
    if not done.cancelled():
        done.exception()
