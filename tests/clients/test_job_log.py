"""A job's log is read on while it grows: each line once, whoever reads, and however much there is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from airflow_sm_git.clients import job_log
from airflow_sm_git.clients.job_log import LOG_GROUP, MAX_LINES, Line, Position, beginning, read_on, shared_reader
from airflow_sm_git.core import errors
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.local.sagemaker_requests import client, ended, unique, until

Write = Callable[..., None]


@pytest.fixture
def logs(local_sagemaker: LocalSageMaker) -> Any:
    return client(local_sagemaker, "logs")


@pytest.fixture
def job() -> str:
    return unique("log")


@pytest.fixture
def write(logs: Any, job: str) -> Write:
    """Write lines into a stream of the job, all with one time unless told otherwise."""
    known: set[str] = set()
    with suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=LOG_GROUP)

    def put(*lines: str, at: int | None = None, host: str = "algo-1") -> None:
        stream = f"{job}/{host}-1700000000"
        if stream not in known:
            logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
            known.add(stream)
        moment = int(time.time() * 1000) if at is None else at
        for start in range(0, len(lines), 1000):
            events = [{"timestamp": moment, "message": line} for line in lines[start : start + 1000]]
            logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=stream, logEvents=events)

    return put


def texts(lines: list[Line]) -> list[str]:
    return [line.text.partition("] ")[2] for line in lines]


def test_each_line_is_read_once_though_many_have_one_time(logs: Any, job: str, write: Write) -> None:
    moment = int(time.time() * 1000)
    position = beginning()
    seen: list[str] = []
    for number in range(5):
        write(f"line {number}", "same", at=moment)
        lines, position = read_on(logs, job, position)
        seen += texts(lines)
        again, position = read_on(logs, job, position)
        assert again == []
    assert seen == [line for number in range(5) for line in (f"line {number}", "same")]


def test_who_reads_anew_gives_the_same_lines_the_same_times_and_no_time_twice(
    logs: Any, job: str, write: Write
) -> None:
    moment = int(time.time() * 1000)
    write(*(f"a{number}" for number in range(20)), at=moment)
    first, position = read_on(logs, job, beginning())
    write(*(f"b{number}" for number in range(20)), at=moment + 3)
    more, _ = read_on(logs, job, position)
    anew, _ = read_on(logs, job, beginning(), whole=True)
    assert [*first, *more] == anew
    assert len({line.at for line in anew}) == 40
    assert [line.at for line in anew] == sorted(line.at for line in anew)


def test_more_lines_than_one_answer_holds_are_all_read(logs: Any, job: str, write: Write) -> None:
    wanted = [f"line {number}" for number in range(2 * job_log.PAGE + 7)]
    write(*wanted)
    lines, position = read_on(logs, job, beginning(), whole=True)
    assert texts(lines) == wanted
    assert read_on(logs, job, position, whole=True)[0] == []


def asked(server: LocalSageMaker, since: int) -> int:
    """How often a log was read or its streams were listed, from a request on."""
    return sum(action in ("GetLogEvents", "DescribeLogStreams") for action in steps.actions(server, since))


def test_one_read_of_a_long_log_ends_after_a_few_pages_and_the_next_goes_on_there(
    local_sagemaker: LocalSageMaker, logs: Any, job: str, write: Write
) -> None:
    most = job_log.PAGES * job_log.PAGE
    wanted = [f"line {number}" for number in range(most + 7)]
    write(*wanted)  # all with one time: each read begins with what is known
    before = len(local_sagemaker.requests())
    first, position = read_on(logs, job, beginning())
    assert len(first) == most
    assert asked(local_sagemaker, before) == job_log.PAGES + 1
    more, position = read_on(logs, job, position)
    assert texts([*first, *more]) == wanted
    assert read_on(logs, job, position)[0] == []


def test_what_is_not_shown_is_not_read(local_sagemaker: LocalSageMaker, logs: Any, job: str, write: Write) -> None:
    write(*(["x"] * (3 * job_log.PAGE)))
    before = len(local_sagemaker.requests())
    lines, position = read_on(logs, job, Position(reads=0, lines=MAX_LINES - 3, streams={}), whole=True)
    assert len(lines) == 4
    assert asked(local_sagemaker, before) == 2
    assert read_on(logs, job, position, whole=True) == ([], position)
    assert asked(local_sagemaker, before) == 2


def test_of_several_instances_the_earliest_lines_are_shown(logs: Any, job: str, write: Write) -> None:
    now = int(time.time() * 1000)
    for number in range(4):
        write(f"first {number}", at=now + 20 * number)
        write(f"second {number}", at=now + 20 * number + 10, host="algo-2")
    lines, _ = read_on(logs, job, Position(reads=0, lines=MAX_LINES - 3, streams={}), whole=True)
    assert texts(lines[:-1]) == ["first 0", "second 0", "first 1"]


def test_a_log_is_cut_where_it_would_fill_airflows(logs: Any, job: str, write: Write) -> None:
    write("before", *(["x"] * 20), "after")
    almost = Position(reads=0, lines=MAX_LINES - 3, streams={})
    lines, position = read_on(logs, job, almost, whole=True)
    assert [*texts(lines[:-1]), lines[-1].text] == [
        *("before", "x", "x"),
        f"Of this log {MAX_LINES} lines are shown; all of it is in CloudWatch, log group {LOG_GROUP}.",
    ]
    write("more")
    assert read_on(logs, job, position, whole=True)[0] == [], "it is said once"


def test_the_lines_of_all_instances_are_shown_with_their_host(logs: Any, job: str, write: Write) -> None:
    write("from the first")
    _, position = read_on(logs, job, beginning())
    write("from the second", host="algo-2")
    lines, _ = read_on(logs, job, position, whole=True)
    assert [line.text for line in lines] == ["[algo-2] from the second"]


def test_a_running_job_is_read_before_it_ends_and_the_last_line_after(
    local_sagemaker: LocalSageMaker, logs: Any, tmp_path: Any
) -> None:
    flag = tmp_path / "flag"
    name = steps.submit(local_sagemaker, wait_for=flag)
    position, seen = beginning(), []

    def read() -> list[str]:
        nonlocal position
        lines, position = read_on(logs, name, position)
        seen.extend(texts(lines))
        return seen

    until(read, lambda lines: "score=0.5" in lines)
    flag.touch()
    ended(local_sagemaker, name)
    lines, _ = read_on(logs, name, position, whole=True)
    whole, _ = read_on(logs, name, beginning(), whole=True)
    assert [*seen, *texts(lines)] == texts(whole)


def test_a_job_without_a_log_has_no_lines(logs: Any, job: str) -> None:
    assert read_on(logs, job, beginning(), whole=True)[0] == []


def test_a_log_that_may_not_be_read_names_the_log(local_sagemaker: LocalSageMaker, logs: Any, job: str) -> None:
    with local_sagemaker.fault("denied", service="logs", action="DescribeLogStreams") as fault:
        with pytest.raises(errors.AccessDenied, match=job):
            read_on(logs, job, beginning())
        assert fault.rule["hits"] == 1


def test_expired_credentials_are_renewed_while_a_log_is_read(
    local_sagemaker: LocalSageMaker, logs: Any, job: str, write: Write
) -> None:
    write("a line")
    made = []

    def connect() -> Any:
        made.append(1)
        return logs

    async def read() -> list[str]:
        return texts((await shared_reader("key", connect).read(job, beginning()))[0])

    with local_sagemaker.fault("expired", service="logs", times=1) as fault:
        assert asyncio.run(read()) == ["a line"]
        assert fault.rule["hits"] == 1
    assert made == [1, 1]
    with local_sagemaker.fault("expired", service="logs", times=0), pytest.raises(errors.AccessDenied):
        asyncio.run(read())


def test_many_readers_share_one_client_and_each_gets_its_turn(
    local_sagemaker: LocalSageMaker, logs: Any, job: str, write: Write
) -> None:
    write("a line")
    made = []

    def connect() -> Any:
        made.append(1)
        return logs

    async def read() -> tuple[list[list[str]], float]:
        began = time.monotonic()
        reader = shared_reader("key", connect)
        found = await asyncio.gather(*(reader.read(job, beginning()) for _ in range(8)))
        return [texts(lines) for lines, _ in found], time.monotonic() - began

    found, took = asyncio.run(read())
    assert found == [["a line"]] * 8
    assert made == [1]
    assert took >= 7 / job_log.READS_PER_SECOND, "a rate, whatever the number"
