"""A retry waits as long as its error asks for, on Airflows that ask; errors that no retry helps fail at once on all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import BaseOperator, ExceptionRetryPolicy
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_sm_git import TrainOperator
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from airflow_sm_git.operators.retries import ErrorRetryPolicy
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.local.sagemaker_requests import IMAGE, ROLE

AIRFLOWS = BaseOperator.retry_delay


def one_try(airflow: Runner, dag: Any) -> tuple[Run, Any]:
    """Run a task's first try; how it stands in the database then."""
    run = airflow.create(dag)
    airflow.step(run)
    with create_session() as session:
        query = select(TaskInstance).where(TaskInstance.dag_id == dag.dag_id, TaskInstance.run_id == run.run_id)
        ti = session.scalars(query).one()
        session.expunge(ti)
    ti.task = dag.task_dict[ti.task_id]
    return run, ti


@pytest.mark.parametrize(("delay", "least", "most"), [(AIRFLOWS, 590, 610), (timedelta(seconds=30), 20, 31)])
def test_a_job_without_capacity_is_tried_again_later_unless_the_task_has_a_delay_of_its_own(
    airflow: Runner, local_sagemaker: LocalSageMaker, delay: timedelta, least: int, most: int
) -> None:
    with airflow.dag() as dag:
        steps.train(package=steps.package(local_sagemaker), retries=1, retry_delay=delay)
    prefix = dag.dag_id.replace("_", "-")
    with local_sagemaker.fault("capacity", action="CreateTrainingJob", resource=prefix) as fault:
        run, ti = one_try(airflow, dag)
        assert fault.rule["hits"] == 1
    assert "OutOfCapacity" in repr(run.errors["train"])
    assert str(ti.state) == "up_for_retry"
    assert least <= (ti.next_retry_datetime() - datetime.now(UTC)).total_seconds() <= most


def test_a_mapped_task_has_the_policy_too(airflow: Runner, local_sagemaker: LocalSageMaker) -> None:
    own = ExceptionRetryPolicy(rules=[])
    with airflow.dag() as dag:
        options = {"package": steps.package(local_sagemaker), "image_uri": IMAGE, "role": ROLE}
        TrainOperator.partial(task_id="mapped", **options).expand(hyperparameters=[{"text": "one"}])
        chosen = TrainOperator.partial(task_id="chosen", retry_policy=own, **options).expand(tags=[{}])
    assert chosen.partial_kwargs["retry_policy"] is own
    assert dag.task_dict["mapped"].has_retry_policy
    unmapped = dag.task_dict["mapped"].unmap({"hyperparameters": {"text": "one"}})
    assert isinstance(unmapped.retry_policy, ErrorRetryPolicy)


def test_a_policy_of_the_users_own_stays(airflow: Runner) -> None:
    own = ExceptionRetryPolicy(rules=[])
    for given in (own, None):
        with airflow.dag(default_args={"retry_policy": given}):
            by_default = steps.train(task_id="by_default", package=None)
            by_name = steps.train(task_id="by_name", package=None, retry_policy=given)
        assert by_name.retry_policy is given
        assert by_default.retry_policy is own if given else isinstance(by_default.retry_policy, ErrorRetryPolicy)
