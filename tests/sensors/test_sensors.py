"""The sensors: satisfied by the one good end, red on any other, and never a reason to poll a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git import EndpointSensor, TrainingJobSensor
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.local.sagemaker_requests import client, ended, model, unique, variant

WAITING = [pytest.param(False, id="in the worker"), pytest.param(True, id="deferred")]


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


@pytest.fixture
def endpoint(server: LocalSageMaker, tmp_path: Path) -> Iterator[str]:
    """An endpoint that comes up when the file ``up`` is there, and fails unless the file ``good`` is."""
    name, sagemaker = unique("sensed"), client(server, "sagemaker")
    request = model(server, handler=steps.SERVE, ModelName=name)
    request["PrimaryContainer"]["Environment"] |= {"WAIT_FOR": str(tmp_path / "up"), "NEEDS": str(tmp_path / "good")}
    sagemaker.create_model(**request)
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant(name)])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    yield name
    (tmp_path / "up").touch()
    steps.clean_up(server, name)


def sense(airflow: Runner, kind: type = TrainingJobSensor, **options: Any) -> Run:
    with airflow.dag() as dag:
        kind(task_id="sensor", **{"check_interval": 0.05, "timeout": 30, **options})
    return airflow.run(dag)


def soon(server: LocalSageMaker, flag: Path, action: str) -> Any:
    """Makes the flag after the sensor has looked."""
    asked = len(server.requests())

    def wait() -> None:
        steps.until(lambda: action in steps.actions(server, asked), bool)
        flag.touch()

    return steps.meanwhile(wait)


@pytest.mark.parametrize("deferrable", WAITING)
def test_a_sensor_waits_until_the_job_has_completed(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path, deferrable: bool
) -> None:
    name = steps.submit(server, wait_for=tmp_path / "flag")
    with soon(server, tmp_path / "flag", "DescribeTrainingJob"):
        run = sense(airflow, training_job=name, deferrable=deferrable)
    assert run.state == "success", run.errors
    assert run.xcom("sensor") == {"name": name, "status": "Completed"}
    assert run.deferrals == (["sensor"] if deferrable else [])


@pytest.mark.parametrize("deferrable", WAITING)
def test_a_sensor_waits_until_the_endpoint_is_in_service(
    airflow: Runner, server: LocalSageMaker, endpoint: str, tmp_path: Path, deferrable: bool
) -> None:
    (tmp_path / "good").touch()
    with soon(server, tmp_path / "up", "DescribeEndpoint"):
        run = sense(airflow, EndpointSensor, endpoint=endpoint, deferrable=deferrable)
    assert run.state == "success", run.errors
    assert run.xcom("sensor") == {"name": endpoint, "status": "InService"}
    assert run.deferrals == (["sensor"] if deferrable else [])


@pytest.mark.parametrize("deferrable", WAITING)
@pytest.mark.parametrize("how", ["fails", "is stopped"])
def test_a_job_that_ends_otherwise_fails_the_sensor_with_the_reason(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path, deferrable: bool, how: str
) -> None:
    name = steps.submit(server, **({"fail": "1"} if how == "fails" else {"wait-for": str(tmp_path / "never")}))
    if how == "is stopped":
        client(server, "sagemaker").stop_training_job(TrainingJobName=name)
    run = sense(airflow, training_job=name, deferrable=deferrable, retries=3)
    error = str(run.errors["sensor"])
    assert run.state == "failed"
    assert f"TrainingJob '{name}' is {'Failed' if how == 'fails' else 'Stopped'}" in error
    assert "ExitCode 1" in error or how == "is stopped"


@pytest.mark.parametrize("deferrable", WAITING)
def test_an_endpoint_that_fails_fails_the_sensor_with_the_reason(
    airflow: Runner, endpoint: str, tmp_path: Path, deferrable: bool
) -> None:
    (tmp_path / "up").touch()
    run = sense(airflow, EndpointSensor, endpoint=endpoint, deferrable=deferrable)
    assert run.state == "failed"
    assert f"Endpoint '{endpoint}' is Failed: The primary container" in str(run.errors["sensor"])


@pytest.mark.parametrize("deferrable", WAITING)
def test_a_sensor_gives_up_after_its_timeout_and_leaves_the_job_alone(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path, deferrable: bool
) -> None:
    name = steps.submit(server, wait_for=tmp_path / "flag")
    run = sense(airflow, training_job=name, deferrable=deferrable, timeout=0.3)
    status = client(server, "sagemaker").describe_training_job(TrainingJobName=name)["TrainingJobStatus"]
    (tmp_path / "flag").touch()
    assert run.state == "failed"
    assert status == "InProgress"
    assert type(run.errors["sensor"]).__name__ == "AirflowSensorTimeout"
    assert ended(server, name)["TrainingJobStatus"] == "Completed"


@pytest.mark.parametrize("deferrable", WAITING)
def test_what_does_not_exist_is_named(airflow: Runner, deferrable: bool) -> None:
    run = sense(airflow, training_job="no-such-job", deferrable=deferrable)
    assert run.state == "failed"
    assert "no-such-job" in str(run.errors["sensor"])
    run = sense(airflow, EndpointSensor, endpoint="not a name", deferrable=deferrable)
    assert "endpoint='not a name': is not a SageMaker name" in str(run.errors["sensor"])


def released_by_looks(server: LocalSageMaker, flag: Path, looks: int = 4) -> Any:
    """Makes the flag after so many looks at training jobs, which a triggerer does not take in quick succession."""
    asked = len(server.requests())

    def wait() -> None:
        steps.until(lambda: steps.actions(server, asked).count("DescribeTrainingJob") >= looks, bool)
        flag.touch()

    return steps.meanwhile(wait)


def test_where_the_trigger_cannot_wait_the_sensor_does(airflow: Runner, server: LocalSageMaker, tmp_path: Path) -> None:
    name = steps.submit(server, wait_for=tmp_path / "flag")
    denied = server.fault("denied", action="ListTrainingJobs", times=2)
    lost = server.fault("unavailable", action="DescribeTrainingJob", resource=name, skip=2, times=5)  # botocore's tries
    with denied, lost, released_by_looks(server, tmp_path / "flag", looks=9):
        run = sense(airflow, training_job=name, deferrable=True)
        assert denied.rule["hits"] == 2
        assert lost.rule["hits"] == 5
    assert run.state == "success", run.errors
    assert run.xcom("sensor") == {"name": name, "status": "Completed"}
    assert run.deferrals == ["sensor"]
    assert "The triggerer could not wait, so this task does: ListTrainingJobs" in run.log


class Unloadable(TrainingJobSensor):
    """Resumed as Airflow does it when the triggerer could not load the trigger."""

    def execute(self, context: Any) -> Any:
        return self.resume_execution("__fail__", {"error": "Trigger failure", "traceback": ["No module"]}, context)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_where_the_trigger_cannot_be_loaded_the_sensor_waits(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path, soft_fail: bool
) -> None:
    name = steps.submit(server, wait_for=tmp_path / "flag")
    with released_by_looks(server, tmp_path / "flag"):
        run = sense(airflow, Unloadable, training_job=name, soft_fail=soft_fail)
    assert run.states == {"sensor": "success"}, run.errors
    assert "The triggerer could not wait, so this task does: Trigger failure" in run.log


class Resumed(TrainingJobSensor):
    """Resumed after the trigger could not wait, when its deadline is over, whatever its timeout."""

    def execute(self, context: Any) -> Any:
        return self.resume(
            context, {"phase": "running", "error": "Down.", "memo": {"deadline": "2026-01-01T00:00:00Z"}}
        )


def test_a_sensor_that_waits_for_its_trigger_gives_up_when_the_trigger_would_have(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path
) -> None:
    name, asked = steps.submit(server, wait_for=tmp_path / "flag"), len(server.requests())
    run = sense(airflow, Resumed, training_job=name)
    looks = steps.actions(server, asked).count("DescribeTrainingJob")
    (tmp_path / "flag").touch()
    assert type(run.errors["sensor"]).__name__ == "AirflowSensorTimeout"
    assert looks == 2
    ended(server, name)


class TooLate(TrainingJobSensor):
    """Resumed by a triggerer that was away until the deadline was over."""

    def execute(self, context: Any) -> Any:
        event = {"phase": "running", "error": None, "memo": {"deadline": "2026-01-01T00:00:00Z"}}
        return self.resume_execution("resume", {"event": event}, context)


def test_what_ended_well_while_the_triggerer_was_away_counts_though_time_is_up(
    airflow: Runner, server: LocalSageMaker
) -> None:
    name = steps.submit(server)
    ended(server, name)
    assert sense(airflow, TooLate, training_job=name).xcom("sensor") == {"name": name, "status": "Completed"}


@pytest.mark.parametrize(("options", "state"), [({}, "failed"), ({"soft_fail": True}, "skipped")])
def test_a_timeout_stays_one_though_nobody_can_look(
    airflow: Runner, server: LocalSageMaker, options: dict[str, bool], state: str
) -> None:
    once = {"retries": {"total_max_attempts": 1}}
    with server.fault("throttle", action="DescribeTrainingJob") as fault:
        run = sense(airflow, TooLate, training_job="any", retries=2, botocore_config=once, **options)
        assert fault.rule["hits"] == 1
    assert run.states == {"sensor": state}
    assert "Whether it has ended meanwhile cannot be told" in run.log


@pytest.mark.parametrize("deferrable", WAITING)
@pytest.mark.parametrize(
    ("options", "state"), [({}, "failed"), ({"soft_fail": True}, "skipped"), ({"never_fail": True}, "skipped")]
)
def test_a_job_that_has_failed_already_skips_a_sensor_that_is_to_fail_softly(
    airflow: Runner, server: LocalSageMaker, deferrable: bool, options: dict[str, bool], state: str
) -> None:
    name = steps.submit(server, fail="1")
    ended(server, name)
    assert sense(airflow, training_job=name, deferrable=deferrable, **options).states == {"sensor": state}


def test_credentials_that_expire_while_a_sensor_pokes_are_renewed(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path
) -> None:
    name = steps.submit(server, wait_for=tmp_path / "flag")
    with server.fault("expired", action="DescribeTrainingJob", skip=1, times=1) as expired:
        with released_by_looks(server, tmp_path / "flag"):
            run = sense(airflow, training_job=name, deferrable=False)
        assert expired.rule["hits"] == 1
    assert run.state == "success", run.errors


def test_a_record_or_its_text_names_what_to_wait_for(airflow: Runner, server: LocalSageMaker) -> None:
    with airflow.dag() as dag:
        train = steps.train(package=steps.package(server), wait_for_completion=False)
        TrainingJobSensor(task_id="record", training_job=train.output, check_interval=0.05)
        text = "{{ ti.xcom_pull(task_ids='train') | tojson }}"
        train >> TrainingJobSensor(task_id="text", training_job=text, check_interval=0.05)
    run = airflow.run(dag)
    assert run.state == "success", run.errors
    assert run.xcom("record") == run.xcom("text") == {"name": run.xcom("train")["job_name"], "status": "Completed"}


def test_the_connection_is_the_one_that_is_named(
    airflow: Runner, server: LocalSageMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = server.env["AIRFLOW_CONN_AWS_DEFAULT"].replace("us-east-1", "ap-south-1")
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", connection)
    monkeypatch.delenv("AIRFLOW_CONN_AWS_DEFAULT")
    name = steps.submit(server)
    ended(server, name)
    run = sense(airflow, training_job=name, aws_conn_id="elsewhere", region_name="us-east-1")
    assert run.state == "success", run.errors
    assert sense(airflow, training_job=name, aws_conn_id="elsewhere").state == "failed", "the server has one region"
