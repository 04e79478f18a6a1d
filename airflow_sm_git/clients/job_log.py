"""A training job's log while it is written: each line once, from where reading was left.

CloudWatch has no number for a line. What identifies one here is its stream, its time in milliseconds and how many lines
of the same stream and millisecond came before. A reader that starts anew gives the same lines the same times, all
different within a stream; so Airflow's log view, which drops a record that equals the one before it, shows a line once
even if two triggerers have written it (file_task_handler.py, ``_interleave_logs``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypedDict
from weakref import WeakKeyDictionary

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_git.clients.sagemaker import translate
from airflow_sm_git.clients.threads import READING, in_thread
from airflow_sm_git.core.errors import AccessDenied

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
MAX_LINES = 20_000  # of one job in one task's log; the rest is in CloudWatch
MAX_LINE = 8_000  # characters
PAGE = 1_000  # events of one answer
PAGES = 5  # answers with something new that one read of a stream that still grows asks for
READS_PER_SECOND = 5.0  # of all who wait together: GetLogEvents is limited to 10 per second in the smallest regions
LOOKS = 10  # reads until a job is asked again for streams of further instances
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Place(TypedDict):
    """Where the reading of a stream was left.

    ``at``: milliseconds since 1970 of the last line; ``seen``: lines of that millisecond; ``shown``: the time it was
    shown with.
    """

    at: int
    seen: int
    shown: int


class Position(TypedDict):
    """Where the reading of a job's log was left; JSON. ``reads`` and ``lines`` count, ``streams`` is by name."""

    reads: int
    lines: int
    streams: dict[str, Place]


class Line(NamedTuple):
    """One line, with the time it is shown with."""

    at: datetime
    text: str


def quoted(lines: list[str]) -> str:
    """The end of a log, to be put behind an error's first sentence."""
    last = "".join(f"\n  {line[:MAX_LINE]}" for line in lines[-20:])
    return f"\nThe last lines of its log:{last}" if last else ""


def read_log(logs: Any, job_name: str, limit: int = 1000) -> list[str]:
    """The last lines that a job wrote, from all its instances, in the order of their times.

    :param logs: boto3's ``logs`` client.
    :param limit: lines of each stream at most.
    :raises AwsError: the log may not, or cannot, be read.
    """
    events: list[dict[str, Any]] = []
    try:
        for stream in _streams(logs, job_name):
            request = {"logGroupName": LOG_GROUP, "logStreamName": stream, "startFromHead": False, "limit": limit}
            events += logs.get_log_events(**request)["events"]
    except (ClientError, BotoCoreError) as error:
        raise translate(error, "GetLogEvents", LOG_GROUP) from error
    return [event["message"] for event in sorted(events, key=lambda event: int(event["timestamp"]))]


def beginning() -> Position:
    """The position of who has read nothing yet."""
    return Position(reads=0, lines=0, streams={})


def is_full(position: Position) -> bool:
    """Whether as much of a job's log has been read as is shown: what follows is read no more."""
    return position["lines"] > MAX_LINES


def read_on(logs: Any, job_name: str, position: Position, *, whole: bool = False) -> tuple[list[Line], Position]:
    """What a job has written since.

    :param logs: boto3's ``logs`` client.
    :param position: where reading was left; not changed.
    :param whole: read to the end, and look for streams of further instances; else a few pages of each stream are
        enough, and the next read goes on from there.
    :return: the new lines in the order of their times, and the new position.
    :raises AwsError: the log may not, or cannot, be read.
    """
    if is_full(position):
        return [], position
    room = MAX_LINES - position["lines"]
    streams = {name: place for name, place in position["streams"].items()}
    reads = position["reads"] if streams else 0
    try:
        if whole or reads % LOOKS == 0:
            for name in _streams(logs, job_name):
                streams.setdefault(name, Place(at=0, seen=0, shown=0))
        lines: list[Line] = []
        for name, place in streams.items():
            found, streams[name] = _stream(logs, name, place, room + 1, whole)
            in_order = sorted([*lines, *found], key=lambda line: line.at)
            lines = in_order[: room + 1]  # one more, that tells that there is something to cut
    except (ClientError, BotoCoreError) as error:
        raise translate(error, "GetLogEvents", f"{LOG_GROUP}/{job_name}") from error
    after = Position(reads=reads + 1, lines=position["lines"] + len(lines), streams=streams)
    if is_full(after):
        said = f"Of this log {MAX_LINES} lines are shown; all of it is in CloudWatch, log group {LOG_GROUP}."
        lines[room] = Line(lines[room].at, said)
    return lines, after


