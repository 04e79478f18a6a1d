"""Deferred task instances and their triggers, put into Airflow's database. A program that either side's Python runs.

The triggers are held back in a queue that no triggerer serves, until one statement of the caller's lets all go at once.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

DAG_ID = RUN_ID = "waits"
TASK_ID = "wait"
HELD = "held"
DAG_FILE = f"""
from airflow.sdk import DAG, BaseOperator

with DAG("{DAG_ID}", schedule=None):
    BaseOperator(task_id="{TASK_ID}")
"""


def trigger(side: str, name: str, age: float, interval: int) -> tuple[str, dict[str, Any]]:
    """Class path and arguments of one wait.

    :param side: ``ours``, ``logs`` for ours that prints the job's log too, ``amazon``, or ``idle`` for a trigger that
        does nothing.
    :param name: of the training job.
    :param age: seconds since the job began.
    :param interval: seconds between two looks.
    """
    now = datetime.now(UTC)
    if side in ("ours", "logs"):
        return "airflow_sm_git.triggers.training_job.TrainingJobTrigger", {
            "name": name,
            "since": (now - timedelta(seconds=age)).isoformat(),
            "deadline": (now + timedelta(days=1)).isoformat(),
            "check_interval": interval,
            "memo": {},
            "print_log": side == "logs",
            "aws_conn_id": "aws_default",
        }
    if side == "amazon":
        return "airflow.providers.amazon.aws.triggers.sagemaker.SageMakerTrigger", {
            "job_name": name,
            "job_type": "training",
            "waiter_delay": interval,
            "waiter_max_attempts": 20_000,
            "aws_conn_id": "aws_default",
        }
    return "benchmarks.waits_probe.Idle", {"name": name}


def insert(order: dict[str, Any]) -> None:
    """Insert a run of the DAG with one mapped task instance for each wait, and one for the probe, which is not held."""
    from airflow.models.dag_version import DagVersion
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    waits = [trigger(order["side"], name, order["age"], order["interval"]) for name in order["names"]]
    with create_session() as session:
        dag = SerializedDagModel.get_dag(DAG_ID, session=session)
        version = DagVersion.get_latest_version(DAG_ID, session=session)
        assert dag is not None and version is not None, "the DAG is not in the database"
        dag.create_dagrun(
            run_id=RUN_ID,
            run_after=datetime.now(UTC),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            session=session,
        )
        rows = [Trigger(path, kwargs, queue=HELD) for path, kwargs in waits]
        rows.append(Trigger("benchmarks.waits_probe.Probe", {"path": order["probe"]}))
        session.add_all(rows)
        session.flush()
        task = dag.get_task(TASK_ID)
        for number, row in enumerate(rows):
            instance = TaskInstance(task, version.id, run_id=RUN_ID, state=TaskInstanceState.DEFERRED, map_index=number)
            instance.trigger_id = row.id
            instance.next_method = "execute_complete"
            session.add(instance)


if __name__ == "__main__":
    insert(json.load(sys.stdin))
