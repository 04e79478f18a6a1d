"""Report: what a run did, and its colour."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import task, task_group

from airflow_sm_git import PredictOperator, ReportOperator
from tests.airflow_runner import Runner


@task(retries=0)
def work(fail: bool = False) -> None:
    if fail:
        raise ValueError("the work failed")


def test_it_holds_the_records_of_all_tasks(airflow: Runner, echo: str) -> None:
    with airflow.dag() as dag:
        PredictOperator(task_id="predict", endpoint=echo, data="x") >> ReportOperator(task_id="report")
    run = airflow.run(dag)
    assert run.xcom("report") == {
        "schema": 1,
        "dag_id": dag.dag_id,
        "run_id": run.run_id,
        "succeeded": True,
        "tasks": {"predict": "success"},
        "indexes": {"-1": {"prediction": run.xcom("predict")}},
    }
    assert f"Run {run.run_id} of {dag.dag_id}: succeeded" in run.log


def test_it_fails_when_anything_before_it_failed_and_still_hands_out_the_record(airflow: Runner) -> None:
    with airflow.dag() as dag:
        bad, good = work.override(task_id="bad")(fail=True), work.override(task_id="good", trigger_rule="all_done")()
        bad >> good >> ReportOperator(task_id="report")
    run = airflow.run(dag)
    assert run.state == "failed"
    assert run.states["report"] == "failed"
    assert str(run.errors["report"]).startswith("The run failed: bad (failed).")
    report = run.xcom("report")
    assert (report["succeeded"], report["tasks"]) == (False, {"bad": "failed", "good": "success"})


def test_a_task_that_could_not_run_is_a_failure_too_but_a_skipped_one_is_not(airflow: Runner) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    @task
    def skip() -> None:
        raise AirflowSkipException

    with airflow.dag() as dag:
        skip() >> ReportOperator(task_id="report")
    assert airflow.run(dag).state == "success"
    with airflow.dag() as dag:
        work(fail=True) >> work.override(task_id="after")() >> ReportOperator(task_id="report")
    run = airflow.run(dag)
    assert "The run failed: work (failed)." in str(run.errors["report"])


@pytest.mark.parametrize("bad_index", [0, 1])
def test_behind_a_mapped_group_it_tells_of_every_index(airflow: Runner, bad_index: int) -> None:
    with airflow.dag() as dag:

        @task
        def divide(ti: Any = None) -> None:
            assert ti.map_index != bad_index

        @task_group
        def each(data: Any) -> None:
            divide.override(task_id="work")()

        each.expand(data=[1, 2]) >> ReportOperator(task_id="report")
    run = airflow.run(dag)
    good = 1 - bad_index
    assert run.state == "failed"
    assert run.xcom("report")["tasks"] == {f"each.work[{bad_index}]": "failed", f"each.work[{good}]": "success"}
    assert set(run.xcom("report")["indexes"]) == {"0", "1"}
    assert f"each.work[{bad_index}] (failed)" in str(run.errors["report"])


def test_a_run_that_is_marked_failed_ends_red_and_is_reported_though_no_task_had_failed(
    airflow: Runner, echo: str
) -> None:
    with airflow.dag() as dag:
        first, second = (PredictOperator(task_id=name, endpoint=echo, data="x") for name in ("first", "second"))
        begin = work.override(task_id="begin")()
        clean = work.override(task_id="clean")().as_teardown(setups=begin, on_failure_fail_dagrun=True)
        begin >> first >> second >> clean >> ReportOperator(task_id="report")
    run = airflow.create(dag)
    airflow.step(run)
    airflow.step(run)
    airflow.mark_failed(run)
    airflow.go_on(run)
    states = {"begin": "success", "first": "success", "second": "skipped", "clean": "success", "report": "failed"}
    assert (run.state, run.states) == ("failed", states)
    assert "second (skipped)" in str(run.errors["report"])


def test_a_step_that_another_task_skips_is_no_failure(airflow: Runner, echo: str) -> None:
    @task.short_circuit
    def gate() -> bool:
        return False

    with airflow.dag() as dag:
        first, second = (PredictOperator(task_id=name, endpoint=echo, data="x") for name in ("first", "second"))
        first >> gate() >> second >> ReportOperator(task_id="report")
    run = airflow.run(dag)
    assert (run.states["second"], run.state) == ("skipped", "success"), run.states
