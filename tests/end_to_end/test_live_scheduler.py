"""What ``dag.test`` cannot show: a live scheduler, triggerer and API server. All scenarios run at the same time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.denying_proxy import DenyingProxy, denying_proxy
from tests.live_airflow import LiveAirflow, live_airflow
from tests.small_model import small_corpus, small_repository

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLES = Path(__file__).resolve().parents[2] / "dags" / "examples"
GROUP = "train_deploy_predict"


@dataclass
class Stage:
    """Airflow, the server it uses, and the runs that were started together.

    :param shas: the repository's three commits, oldest first.
    """

    airflow: LiveAirflow
    sagemaker: LocalSageMaker
    proxy: DenyingProxy
    shas: list[str]
    runs: dict[str, tuple[str, str]]

    def ended(self, name: str) -> tuple[str, dict[str, str | None]]:
        """Wait for the end of a run; its state and its tasks'."""
        dag_id, run_id = self.runs[name]
        return self.airflow.ended(dag_id, run_id), self.airflow.states(dag_id, run_id)

    def xcom(self, name: str, step: str) -> Any:
        """What a step of a run returned."""
        return self.airflow.xcom(*self.runs[name], f"{GROUP}.{step}")

    def endpoints(self) -> set[str]:
        """The endpoints that exist."""
        listed = self.sagemaker.client("sagemaker").list_endpoints(MaxResults=100)["Endpoints"]
        return {each["EndpointName"] for each in listed}


@pytest.fixture(scope="module", params=["newest", "3.0.6"])
def stage(
    request: pytest.FixtureRequest, local_sagemaker: LocalSageMaker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """One Airflow of a version for all scenarios."""
    folder = tmp_path_factory.mktemp("live")
    repository, shas = small_repository(folder / "repository.git", 3, hours=24)
    with denying_proxy(local_sagemaker.url, "DeleteEndpoint") as proxy:
        connection = json.loads(local_sagemaker.env["AIRFLOW_CONN_AWS_DEFAULT"])
        connection["extra"]["endpoint_url"] = proxy.url
        environment = {
            **local_sagemaker.env,
            "AIRFLOW_CONN_AWS_TEARDOWN": json.dumps(connection),
            "AIRFLOW__SM_GIT__ALLOWED_SCHEMES": "file",
            "AIRFLOW__SM_GIT__CACHE_DIR": str(folder / "cache"),
            "SM_GIT_EXAMPLE_REPO": repository.url,
            "SM_GIT_EXAMPLE_DATA": small_corpus(folder / "corpus"),
        }
        dags = [EXAMPLES / "ui_trigger.py", EXAMPLES / "scheduled_retraining.py"]
        dags.append(Path(__file__).with_name("undeletable.py"))
        with live_airflow(folder / "airflow", environment, dags, request.param) as airflow:
            airflow.wait_for_dags("ui_trigger", "scheduled_retraining", "undeletable")
            runs = {
                "long": ("ui_trigger", {"hyperparameters": {"sleep": 30}}),
                "refused": ("ui_trigger", {"request": {"words": 13}, "policy": "always"}),
                "undeletable": ("undeletable", {}),
            }
            started = {name: (dag_id, airflow.trigger(dag_id, conf)) for name, (dag_id, conf) in runs.items()}
            interval = {"from_date": "2024-01-02T00:00:00Z", "to_date": "2024-01-04T12:00:00Z"}
            airflow.call("POST", "backfills", {"dag_id": "scheduled_retraining", "max_active_runs": 3, **interval})
            yield Stage(airflow, local_sagemaker, proxy, shas, started)


def test_a_long_job_waits_in_the_triggerer_and_the_run_ends_green_without_its_endpoint(stage: Stage) -> None:
    dag_id, run_id = stage.runs["long"]
    stage.airflow.eventually(
        lambda: stage.airflow.states(dag_id, run_id)["train"] == "deferred",
        "the train task is deferred",
        lambda: str(stage.airflow.states(dag_id, run_id)),
    )
    jobs = stage.sagemaker.client("sagemaker").list_training_jobs(NameContains="ui-trigger", MaxResults=100)
    [job] = [
        each["TrainingJobName"] for each in jobs["TrainingJobSummaries"] if each["TrainingJobStatus"] == "InProgress"
    ]
    stage.airflow.eventually(
        lambda: job in stage.airflow.trigger_log(dag_id, run_id, f"{GROUP}.train"), f"the triggerer names {job}"
    )
    assert stage.airflow.states(dag_id, run_id)["train"] == "deferred"

    state, tasks = stage.ended("long")

    assert state == "success", tasks
    assert stage.xcom("long", "train")["job_name"] == job
    assert stage.xcom("long", "predict")["body"] == "version 3 after one sentence, 20 words"
    assert stage.xcom("long", "deploy")["endpoint_name"] not in stage.endpoints()


def test_a_failed_prediction_makes_the_run_red_although_its_teardown_succeeded(stage: Stage) -> None:
    state, tasks = stage.ended("refused")

    assert state == "failed"
    assert (tasks["predict"], tasks["teardown"], tasks["report"]) == ("failed", "success", "failed")
    assert stage.xcom("refused", "deploy")["endpoint_name"] not in stage.endpoints()


def test_a_failed_delete_makes_the_run_red_until_its_teardown_is_cleared_with_the_right_to_delete(
    stage: Stage,
) -> None:
    state, tasks = stage.ended("undeletable")

    assert state == "failed"
    assert (tasks["predict"], tasks["teardown"], tasks["report"]) == ("success", "failed", "failed")
    endpoint = stage.xcom("undeletable", "deploy")["endpoint_name"]
    assert set(stage.proxy.refusals) == {endpoint}
    assert endpoint in stage.endpoints()

    stage.proxy.denied = ""
    dag_id, run_id = stage.runs["undeletable"]
    cleared = {"dag_run_id": run_id, "task_ids": [f"{GROUP}.teardown"], "include_downstream": True}
    options = {"only_failed": False, "dry_run": False, "reset_dag_runs": True}
    stage.airflow.call("POST", f"dags/{dag_id}/clearTaskInstances", {**cleared, **options})

    state, tasks = stage.ended("undeletable")
    assert state == "success", tasks
    assert endpoint not in stage.endpoints()


def test_a_backfill_of_three_nights_trains_three_commits(stage: Stage) -> None:
    runs = [run for run in stage.airflow.runs("scheduled_retraining") if run["run_type"] == "backfill"]
    assert [run["logical_date"][:10] for run in runs] == ["2024-01-02", "2024-01-03", "2024-01-04"]

    states = [stage.airflow.ended("scheduled_retraining", run["dag_run_id"]) for run in runs]

    assert states == ["success"] * 3
    packages = [stage.airflow.xcom("scheduled_retraining", run["dag_run_id"], f"{GROUP}.package") for run in runs]
    assert [package["commit"] for package in packages] == stage.shas
