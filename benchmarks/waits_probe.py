"""Triggers that measure a triggerer from within. Either side's environment imports this file: it needs Airflow only."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

BEAT = 0.01


class Probe(BaseTrigger):
    """Measures every 10 ms how late the event loop is, and writes once a second what it saw.

    :param path: of the file; one JSON object a line: ``at`` (seconds since 1970), ``late`` (the longest delay since the
        line before, seconds), ``collected`` (the longest garbage collection, seconds: a delay that the size of all that
        the process holds decides) and ``running`` (triggers besides this one).
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self._begun = self._collected = 0.0

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The trigger as the database keeps it."""
        return f"{Probe.__module__}.{Probe.__qualname__}", {"path": self.path}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Measure until cancelled."""
        written, late = time.monotonic(), 0.0
        gc.callbacks.append(self._collecting)
        with Path(self.path).open("a", buffering=1) as file:
            while True:
                before = time.monotonic()
                await asyncio.sleep(BEAT)
                now = time.monotonic()
                late = max(late, now - before - BEAT)
                if now - written >= 1:
                    running = sum("(ID " in task.get_name() for task in asyncio.all_tasks()) - 1
                    line = {"at": time.time(), "late": late, "collected": self._collected, "running": running}
                    file.write(json.dumps(line) + "\n")
                    written, late, self._collected = time.monotonic(), 0.0, 0.0
        yield TriggerEvent({})  # never: it makes this a generator

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._begun = time.monotonic()
        else:
            self._collected = max(self._collected, time.monotonic() - self._begun)


class Idle(BaseTrigger):
    """Waits for nothing: what a trigger costs Airflow itself.

    :param name: of what others would wait for.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The trigger as the database keeps it."""
        return f"{Idle.__module__}.{Idle.__qualname__}", {"name": self.name}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until cancelled."""
        await asyncio.Event().wait()
        yield TriggerEvent({})