def _streams(logs: Any, job_name: str) -> list[str]:
    names: list[str] = []
    request = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": f"{job_name}/"}
    while True:
        try:
            answer = logs.describe_log_streams(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":  # the account's first job
                return names
            raise
        names += [stream["logStreamName"] for stream in answer["logStreams"]]
        if not answer.get("nextToken"):
            return sorted(names)
        request["nextToken"] = answer["nextToken"]


def _stream(logs: Any, name: str, place: Place, most: int, whole: bool) -> tuple[list[Line], Place]:
    """What is new in a stream, ``most`` lines at most, and where that ends."""
    host = name.partition("/")[2].rpartition("-")[0] or name
    at, seen, shown = place["at"], place["seen"], place["shown"]
    known = seen  # lines of the first millisecond that were read before
    lines: list[Line] = []
    request: dict[str, Any] = {"logGroupName": LOG_GROUP, "logStreamName": name, "startFromHead": True}
    request |= {"limit": PAGE, "startTime": at}
    pages = 0
    while True:
        answer = logs.get_log_events(**request)
        for event in answer["events"]:
            if event["timestamp"] == at and known > 0:
                known -= 1
                continue
            if len(lines) == most:
                return lines, Place(at=at, seen=seen, shown=shown)
            seen = seen + 1 if event["timestamp"] == at else 1
            known = 0
            at, shown = event["timestamp"], max(event["timestamp"], shown + 1)
            text = event["message"].rstrip("\n")[:MAX_LINE]
            lines.append(Line(_EPOCH + timedelta(milliseconds=shown), f"[{host}] {text}"))
        pages += bool(lines)  # else it would never come past lines that are known and have one time
        token = answer["nextForwardToken"]
        goes_on = whole or (len(answer["events"]) == PAGE and pages < PAGES)
        if token == request.get("nextToken") or not goes_on:
            return lines, Place(at=at, seen=seen, shown=shown)
        request["nextToken"] = token


@dataclass
class LogReader:
    """Reads the logs of many jobs through one client, at a bounded rate: each gets its turn.

    :param connect: makes boto3's ``logs`` client; called in a thread, again after an error, so that credentials renew.
    """

    connect: Callable[[], Any]
    _client: Any = None
    _next: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, job_name: str, position: Position) -> tuple[list[Line], Position]:
        """`read_on`, when it is this one's turn; raises as that. Expired credentials are renewed."""
        try:
            return await self._read(job_name, position)
        except AccessDenied as error:
            if not error.code.startswith("ExpiredToken"):
                raise
            return await self._read(job_name, position)

    async def _read(self, job_name: str, position: Position) -> tuple[list[Line], Position]:
        await self._turn()
        async with self._lock:
            if self._client is None:
                self._client = await in_thread(self.connect, READING)
        client = self._client
        try:
            return await in_thread(lambda: read_on(client, job_name, position), READING)
        except Exception:
            if self._client is client:  # else another reader has a new one already
                self._client = None
            raise

    async def _turn(self) -> None:
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now) + 1.0 / READS_PER_SECOND
        await asyncio.sleep(max(0.0, self._next - 1.0 / READS_PER_SECOND - now))


_readers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, LogReader]] = WeakKeyDictionary()


def shared_reader(key: Hashable, connect: Callable[[], Any]) -> LogReader:
    """The reader that all with one key share in this process and event loop."""
    readers = _readers.setdefault(asyncio.get_running_loop(), {})
    return readers.setdefault(key, LogReader(connect))
