"""Airflow's database is away for a while, under a live Airflow: the job goes on, and its task ends well."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.live_airflow import live_airflow
from tests.local.sagemaker_requests import IMAGE, ROLE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE = 15  # seconds that Airflow's processes wait for their database
AWAY = 75
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
DAG_ID = "database_away"
DAG = f"""
import json, os
from airflow.sdk import DAG
from airflow_sm_git import TrainOperator

with DAG("{DAG_ID}", schedule=None):
    for task_id, deferrable in (("deferred", True), ("in_worker", False)):
        TrainOperator(
            task_id=task_id,
            package=json.loads(os.environ["SM_GIT_TEST_PACKAGE"]),
            image_uri="{IMAGE}",
            role="{ROLE}",
            hyperparameters={{"wait-for": os.environ["SM_GIT_TEST_GATE"]}},
            deferrable=deferrable,
            check_interval=1,
        )
"""


@pytest.mark.parametrize("version", ["newest", "3.0.6"])
def test_jobs_outlive_the_absence_of_the_database(
    local_sagemaker: LocalSageMaker, tmp_path: Path, version: str
) -> None:
    gate = tmp_path / "gate"
    file = tmp_path / f"{DAG_ID}.py"
    file.write_text(DAG)
    database = tmp_path / "airflow" / "away.db"
    environment = {
        **local_sagemaker.env,
        # Without a write-ahead log, whoever locks this database keeps readers out too.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}?timeout={PATIENCE}",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
        # A worker that cannot reach Airflow ends its task.
        "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "1",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": str(PATIENCE),
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "2",
        "SM_GIT_TEST_GATE": str(gate),
        "SM_GIT_TEST_PACKAGE": json.dumps(steps.package(local_sagemaker)),
    }
    known = {job["TrainingJobName"] for job in steps.jobs_of(local_sagemaker, DAG_ID)}

    def jobs() -> list[str]:
        made = steps.jobs_of(local_sagemaker, DAG_ID)
        return [job["TrainingJobStatus"] for job in made if job["TrainingJobName"] not in known]

    with live_airflow(tmp_path / "airflow", environment, [file], version) as airflow:
        airflow.wait_for_dags(DAG_ID)
        run = airflow.trigger(DAG_ID)
        waits = lambda: " starting" in airflow.log_files(DAG_ID, run, "deferred")  # noqa: E731
        airflow.eventually(waits, "the triggerer waits")
        airflow.eventually(lambda: len(jobs()) == 2, "both jobs run")

        before = airflow.output.stat().st_size
        _lock(database, AWAY)
        said = airflow.output.read_bytes()[before:].decode(errors="replace")
        ended: list[str] = []

        def waits_again() -> bool:
            """Start what has ended, as whoever supervises Airflow does."""
            gone = [part for part in PARTS if not airflow.processes(part)]
            for part in gone:
                airflow.start(part)
            ended.extend(gone)
            here = "Attempt 1: wait for the running job" in airflow.log_files(DAG_ID, run, "in_worker", "*")
            return here and airflow.log_files(DAG_ID, run, "deferred").count(" starting") > 1

        airflow.eventually(waits_again, "both wait again")
        assert jobs() == ["InProgress", "InProgress"]
        gate.touch()
        assert airflow.ended(DAG_ID, run) == "success", airflow.states(DAG_ID, run)
        if version == "newest":  # on 3.0 the task's process ends with its supervisor, without a word to the task
            assert "runs on" in airflow.log_files(DAG_ID, run, "in_worker", "attempt=1.log")
    assert "database is locked" in said
    print(
        f"\nAirflow {version}: its database was away for {AWAY} s; ended and started again: {', '.join(ended) or '-'}"
    )
    assert jobs() == ["Completed", "Completed"], "one for each task"


def _lock(database: Path, seconds: float) -> None:
    """Keep everybody out of a database."""
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")
