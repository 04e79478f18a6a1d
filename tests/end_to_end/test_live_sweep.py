"""The sweep example under a live scheduler, on the newest Airflow and the oldest: Airflow tells whose run is over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.live_airflow import LiveAirflow, live_airflow
from tests.local.sagemaker_requests import client, unique

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLE = Path(__file__).resolve().parents[2] / "dags" / "examples" / "sweep.py"


def sweep(airflow: LiveAirflow, **conf: Any) -> Any:
    """Run the example; its record."""
    run = airflow.trigger("sweep", conf)
    assert airflow.ended("sweep", run) == "success", airflow.states("sweep", run)
    return airflow.xcom("sweep", run, "sweep")


def job(airflow: LiveAirflow, dag_id: str, run: str) -> str:
    """The name of the job that a run waits for, as soon as it is deferred."""
    waits = lambda: airflow.states(dag_id, run)["train"] == "deferred"  # noqa: E731
    airflow.eventually(waits, f"{dag_id}'s train is deferred")
    return str(airflow.xcom(dag_id, run, "train", "sm_git_training_job_link")).rpartition("/")[2]


@pytest.mark.parametrize("version", ["newest", "3.0.6"])
def test_jobs_are_stopped_whose_run_has_ended_or_was_deleted_and_kept_whose_run_goes_on(
    local_sagemaker: LocalSageMaker, tmp_path: Path, version: str
) -> None:
    gate = tmp_path / "gate"
    environment = {
        **local_sagemaker.env,
        "AIRFLOW__SM_GIT__NAMESPACE": unique("ns"),
        "SM_GIT_TEST_GATE": str(gate),
        "SM_GIT_TEST_PACKAGE": json.dumps(steps.package(local_sagemaker)),
    }
    dags = [EXAMPLE, Path(__file__).with_name("leaving.py")]
    with live_airflow(tmp_path / "airflow", environment, dags, version) as airflow:
        airflow.wait_for_dags("sweep", "leaving", "going_on")
        runs = {"ended": airflow.trigger("leaving"), "gone": airflow.trigger("leaving")}
        going = airflow.trigger("going_on")
        jobs = {name: job(airflow, "leaving", run) for name, run in runs.items()}
        jobs["goes on"] = job(airflow, "going_on", going)
        for run in runs.values():
            airflow.call("PATCH", f"dags/leaving/dagRuns/{quote(run)}", {"state": "failed"})
            assert airflow.ended("leaving", run) == "failed"
        airflow.call("DELETE", f"dags/leaving/dagRuns/{quote(runs['gone'])}")

        listed = {each["name"]: each["reason"] for each in sweep(airflow, delete=False)["listed"]}
        assert listed == {
            jobs["ended"]: "its run has ended",
            jobs["gone"]: "its run is gone",
            jobs["goes on"]: "its run has not ended",
        }
        record = sweep(airflow)
        assert set(record["deleted"]) == {f"TrainingJob {jobs[name]}" for name in ("ended", "gone")}
        assert record["kept"] == [f"TrainingJob {jobs['goes on']}"]
        boto = client(local_sagemaker, "sagemaker")
        status = boto.describe_training_job(TrainingJobName=jobs["goes on"])["TrainingJobStatus"]
        assert status == "InProgress"
        gate.touch()
        assert airflow.ended("going_on", going) == "success"
