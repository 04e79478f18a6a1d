"""The triggers: they survive being stored, share one watcher, and stop what nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest

from airflow_sm_git import EndpointTrigger, TrainingJobTrigger
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Runner
from tests.local.sagemaker_requests import client, ended


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
