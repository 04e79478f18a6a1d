"""The triggers: they survive being stored, share one watcher, and stop what nobody waits for any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest

from airflow_sm_git import EndpointTrigger, TrainingJobTrigger
from airflow_sm_git.clients.job_log import LOG_GROUP, MAX_LINES, Position, is_full
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Runner
from tests.local.sagemaker_requests import client, ended, unique, until


@pytest.fixture
def server(airflow: Runner) -> LocalSageMaker:
    return airflow.sagemaker


def times(seconds: float = 60) -> dict[str, Any]:
    now = datetime.now(UTC)
    deadline = now + timedelta(seconds=seconds)
    return {"since": now.isoformat(), "deadline": deadline.isoformat(), "check_interval": 0.05}


def events(triggers: Sequence[Any]) -> list[dict[str, Any]]:
    """What triggers tell, run at once in one loop as a triggerer does."""

    async def first(trigger: Any) -> Any:
        return (await anext(trigger.run())).payload

    async def all_first() -> list[Any]:
        return await asyncio.gather(*map(first, triggers))

    return asyncio.run(all_first())


@pytest.mark.parametrize("kind", [TrainingJobTrigger, EndpointTrigger])
def test_a_trigger_is_the_same_after_the_database(kind: type) -> None:
    connection = {"aws_conn_id": "a", "region_name": "b", "verify": "c", "botocore_config": {"d": 1}}
    more = {"cancel_on_kill": False, "print_log": True, "has_secrets": True} if kind is TrainingJobTrigger else {}
    given = {"name": "n", **times(), "check_interval": 7.0, "memo": {"e": 2}, **connection, **more}
    path, kwargs = kind(**given).serialize()
    assert kwargs == given
    assert locate(path) is kind
    assert locate(path)(**kwargs).serialize() == (path, kwargs)


def test_the_event_says_how_a_job_ended_and_brings_the_memo_back(server: LocalSageMaker, tmp_path: Path) -> None:
    good, bad = steps.submit(server), steps.submit(server, fail="1")
    stopped = steps.submit(server, wait_for=tmp_path / "never")
    client(server, "sagemaker").stop_training_job(TrainingJobName=stopped)
    told = events([TrainingJobTrigger(name, memo={"name": name}, **times()) for name in (good, bad, stopped)])
    assert told == [
        {"phase": "succeeded", "error": None, "memo": {"name": good}},
        {"phase": "failed", "error": None, "memo": {"name": bad}},
        {"phase": "stopped", "error": None, "memo": {"name": stopped}},
    ]


def test_the_deadline_is_kept_by_the_trigger_itself(server: LocalSageMaker, tmp_path: Path) -> None:
    name = steps.submit(server, wait_for=tmp_path / "flag")
    told = events([TrainingJobTrigger(name, **times(0.3))])
    (tmp_path / "flag").touch()
    assert told == [{"phase": "running", "error": None, "memo": {}}]
    ended(server, name)


def test_an_endpoint_that_is_in_service_is_told_at_once(server: LocalSageMaker) -> None:
    name = steps.create_endpoint(server)
    told = events([EndpointTrigger(name, **times())])
    steps.clean_up(server, name)
    assert told == [{"phase": "succeeded", "error": None, "memo": {}}]


def test_a_wait_that_goes_well_writes_no_line_on_the_event_loop(
    server: LocalSageMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG", "airflow_sm_git")
    name = steps.submit(server)
    ended(server, name)
    assert events([TrainingJobTrigger(name, **times())])[0]["phase"] == "succeeded"
    assert name not in caplog.text + capsys.readouterr().out


def test_many_triggers_cost_one_listing_for_each_look(server: LocalSageMaker, tmp_path: Path) -> None:
    name = steps.submit(server, wait_for=tmp_path / "flag")
    asked = len(server.requests())

    def release() -> None:
        steps.until(lambda: steps.actions(server, asked).count("ListTrainingJobs") >= 4, bool)
        (tmp_path / "flag").touch()

    with steps.meanwhile(release):
        told = events([TrainingJobTrigger(name, **times()) for _ in range(50)])
    done = steps.actions(server, asked)
    assert {event["phase"] for event in told} == {"succeeded"}
    assert done.count("DescribeTrainingJob") < 5
    assert done.count("ListTrainingJobs") < 50


def test_an_error_that_time_does_not_mend_reaches_the_task(
    airflow: Runner, server: LocalSageMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = server.env["AIRFLOW_CONN_AWS_DEFAULT"].replace(server.info.secret_access_key, "wrong")
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", connection)
    (told,) = events([TrainingJobTrigger("any", aws_conn_id="wrong", **times())])
    assert "Check the AWS connection's credentials" in told["error"]


@pytest.mark.parametrize(("cancel", "status"), [(True, "Stopped"), (False, "Completed")])
def test_a_killed_wait_stops_the_job_unless_told_otherwise(
    server: LocalSageMaker, tmp_path: Path, cancel: bool, status: str
) -> None:
    name = steps.submit(server, wait_for=tmp_path / "flag")
    asyncio.run(TrainingJobTrigger(name, cancel_on_kill=cancel, **times()).on_kill())
    if not cancel:
        (tmp_path / "flag").touch()
    assert ended(server, name)["TrainingJobStatus"] == status


ONE_TRY = {"retries": {"total_max_attempts": 1}}  # each fault shows at once


@pytest.mark.parametrize("action", ["DescribeTrainingJob", "StopTrainingJob"])
def test_a_stop_that_time_mends_is_tried_again(
    server: LocalSageMaker, tmp_path: Path, action: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name = steps.submit(server, wait_for=tmp_path / "never")
    with server.fault("throttle", action=action, resource=name, times=1) as fault:
        asyncio.run(TrainingJobTrigger(name, botocore_config=ONE_TRY, **times()).on_kill())
        assert fault.rule["hits"] == 1
    said = capfd.readouterr().out
    assert ended(server, name)["TrainingJobStatus"] == "Stopped"
    assert f"Training job {name} may still run, so stopping it is tried again: {action}" in said


def test_a_stop_that_is_denied_is_said_and_tried_again_when_airflow_asks_again(
    server: LocalSageMaker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = steps.submit(server, wait_for=tmp_path / "never")
    trigger = TrainingJobTrigger(name, **times())
    with server.fault("denied", action="StopTrainingJob", resource=name, times=0):
        asyncio.run(trigger.on_kill())
    said = capfd.readouterr().out
    assert f"Training job {name} may still run, so stop it in the console" in said
    assert "sagemaker:StopTrainingJob" in said
    asyncio.run(trigger.on_kill())  # Airflow 3.3 does so, after the cancelled wait has ended
    assert ended(server, name)["TrainingJobStatus"] == "Stopped"
    asked = len(server.requests())
    asyncio.run(trigger.on_kill())
    assert steps.actions(server, asked) == [], "what is stopped is not asked for again"


def test_that_nothing_can_be_listed_is_said_while_it_is_so(
    server: LocalSageMaker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = steps.submit(server)
    ended(server, name)
    with server.fault("unavailable", action="ListTrainingJobs", times=1):
        (told,) = events([TrainingJobTrigger(name, botocore_config=ONE_TRY, **times())])
    said = capfd.readouterr().out
    assert told["phase"] == "succeeded"
    assert "What is waited for cannot be listed, so it is tried again: ListTrainingJobs was refused" in said


def written(server: LocalSageMaker, *lines: str) -> str:
    """Write a log as that of a job which never was; the job's name."""
    logs, name = client(server, "logs"), unique("logged")
    with suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=LOG_GROUP)
    stream = {"logGroupName": LOG_GROUP, "logStreamName": f"{name}/algo-1-1700000000"}
    logs.create_log_stream(**stream)
    events = [{"timestamp": int(time.time() * 1000), "message": line} for line in lines]
    logs.put_log_events(**stream, logEvents=events)
    return name


