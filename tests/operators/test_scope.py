"""Which task instance a state belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.airflow_runner import Runner


@pytest.mark.parametrize("fails", [True, False])
def test_a_mapped_instance_is_not_taken_for_a_task_that_has_its_name(airflow: Runner, fails: bool) -> None:
    from airflow.sdk import task

    from airflow_sm_git import ReportOperator

    @task
    def work(number: int) -> int:
        if fails and number:
            raise ValueError("this index fails")
        return number

    with airflow.dag() as dag:
        mapped: Any = work.override(task_id="a").expand(number=[0, 1])
        namesake: Any = work.override(task_id="a_1")(0)
        [mapped, namesake] >> ReportOperator(task_id="report")
    run = airflow.run(dag)
    report = run.xcom("report")
    expected = {"a[0]": "success", "a[1]": "failed" if fails else "success", "a_1": "success"}
    assert report["tasks"] == expected
    assert report["succeeded"] is not fails
    assert run.state == ("failed" if fails else "success")
