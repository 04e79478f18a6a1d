"""The CloudWatch Logs API over :class:`~airflow_sm_git.local.logs.LogStore`.

Source: CloudWatch Logs API reference, the actions' own pages. A token is a place in a stream: ``f/TIME.ID`` for what
comes after it, ``b/TIME.ID`` for what comes before.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

from airflow_sm_git.local.errors import ApiError, api_error
from airflow_sm_git.local.logs import Event, LogStore, Stream, now_ms
from airflow_sm_git.local.state import Info

Body = dict[str, Any]
T = TypeVar("T")
_DAY = 86_400_000
_MAX_EVENTS = 10_000
_NAME = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}")
_PLACE = re.compile(r"([fb])/(\d+)\.(\d+)")


class LogsApi:
    """Answers the actions that it knows; :meth:`handle` is the only door."""

    def __init__(self, store: LogStore, info: Info) -> None:
        self._store = store
        self._arn = f"arn:aws:logs:{info.region}:{info.account}:log-group:"
        self._actions: dict[str, Callable[[Body], Body]] = {
            "CreateLogGroup": self._create_group,
            "CreateLogStream": self._create_stream,
            "DescribeLogGroups": self._describe_groups,
            "DescribeLogStreams": self._describe_streams,
            "FilterLogEvents": self._filter,
            "GetLogEvents": self._get,
            "PutLogEvents": self._put,
        }

    def handle(self, action: str, body: Body) -> Body:
        """The answer to one action.

        :raises ApiError: the action is not known, or refuses.
        """
        if action not in self._actions:
            raise api_error("json.unknown_action")
        return self._actions[action](body)

    def _create_group(self, body: Body) -> Body:
        name = _text(body, "logGroupName")
        if not _NAME.fullmatch(name):
            raise _invalid(
                f"1 validation error detected: Value '{name}' at 'logGroupName' failed to satisfy constraint"
            )
        if not self._store.create_group(name):
            raise api_error("logs.group_exists")
        return {}

    def _create_stream(self, body: Body) -> Body:
        if not self._store.create_stream(self._group(body), _text(body, "logStreamName")):
            raise api_error("logs.stream_exists")
        return {}

    def _describe_groups(self, body: Body) -> Body:
        pattern = body.get("logGroupNamePattern") or ""
        groups = [g for g in self._store.groups(body.get("logGroupNamePrefix") or "") if pattern in g[0]]
        page, token = _page(groups, body, lambda group: group[0])
        described = [
            {"logGroupName": name, "creationTime": created, "arn": f"{self._arn}{name}:*", "storedBytes": 0}
            for name, created in page
        ]
        return {"logGroups": described, **token}

    def _describe_streams(self, body: Body) -> Body:
        group, prefix = self._group(body), body.get("logStreamNamePrefix") or ""
        by_time = body.get("orderBy") == "LastEventTime"
        if by_time and prefix:
            raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        streams = self._store.streams(group, prefix)
        if by_time:
            streams.sort(key=lambda stream: stream.last or 0)
        if body.get("descending"):
            streams.reverse()
        page, token = _page(streams, body, lambda stream: stream.name)
        return {"logStreams": [self._stream(group, stream) for stream in page], **token}

    def _stream(self, group: str, stream: Stream) -> Body:
        described: Body = {
            "logStreamName": stream.name,
            "creationTime": stream.created,
            "arn": f"{self._arn}{group}:log-stream:{stream.name}",
            "storedBytes": 0,
        }
        if stream.first is not None:
            described["firstEventTimestamp"] = stream.first
            described["lastEventTimestamp"] = stream.last
            described["lastIngestionTime"] = stream.ingested
        return described

    def _get(self, body: Body) -> Body:
        number = self._store.require_stream(self._group(body), _text(body, "logStreamName"))
        limit = _limit(body, _MAX_EVENTS)
        direction, place = _parse_token(body.get("nextToken"))
        span = {"start": body.get("startTime"), "end": body.get("endTime")}
        if direction == "f":
            events = self._store.read([number], limit=limit, after=place, **span)
        elif direction == "b" or not body.get("startFromHead"):
            events = self._store.read([number], limit=limit, before=place or (1 << 62, 0), **span)
        else:
            events = self._store.read([number], limit=limit, **span)
        first, last = place or (0, 0), place or (0, 0)
        if events:
            first, last = (events[0].at, events[0].id), (events[-1].at, events[-1].id)
        return {
            "events": [{"timestamp": e.at, "message": e.message, "ingestionTime": e.ingested} for e in events],
            "nextForwardToken": "f/{:020d}.{}".format(*last),
            "nextBackwardToken": "b/{:020d}.{}".format(*first),
        }

    def _filter(self, body: Body) -> Body:
        group, names = self._group(body), body.get("logStreamNames")
        if names and body.get("logStreamNamePrefix"):
            raise _invalid("Parameters logStreamNames and logStreamNamePrefix cannot be given together.")
        streams = self._store.streams(group, body.get("logStreamNamePrefix") or "")
        numbers = [stream.id for stream in streams if not names or stream.name in names]
        missing = set(names or ()) - {stream.name for stream in streams}
        if missing:
            raise api_error("logs.no_stream")
        matches = _matcher(body.get("filterPattern") or "")
        limit, end = _limit(body, _MAX_EVENTS), body.get("endTime")
        _, place = _parse_token(body.get("nextToken"))
        found: list[Event] = []
        span = {"start": body.get("startTime"), "end": None if end is None else end + 1}
        while len(found) < limit:
            events = self._store.read(numbers, limit=1000, after=place, **span)
            for event in events:
                place = (event.at, event.id)
                if matches(event.message):
                    found.append(event)
                if len(found) == limit:
                    break
            if len(events) < 1000:
                break
        more = bool(place) and bool(self._store.read(numbers, limit=1, after=place, **span))
        token = {"nextToken": "f/{:020d}.{}".format(*place)} if more and place else {}
        return {"events": [_filtered(event) for event in found], "searchedLogStreams": [], **token}

    def _put(self, body: Body) -> Body:
        group, stream = self._group(body), _text(body, "logStreamName")
        self._store.require_stream(group, stream)
        events = [(int(event["timestamp"]), str(event["message"])) for event in body.get("logEvents") or ()]
        if not events:
            raise _invalid("1 validation error detected: Value at 'logEvents' must have at least one member")
        if any(later[0] < earlier[0] for earlier, later in pairwise(events)):
            raise _invalid("Log events in a single PutLogEvents request must be in chronological order.")
        now = now_ms()
        old = sum(at < now - 14 * _DAY for at, _ in events)
        new = sum(at <= now + _DAY // 12 for at, _ in events)
        self._store.append(group, stream, events[old:new])
        rejected = {"tooOldLogEventEndIndex": old} if old else {}
        if new < len(events):
            rejected["tooNewLogEventStartIndex"] = new
        return {"nextSequenceToken": str(now), **({"rejectedLogEventsInfo": rejected} if rejected else {})}

    def _group(self, body: Body) -> str:
        if identifier := body.get("logGroupIdentifier"):
            return str(identifier).removeprefix(self._arn).removesuffix(":*")
        return _text(body, "logGroupName")


def _invalid(reason: str) -> ApiError:
    return api_error("logs.invalid", reason=reason)


def _text(body: Body, key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise _invalid(
            f"1 validation error detected: Value null at '{key}' failed to satisfy constraint: Member must not be null"
        )
    return value


def _limit(body: Body, most: int) -> int:
    limit = body.get("limit") or most
    if not isinstance(limit, int) or not 1 <= limit <= most:
        raise _invalid(
            f"1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: "
            f"Member must have value less than or equal to {most}"
        )
    return limit


def _page(items: list[T], body: Body, name: Callable[[T], str]) -> tuple[list[T], Body]:
    """The page that ``nextToken`` (the last name shown) and ``limit`` select."""
    limit = _limit(body, 50)
    names = [name(item) for item in items]
    token = body.get("nextToken")
    if token and token not in names:
        raise _invalid("The specified nextToken is invalid.")
    start = names.index(token) + 1 if token else 0
    page = items[start : start + limit]
    return page, {"nextToken": name(page[-1])} if start + limit < len(items) else {}


def _parse_token(token: str | None) -> tuple[str, tuple[int, int] | None]:
    if not token:
        return "", None
    found = _PLACE.fullmatch(token)
    if not found:
        raise _invalid("The specified nextToken is invalid.")
    return found[1], (int(found[2]), int(found[3]))


def _filtered(event: Event) -> Body:
    return {
        "logStreamName": event.stream,
        "timestamp": event.at,
        "message": event.message,
        "ingestionTime": event.ingested,
        "eventId": str(event.id),
    }


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Unstructured patterns (User Guide, Filter pattern syntax): terms that must all be there, ``?any``, ``-none``."""
    if pattern.lstrip().startswith(("{", "[", "%")):
        raise _invalid(f"This server does not implement JSON, array and regular expression filter patterns: {pattern}")
    try:
        terms = shlex.split(pattern)
    except ValueError:
        raise _invalid("Invalid filter pattern") from None
    some = [term[1:] for term in terms if term.startswith("?")]
    none = [term[1:] for term in terms if term.startswith("-")]
    every = [term for term in terms if not term.startswith(("?", "-"))]

    def matches(text: str) -> bool:
        return (
            all(term in text for term in every)
            and not any(term in text for term in none)
            and (not some or any(term in text for term in some))
        )

    return matches