def test_a_log_of_which_no_more_is_shown_is_followed_no_further(server: LocalSageMaker) -> None:
    almost = Position(reads=0, lines=MAX_LINES - 1, streams={})
    trigger = TrainingJobTrigger(written(server, "a", "b", "c"), print_log=True, memo={"log": almost}, **times())

    async def scenario() -> None:
        async with asyncio.timeout(30):
            await trigger._follow()  # else it goes on for ever

    asyncio.run(scenario())
    assert trigger._position is not None
    assert is_full(trigger._position)


def test_once_the_event_tells_how_far_the_log_was_shown_no_more_of_it_is(
    server: LocalSageMaker, tmp_path: Path
) -> None:
    asked, name = len(server.requests()), steps.submit(server, wait_for=tmp_path / "flag")

    async def scenario() -> None:
        run = TrainingJobTrigger(name, print_log=True, **times()).run()
        first = asyncio.ensure_future(anext(run))
        await asyncio.to_thread(lambda: until(lambda: "GetLogEvents" in steps.actions(server, asked), bool))
        (tmp_path / "flag").touch()
        assert (await first).payload["memo"]["log"]["lines"] > 0
        # The triggerer now awaits its own log of the event, while the trigger stands still where it told.
        assert [task for task in asyncio.all_tasks() if "_follow" in repr(task.get_coro())] == []
        await run.aclose()

    asyncio.run(scenario())
