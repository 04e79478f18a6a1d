"""``kill -9`` of the task's process at every AWS call it makes, before and after the call; the retry puts it right.

The server kills who asks, so that the moment is exact. One rule predicts every row: what is billable is created once,
whatever crashes; never are two jobs of a task instance alive; after the teardown nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Runner
from tests.local.sagemaker_requests import unique, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CREATES = ("CreateTrainingJob", "CreateModel", "CreateEndpointConfig", "CreateEndpoint")
WHENS = ("before", "after")


@dataclass
class Row:
    """What became of a run whose process was killed at a call."""

    call: int
    when: str
    action: str
    exit: int
    created: dict[str, int]
    statuses: list[str]
    overlaps: int
    left: list[str]
    state: str

    def __str__(self) -> str:
        made = " ".join(
            f"{action.removeprefix('Create')}={number}" for action, number in self.created.items() if number
        )
        jobs = ",".join(self.statuses)
        head = f"{self.call:>3} {self.when:<6} {self.action:<24} exit {self.exit:>3}"
        return f"{head}  {made:<40} {jobs:<20} left {len(self.left)}  {self.state}"

    def faults(self, jobs: int) -> list[str]:
        """What the rule forbids and the row shows.

        :param jobs: how many jobs the run needs.
        """
        wanted = {"CreateTrainingJob": jobs + sum(status in ("Failed", "Stopped") for status in self.statuses)}
        found = [
            f"{action} was accepted {number} times"
            for action, number in self.created.items()
            if number > wanted.get(action, 1)
        ]
        found += [f"{self.overlaps} jobs lived beside another"] * bool(self.overlaps)
        found += [f"left: {self.left}"] * bool(self.left)
        found += [f"exit status {self.exit}"] * (self.exit != -9)
        return found + [f"the run is {self.state}"] * (self.state != "success")


def overlaps(jobs: list[dict[str, Any]]) -> int:
    """How many jobs were submitted while the one before was still alive."""
    spans: list[tuple[datetime, datetime]] = [(job["CreationTime"], job["TrainingEndTime"]) for job in jobs]
    return sum(later[0] < earlier[1] for earlier, later in pairwise(spans))


def matrix(airflow: Runner, make: Callable[[], Any], jobs: int) -> list[Row]:
    """Kill the process at each call; as many rows as the run makes calls, times two."""
    server = airflow.sagemaker
    dag, before = make(), len(server.requests())
    run = airflow.run(dag)
    assert run.state == "success", run.errors
    calls = steps.actions(server, before)
    print(f"\nAn undisturbed run makes {len(calls)} calls: {' '.join(calls)}")
    rows: list[Row] = []
    for when in WHENS:
        for number in count():
            row = killed_at(airflow, make(), number, when)
            if row is None:  # the run makes no further call
                break
            print(row, flush=True)
            rows.append(row)
        missed = set(calls) - {row.action for row in rows if row.when == when}
        assert not missed, f"never killed {when} {missed}"
    print(f"{len(rows)} rows")
    assert [f"{row}: {faults}" for row in rows if (faults := row.faults(jobs))] == []
    return rows


def killed_at(airflow: Runner, dag: Any, number: int, when: str) -> Row | None:
    """Run a DAG whose process is killed at a call, and let it go on; None if it makes fewer calls."""
    server, prefix = airflow.sagemaker, dag.dag_id.replace("_", "-")
    run = airflow.create(dag)
    asked = len(server.requests())
    with server.fault("kill", when=when, skip=number) as fault:
        status = airflow.killed(run)
        fired = fault.rule["hits"]
    killed = until(lambda: _killed(server, asked), lambda lines: len(lines) == fired)
    airflow.go_on(run)
    if not fired:
        assert status == 0
        return None
    accepted = [line["action"] for line in server.requests()[asked:] if _accepted(line, when)]
    found = steps.jobs_of(server, dag.dag_id)
    return Row(
        call=number + 1,
        when=when,
        action=killed[0]["action"],
        exit=status,
        created={action: accepted.count(action) for action in CREATES},
        statuses=[job["TrainingJobStatus"] for job in found],
        overlaps=overlaps(found),
        left=steps.left_of(server, prefix),
        state=run.state,
    )


def _killed(server: LocalSageMaker, since: int) -> list[dict[str, Any]]:
    return [line for line in server.requests()[since:] if line.get("fault") == "kill"]


def _accepted(line: dict[str, Any], when: str) -> bool:
    """Whether a call had its effect; the one whose caller was killed after it had, though nobody was answered."""
    return when == "after" if line.get("fault") == "kill" else line["status"] == 200


def test_one_job_whatever_call_of_train_the_worker_dies_at(airflow: Runner, local_sagemaker: LocalSageMaker) -> None:
    def make() -> Any:
        with airflow.dag(default_args={"retries": 3}) as dag:
            steps.train(package=steps.package(local_sagemaker), check_interval=1, hyperparameters={"text": unique("t")})
        return dag

    rows = matrix(airflow, make, jobs=1)

    assert {"ListTrainingJobs", "CreateTrainingJob", "DescribeTrainingJob"} <= {row.action for row in rows}


def test_the_retry_waits_for_the_job_that_still_runs(
    airflow: Runner, local_sagemaker: LocalSageMaker, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    with airflow.dag(default_args={"retries": 3}) as dag:
        waiting = {"wait-for": str(flag)}
        steps.train(package=steps.package(local_sagemaker), hyperparameters=waiting)
    run = airflow.create(dag)
    with local_sagemaker.fault("kill", action="CreateTrainingJob", when="after"):
        assert airflow.killed(run) == -9

    def release() -> None:
        name = steps.running_job(local_sagemaker, dag.dag_id)
        asked = len(local_sagemaker.requests())
        until(lambda: steps.actions(local_sagemaker, asked).count("DescribeTrainingJob"), lambda times: times > 3)
        assert name.endswith("-1")
        flag.touch()

    with steps.meanwhile(release):
        airflow.go_on(run)
    assert run.state == "success"
    assert run.xcom("train")["attached"]
    assert len(steps.jobs_of(local_sagemaker, dag.dag_id)) == 1


def test_nothing_twice_and_nothing_left_whatever_call_of_deploy_or_teardown_the_worker_dies_at(
    airflow: Runner, local_sagemaker: LocalSageMaker
) -> None:
    from airflow.providers.standard.operators.empty import EmptyOperator

    from airflow_sm_git import TeardownOperator

    def make() -> Any:
        with airflow.dag(default_args={"retries": 3, "retry_delay": 0}) as dag:
            begin = EmptyOperator(task_id="begin")
            options = {"package": steps.package(local_sagemaker), "check_interval": 1}
            deploy = steps.deploy(model_data=steps.model_data(local_sagemaker, unique("w")), **options)
            end = TeardownOperator(task_id="teardown", policy="always", check_interval=1)
            begin >> deploy >> end.as_teardown(setups=begin, on_failure_fail_dagrun=True)
        return dag

    rows = matrix(airflow, make, jobs=0)

    assert {*CREATES[1:], "DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel"} <= {row.action for row in rows}


def test_the_rule_finds_what_it_forbids() -> None:
    good = Row(1, "after", "CreateTrainingJob", -9, {"CreateTrainingJob": 1}, ["Completed"], 0, [], "success")
    assert good.faults(1) == []
    assert Row(**{**vars(good), "created": {"CreateTrainingJob": 2}}).faults(1)
    assert not Row(**{**vars(good), "created": {"CreateTrainingJob": 2}, "statuses": ["Failed", "Completed"]}).faults(1)
    for wrong in ({"overlaps": 1}, {"left": ["x"]}, {"exit": 0}, {"state": "failed"}):
        assert Row(**{**vars(good), **wrong}).faults(1), wrong
