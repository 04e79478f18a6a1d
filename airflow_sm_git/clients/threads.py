"""Work that blocks, in threads in which a triggerer can still be asked for Airflow's connections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from asgiref.sync import sync_to_async

T = TypeVar("T")

WATCHING = ThreadPoolExecutor(max_workers=4, thread_name_prefix="sm-git-watch")
READING = ThreadPoolExecutor(max_workers=2, thread_name_prefix="sm-git-logs")  # no log may hold up a watcher


def in_thread(function: Callable[[], T], pool: ThreadPoolExecutor = WATCHING) -> Awaitable[T]:
    """Run something that blocks in a thread that asgiref knows.

    From any other thread, a look at an Airflow connection ends the triggerer of Airflow 3.0: there it goes through
    ``asgiref.sync.async_to_sync``, which must find the triggerer's own event loop (triggerer_job_runner.py,
    ``TriggerCommsDecoder.send``).
    """
    return sync_to_async(function, thread_sensitive=False, executor=pool)()
