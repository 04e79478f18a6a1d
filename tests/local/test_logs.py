"""CloudWatch Logs through boto3, held against moto where moto can answer; and the store that jobs write to."""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_sm_git.local.logs import LogStore, now_ms
from tests.local.jobs import eventually

ClientFactory = Callable[..., Any]
Place = dict[str, str]


@pytest.fixture
def logs(client: ClientFactory) -> Any:
    return client("logs")


def make(logs: Any, *streams: str) -> str:
    group = f"/test/{uuid.uuid4().hex}"
    logs.create_log_group(logGroupName=group)
    for stream in streams:
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
    return group


def put(logs: Any, group: str, stream: str, *messages: str, at: int | None = None) -> int:
    start = at or int(time.time() * 1000) - 10_000
    events = [{"timestamp": start + number, "message": message} for number, message in enumerate(messages)]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    return start


def messages(answer: dict[str, Any]) -> list[str]:
    return [event["message"] for event in answer["events"]]


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_events_come_back_in_the_order_of_time(logs: Any) -> None:
    group = make(logs, "s")
    start = put(logs, group, "s", "one", "two", "three")
    answer = logs.get_log_events(logGroupName=group, logStreamName="s", startFromHead=True)
    assert messages(answer) == ["one", "two", "three"]
    assert [event["timestamp"] for event in answer["events"]] == [start, start + 1, start + 2]


def test_following_a_stream_shows_each_event_once_and_repeats_the_token_at_the_end(logs: Any) -> None:
    group = make(logs, "s")
    put(logs, group, "s", *(f"line {number}" for number in range(5)))
    where: dict[str, Any] = {"logGroupName": group, "logStreamName": "s", "startFromHead": True, "limit": 2}
    seen: list[str] = []
    token = None
    for _ in range(10):
        answer = logs.get_log_events(**where, **({"nextToken": token} if token else {}))
        seen += messages(answer)
        if answer["nextForwardToken"] == token:
            break
        token = answer["nextForwardToken"]
    assert seen == [f"line {number}" for number in range(5)]
    put(logs, group, "s", "later", at=int(time.time() * 1000))
    assert messages(logs.get_log_events(**where, nextToken=token)) == ["later"]


def test_without_a_start_the_last_events_are_shown(logs: Any) -> None:
    group = make(logs, "s")
    put(logs, group, "s", "one", "two", "three")
    assert messages(logs.get_log_events(logGroupName=group, logStreamName="s", limit=2)) == ["two", "three"]


def test_a_span_of_time_includes_its_start(logs: Any) -> None:
    group = make(logs, "s")
    start = put(logs, group, "s", "one", "two", "three")
    where = {"logGroupName": group, "logStreamName": "s", "startFromHead": True}
    assert messages(logs.get_log_events(**where, startTime=start + 1)) == ["two", "three"]


def test_streams_are_listed_by_prefix_and_in_pages(logs: Any) -> None:
    group = make(logs, "job-1/a", "job-1/b", "job-2/a")
    listed = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="job-1/")
    assert [stream["logStreamName"] for stream in listed["logStreams"]] == ["job-1/a", "job-1/b"]
    pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=group, PaginationConfig={"PageSize": 2})
    assert [len(page["logStreams"]) for page in pages] == [2, 1]


def test_the_newest_stream_can_be_found(logs: Any) -> None:
    group = make(logs, "a", "b", "c")
    now = int(time.time() * 1000)
    for stream, age in (("a", 2000), ("b", 1000), ("c", 3000)):
        put(logs, group, stream, "x", at=now - age)
    listed = logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True)
    assert [stream["logStreamName"] for stream in listed["logStreams"]] == ["b", "a", "c"]
    assert listed["logStreams"][0]["lastEventTimestamp"] == now - 1000


def test_what_is_not_there_is_refused(logs: Any) -> None:
    group = make(logs)
    for call in (
        lambda: logs.get_log_events(logGroupName=group, logStreamName="missing"),
        lambda: logs.describe_log_streams(logGroupName="/missing"),
        lambda: logs.filter_log_events(logGroupName="/missing"),
        lambda: logs.create_log_stream(logGroupName="/missing", logStreamName="s"),
    ):
        with pytest.raises(ClientError) as error:
            call()
        assert code(error) == "ResourceNotFoundException"


def test_what_is_there_is_not_made_again(logs: Any) -> None:
    group = make(logs, "s")
    with pytest.raises(ClientError) as error:
        logs.create_log_group(logGroupName=group)
    assert code(error) == "ResourceAlreadyExistsException"
    with pytest.raises(ClientError) as error:
        logs.create_log_stream(logGroupName=group, logStreamName="s")
    assert code(error) == "ResourceAlreadyExistsException"


def test_a_filter_looks_through_all_streams(logs: Any) -> None:
    group = make(logs, "a", "b")
    now = int(time.time() * 1000) - 5000
    put(logs, group, "a", "loss 1", "other", at=now)
    put(logs, group, "b", "loss 2", at=now + 100)
    found = logs.filter_log_events(logGroupName=group, filterPattern="loss")
    assert [(event["logStreamName"], event["message"]) for event in found["events"]] == [
        ("a", "loss 1"),
        ("b", "loss 2"),
    ]
    assert messages(logs.filter_log_events(logGroupName=group, logStreamNames=["a"])) == ["loss 1", "other"]


def test_groups_are_listed_by_prefix(logs: Any) -> None:
    group = make(logs)
    listed = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert [item["logGroupName"] for item in listed] == [group]
    assert listed[0]["arn"].endswith(f":log-group:{group}:*")


