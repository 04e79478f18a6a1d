"""What a task does when one action is denied that is not what the task is about."""

from __future__ import annotations

import pytest

from airflow_sm_git.clients.jobs import stop_job
from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Runner
from tests.denying_proxy import denying_proxy
from tests.local.sagemaker_requests import ended


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


@pytest.mark.parametrize("fails", [False, True])
def test_a_log_that_may_not_be_read_changes_nothing_of_how_a_job_ended(
    airflow: Runner, server: LocalSageMaker, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    with denying_proxy(server.url, "DescribeLogStreams") as proxy:
        connection = server.env["AIRFLOW_CONN_AWS_DEFAULT"].replace(server.url, proxy.url)
        monkeypatch.setenv("AIRFLOW_CONN_WITHOUT_LOGS", connection)
        with airflow.dag() as dag:
            hyperparameters = {"fail": "yes"} if fails else {}
            steps.train(
                package=steps.package(server),
                aws_conn_id="without_logs",
                hyperparameters=hyperparameters,
                print_log=True,
            )
        run = airflow.run(dag)
        assert proxy.refusals, "the log was asked for, and refused"
    assert "cannot be read" in run.log
    assert run.states["train"] == ("failed" if fails else "success")
    if fails:
        assert "ExitCode 1" in str(run.errors["train"]), "the job's own reason, not the log's"
        assert run.xcom("train")["status"] == "Failed", "the record is there for the report"
    else:
        assert run.xcom("train")["status"] == "Completed"


def test_a_job_is_stopped_although_it_may_not_be_marked(server: LocalSageMaker) -> None:
    name = steps.submit(server, wait_for="/nowhere")
    with denying_proxy(server.url, "AddTags") as proxy:
        client = server.client("sagemaker", endpoint_url=proxy.url)
        assert stop_job(SageMakerClient(client), name, "killed")
        assert proxy.refusals
    assert ended(server, name)["TrainingJobStatus"] == "Stopped"
