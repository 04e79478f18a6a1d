"""The metrics of one job, found in its lines by a process of their own (see ``matcher``)."""

from __future__ import annotations

import json
import math
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from airflow_sm_git.local import matcher

PATIENCE = 15.0
"""Seconds that the process of the expressions has by default."""
_PIECE = 1 << 16


@dataclass(frozen=True)
class Metric:
    """One value of one metric; ``timestamp`` in epoch seconds."""

    name: str
    value: float
    timestamp: float


def final_metrics(metrics: Iterable[Metric]) -> list[Metric]:
    """The last value of each metric, as ``FinalMetricDataList`` holds it, in the order of first appearance."""
    last: dict[str, Metric] = {}
    for metric in metrics:
        last[metric.name] = metric
    return list(last.values())


class MetricSearch:
    """Looks for metrics in lines. Its process starts with the first line, and only where there are definitions.

    :param definitions: ``MetricDefinitions``: ``Name`` and ``Regex``, whose first group is the value.
    :param say: called with a line for the job's log when metrics are lost, from any thread.
    :param patience: seconds that its process may take no line, or may need for the last ones.
    :raises ValueError: a regular expression is broken.
    """

    def __init__(
        self, definitions: Sequence[Mapping[str, str]], say: Callable[[str], None], patience: float = PATIENCE
    ) -> None:
        self.found: list[Metric] = []
        self._definitions = definitions
        self._say = say
        self._patience = patience
        self._popen: subprocess.Popen[bytes] | None = None
        self._reader = threading.Thread(target=self._read, name="metrics", daemon=True)
        self._lost = False
        for item in definitions:
            try:
                re.compile(item["Regex"])
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"{item['Name']}: {error}") from error

    def feed(self, line: str) -> None:
        """Take one line. Waits while the process is busy with earlier ones, for a limited time."""
        if not self._definitions or self._lost:
            return
        if self._popen is None:
            self._popen = _start()
            os.set_blocking(_descriptor(self._popen.stdin), False)
            self._reader.start()
            self._send([item["Regex"] for item in self._definitions])
        self._send([time.time(), line])

    def finish(self) -> None:
        """Wait until every line was searched, for a limited time; the process is gone afterwards."""
        if self._popen is None:
            return
        if self._popen.stdin:
            self._popen.stdin.close()
        try:
            self._popen.wait(self._patience)
        except subprocess.TimeoutExpired:
            self._give_up("take too long")
        self._reader.join()
        self._popen.wait()

    def _send(self, message: object) -> None:
        if self._popen is None or self._lost:
            return
        end = _descriptor(self._popen.stdin)
        rest = memoryview(json.dumps(message).encode() + b"\n")
        while rest:
            if not select.select([], [end], [], self._patience)[1]:
                return self._give_up("take too long")
            try:
                rest = rest[os.write(end, rest[:_PIECE]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return self._give_up("have lost their process")

    def _give_up(self, why: str) -> None:
        self._lost = True
        if self._popen:
            self._popen.kill()
        self._say(f"The regular expressions of MetricDefinitions {why}: no further values are looked for")

    def _read(self) -> None:
        if self._popen is None or self._popen.stdout is None:
            raise AssertionError("the process was started without a pipe")
        with self._popen.stdout as answers:
            for answer in answers:
                with suppress(ValueError):  # cut off by its end
                    self._take(*json.loads(answer))

    def _take(self, word: str, index: int, text: str | None = None, at: float = 0.0) -> None:
        item = self._definitions[index]
        if word == "lost":
            self._say(
                f"Metric {item['Name']}: its regular expression {item['Regex']!r} takes too long; "
                "no further values are looked for"
            )
        elif (value := _number(text)) is not None:
            self.found.append(Metric(item["Name"], value, at))


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", matcher.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONIOENCODING": "utf-8"}
        | {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
        cwd="/",
        start_new_session=True,
    )


def _descriptor(stream: IO[bytes] | None) -> int:
    if stream is None:
        raise AssertionError("the process was started without a pipe")
    return stream.fileno()


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