# Only ours: moto answers otherwise, or not at all


def test_a_span_of_time_does_not_include_its_end(ours: ClientFactory) -> None:
    logs = ours("logs")
    group = make(logs, "s")
    start = put(logs, group, "s", "one", "two", "three")
    where = {"logGroupName": group, "logStreamName": "s", "startFromHead": True}
    assert messages(logs.get_log_events(**where, startTime=start, endTime=start + 2)) == ["one", "two"]


def test_a_filter_knows_terms_alternatives_and_exclusions(ours: ClientFactory) -> None:
    logs = ours("logs")
    group = make(logs, "s")
    put(logs, group, "s", "ERROR disk full", "ERROR net down", "WARN disk slow", "fine")
    for pattern, found in (
        ("ERROR disk", ["ERROR disk full"]),
        ("?ERROR ?WARN", ["ERROR disk full", "ERROR net down", "WARN disk slow"]),
        ("disk -ERROR", ["WARN disk slow"]),
        ('"disk full"', ["ERROR disk full"]),
    ):
        assert messages(logs.filter_log_events(logGroupName=group, filterPattern=pattern)) == found
    with pytest.raises(ClientError, match="does not implement"):
        logs.filter_log_events(logGroupName=group, filterPattern="{ $.a = 1 }")


def test_a_filter_pages_without_loss(ours: ClientFactory) -> None:
    logs = ours("logs")
    group = make(logs, "s")
    put(logs, group, "s", *(f"{number} {'odd' if number % 2 else 'even'}" for number in range(20)))
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, filterPattern="odd", PaginationConfig={"PageSize": 3}
    )
    assert [message for page in pages for message in messages(page)] == [f"{number} odd" for number in range(1, 20, 2)]


def test_events_must_come_in_order(ours: ClientFactory) -> None:
    logs = ours("logs")
    group = make(logs, "s")
    now = int(time.time() * 1000)
    with pytest.raises(ClientError, match="chronological") as error:
        logs.put_log_events(
            logGroupName=group,
            logStreamName="s",
            logEvents=[{"timestamp": now, "message": "b"}, {"timestamp": now - 1, "message": "a"}],
        )
    assert code(error) == "InvalidParameterException"


def test_a_bad_token_is_refused(ours: ClientFactory) -> None:
    logs = ours("logs")
    group = make(logs, "s")
    with pytest.raises(ClientError) as error:
        logs.get_log_events(logGroupName=group, logStreamName="s", nextToken="nonsense")
    assert code(error) == "InvalidParameterException"


def test_lines_of_the_same_millisecond_keep_their_order_in_the_store(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "logs.sqlite")
    store.append("g", "s", [(5, "a"), (5, "b")])
    store.append("g", "s", [(5, "c")])
    number = store.require_stream("g", "s")
    first = store.read([number], limit=2)
    rest = store.read([number], limit=2, after=(first[-1].at, first[-1].id))
    assert [event.message for event in (*first, *rest)] == ["a", "b", "c"]
    store.close()


def test_many_threads_may_write_at_once(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "logs.sqlite")

    def write(name: str) -> None:
        for number in range(50):
            store.append("g", name, [(number, f"{name} {number}")])

    threads = [threading.Thread(target=write, args=(f"s{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for stream in store.streams("g"):
        assert [event.message for event in store.read([stream.id], limit=99)] == [
            f"{stream.name} {n}" for n in range(50)
        ]
    store.close()


def test_lines_are_read_at_once_each_once_and_in_order_and_cost_few_transactions(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "logs.sqlite")
    other: list[str] = []
    for number in range(2500):
        store.write("g", "s", str(number))
        if number == 7:
            other = [event.message for event in store.read([store.require_stream("g", "s")], limit=99)]
    assert other == [str(number) for number in range(8)]
    events = store.read([store.require_stream("g", "s")], limit=9999)
    assert [event.message for event in events] == [str(number) for number in range(2500)]
    # SQLite writes every page that a transaction changed: 2,500 transactions of two pages are 20 MB, kept to 4 MB.
    assert (tmp_path / "logs.sqlite-wal").stat().st_size < 1 << 20
    store.close()


def test_lines_are_in_the_file_after_a_moment_without_anyone_reading_or_writing(tmp_path: Path) -> None:
    store, reader = LogStore(tmp_path / "logs.sqlite"), LogStore(tmp_path / "logs.sqlite")
    for word in ("one", "two"):
        store.write("g", "s", word)
        eventually(lambda: bool(reader.groups()), "the group")
        eventually(partial(last_is, reader, word), "the line")
    store.write("g", "s", "last")
    store.close()
    assert kept(reader) == ["one", "two", "last"]
    reader.close()


def test_lines_of_several_streams_keep_their_order_among_lines_put_directly(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "logs.sqlite")
    for stream in ("a", "b", "a"):
        store.write("g", stream, f"{stream} said")
    store.append("g", "a", [(now_ms() + 1, "put")])
    store.write("g", "b", "again")
    assert kept(store, "a") == ["a said", "a said", "put"]
    assert kept(store, "b") == ["b said", "again"]
    store.close()


def test_a_line_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "logs.sqlite")
    store.close()
    with pytest.raises(sqlite3.Error):
        store.write("g", "s", "too late")


def kept(store: LogStore, stream: str = "s") -> list[str]:
    return [event.message for event in store.read([store.require_stream("g", stream)], limit=9999)]


def last_is(store: LogStore, word: str) -> bool:
    return kept(store)[-1:] == [word]
