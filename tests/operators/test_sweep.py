"""The sweep in Airflow: what it is told, what it asks Airflow, and what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task

from airflow_sm_git import SweepOperator
from airflow_sm_git.core.names import TaskKey, content_name, endpoint_name, make_tags
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.local.sagemaker_requests import BUCKET, client, model, unique

PREFIX = f"s3://{BUCKET}/tests/sweeps"


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> str:
    name = unique("ns")
    monkeypatch.setenv("AIRFLOW__SM_GIT__NAMESPACE", name)
    return name


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


def in_an_hour(hours: int = 1) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")


def leave(server: LocalSageMaker, namespace: str, lease: str) -> str:
    """A model with a lease; its title."""
    name = content_name(endpoint_name(TaskKey(namespace, "dag", unique("run"), "deploy")), "model")
    tags = make_tags({"namespace": namespace, "dag": "dag", "run": "run", "lease-until": lease})
    client(server, "sagemaker").create_model(**{**model(server), "ModelName": name, "Tags": tags})
    return f"Model {name}"


def run_sweep(airflow: Runner, **options: Any) -> Run:
    with airflow.dag() as dag:
        SweepOperator(**{"task_id": "sweep", "check_interval": 0.05, "s3_uri_prefix": PREFIX, "retries": 0, **options})
    return airflow.run(dag)


def marker(server: LocalSageMaker, namespace: str) -> dict[str, Any] | None:
    s3, key = client(server, "s3"), f"tests/sweeps/sweeps/us-east-1/{namespace}.json"
    if not s3.list_objects_v2(Bucket=BUCKET, Prefix=key).get("Contents"):
        return None
    return dict(json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()))


def test_it_lists_and_deletes_nothing_unless_told_and_leaves_no_mark(
    airflow: Runner, server: LocalSageMaker, namespace: str
) -> None:
    title = leave(server, namespace, in_an_hour(-1))
    run = run_sweep(airflow)
    record = run.xcom("sweep")
    assert run.state == "success", run.errors
    assert [each["name"] for each in record["listed"]] == [title.split()[1]]
    assert (record["schema"], record["namespace"], record["deleted"], record["kept"]) == (1, namespace, [], [title])
    assert "expired: its lease has ended" in run.log
    assert marker(server, namespace) is None


def test_it_deletes_what_has_expired_and_writes_down_when(
    airflow: Runner, server: LocalSageMaker, namespace: str
) -> None:
    expired, leased = leave(server, namespace, in_an_hour(-1)), leave(server, namespace, in_an_hour())
    run = run_sweep(airflow, delete="{{ 'True' }}")
    record = run.xcom("sweep")
    assert (record["deleted"], record["kept"]) == ([expired], [leased])
    assert marker(server, namespace) == {
        "schema": 1,
        "namespace": namespace,
        "region": "us-east-1",
        "swept_at": record["swept_at"],
        "deleted": 1,
        "kept": 1,
    }


@pytest.mark.parametrize("age", ["1s", 1, 1.0, timedelta(seconds=1)])
def test_older_than_is_taken_as_text_number_or_timedelta(
    airflow: Runner, server: LocalSageMaker, namespace: str, age: Any
) -> None:
    title = leave(server, namespace, in_an_hour())
    assert run_sweep(airflow, delete=True, older_than="1h").xcom("sweep")["deleted"] == []
    steps.until(lambda: run_sweep(airflow, delete=True, older_than=age).xcom("sweep")["deleted"], bool)
    assert title.split()[1] not in str(run_sweep(airflow).xcom("sweep"))


@pytest.mark.parametrize("age", [None, "", "{{ none }}"])
def test_no_age_means_leases_alone(airflow: Runner, server: LocalSageMaker, namespace: str, age: Any) -> None:
    title = leave(server, namespace, in_an_hour())
    assert run_sweep(airflow, delete=True, older_than=age).xcom("sweep")["kept"] == [title]


@pytest.mark.parametrize("age", ["0", 0, "true", True, "3w", -1, 0.5, timedelta(0)])
def test_an_age_that_is_none_is_refused_before_anything_is_deleted(
    airflow: Runner, server: LocalSageMaker, namespace: str, age: Any
) -> None:
    leave(server, namespace, in_an_hour(-1))
    begun = len(server.requests())
    run = run_sweep(airflow, delete=True, older_than=age)
    assert "is not a duration" in str(run.errors["sweep"])
    assert "DeleteModel" not in steps.actions(server, begun)


def test_what_could_not_be_deleted_makes_it_red_with_the_record_and_without_a_mark(
    airflow: Runner, server: LocalSageMaker, namespace: str
) -> None:
    stays, goes = (leave(server, namespace, in_an_hour(-1)) for _ in range(2))
    with server.fault("denied", action="DeleteModel", resource=stays.split()[1], times=0):
        run = run_sweep(airflow, delete=True)
    assert run.state == "failed"
    assert "sagemaker:DeleteModel" in str(run.errors["sweep"])
    assert (run.xcom("sweep")["deleted"], run.xcom("sweep")["kept"]) == ([goes], [stays])
    assert marker(server, namespace) is None


def test_a_mark_that_cannot_be_written_is_a_warning(airflow: Runner, namespace: str) -> None:
    run = run_sweep(airflow, delete=True, s3_uri_prefix="s3://there-is-no-such-bucket/x")
    assert run.state == "success", run.errors
    assert "This sweep leaves no mark" in run.log


@pytest.fixture
def flag(tmp_path: Path) -> Iterator[Path]:
    """Jobs run until there is this file."""
    yield tmp_path / "flag"
    (tmp_path / "flag").touch()


def training_dag(airflow: Runner, server: LocalSageMaker, flag: Path, fail: bool, detached: bool = False) -> Any:
    """A run that leaves a running job behind.

    :param detached: whether it was meant to outlive its run.
    """

    def attach(context: Any) -> None:
        arns = [job["TrainingJobArn"] for job in steps.jobs_of(server, context["dag"].dag_id)]
        for arn in [] if detached else arns:
            assert steps.tags_of(server, arn)["detached"] == "true"
            client(server, "sagemaker").delete_tags(ResourceArn=arn, TagKeys=["sm-git:detached"])

    @task(retries=0, pre_execute=attach)
    def end(fail: bool) -> None:
        if fail:
            raise ValueError("the run failed")

    with airflow.dag() as dag:
        options = {"hyperparameters": {"wait-for": str(flag)}, "wait_for_completion": False}
        steps.train(package=steps.package(server), **options) >> end(fail)
    return dag


@pytest.mark.parametrize("fail", [False, True], ids=["success", "failed"])
def test_a_job_whose_run_has_ended_is_stopped_though_its_lease_has_not(
    airflow: Runner, server: LocalSageMaker, namespace: str, flag: Path, fail: bool
) -> None:
    dag = training_dag(airflow, server, flag, fail)
    assert airflow.run(dag).state == ("failed" if fail else "success")
    [job] = steps.jobs_of(server, dag.dag_id)
    assert job["TrainingJobStatus"] == "InProgress"
    listed = run_sweep(airflow).xcom("sweep")["listed"]
    assert [(each["sweep"], each["reason"]) for each in listed] == [(True, "its run has ended")]
    assert run_sweep(airflow, delete=True).xcom("sweep")["deleted"] == [f"TrainingJob {job['TrainingJobName']}"]
    [job] = steps.jobs_of(server, dag.dag_id)
    assert job["TrainingJobStatus"] in ("Stopping", "Stopped")


def test_a_job_that_its_run_does_not_wait_for_is_kept_when_the_run_has_ended(
    airflow: Runner, server: LocalSageMaker, namespace: str, flag: Path
) -> None:
    dag = training_dag(airflow, server, flag, fail=False, detached=True)
    assert airflow.run(dag).state == "success"
    assert run_sweep(airflow, delete=True).xcom("sweep")["deleted"] == []
    [job] = steps.jobs_of(server, dag.dag_id)
    assert job["TrainingJobStatus"] == "InProgress"


def test_a_job_whose_run_goes_on_is_kept_though_its_lease_has_ended(
    airflow: Runner, server: LocalSageMaker, namespace: str, flag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SM_GIT__LEASE", "0")
    dag = training_dag(airflow, server, flag, fail=False)
    records = []
    dag.task_dict["end"]._pre_execute_hook = lambda context: records.append(sweep_inside(context))
    airflow.run(dag)
    [record] = records
    assert [(each["sweep"], each["reason"]) for each in record["listed"]] == [(False, "its run has not ended")]


def sweep_inside(context: Any) -> Any:
    """Sweep while a run goes on: within one of its tasks."""
    operator = SweepOperator(task_id="sweep", delete=True, s3_uri_prefix=PREFIX)
    return operator.run(context)


class Unanswered:
    """A task instance that Airflow refuses to count runs for."""

    def get_dr_count(self, **asked: Any) -> int:
        from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse

        raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 500}))


def test_where_airflow_does_not_tell_of_a_run_the_sweep_goes_on_by_leases_alone(
    airflow: Runner, server: LocalSageMaker, namespace: str, flag: Path
) -> None:
    dag = training_dag(airflow, server, flag, fail=False)
    expired = leave(server, namespace, in_an_hour(-1))
    records = []
    sweep = SweepOperator(task_id="sweep", delete=True, s3_uri_prefix=PREFIX)
    dag.task_dict["end"]._pre_execute_hook = lambda _: records.append(sweep.run({"ti": Unanswered()}))
    run = airflow.run(dag)
    [record] = records
    [job] = steps.jobs_of(server, dag.dag_id)
    title = f"TrainingJob {job['TrainingJobName']}"
    assert (record["deleted"], record["kept"], record["failed"]) == ([expired], [title], [])
    assert run.log.count("Airflow does not tell of runs, so jobs are judged by their leases alone") == 1


def test_a_job_whose_run_is_gone_from_a_dag_that_has_others_is_stopped_and_any_other_is_not(
    airflow: Runner, server: LocalSageMaker, namespace: str, flag: Path
) -> None:
    dag = training_dag(airflow, server, flag, fail=False)
    first = airflow.run(dag)
    [job] = steps.jobs_of(server, dag.dag_id)
    tags = {"TrainingJob": job["TrainingJobArn"]}

    def rename(**changed: str) -> None:
        client(server, "sagemaker").add_tags(ResourceArn=tags["TrainingJob"], Tags=make_tags(changed))

    rename(dag="a_dag_of_another_airflow")
    assert [each["sweep"] for each in run_sweep(airflow).xcom("sweep")["listed"]] == [False]
    rename(dag=dag.dag_id, run=f"{first.run_id}x")
    listed = run_sweep(airflow).xcom("sweep")["listed"]
    assert [(each["sweep"], each["reason"]) for each in listed] == [(True, "its run is gone")]
    assert len(run_sweep(airflow, delete=True).xcom("sweep")["deleted"]) == 1
