"""Train: one billable job for one task instance, whatever happens to its tries."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.local.sagemaker_requests import client, ended

WAITING = [pytest.param(False, id="in the worker"), pytest.param(True, id="deferred")]


@pytest.fixture
def server(local_sagemaker: LocalSageMaker) -> LocalSageMaker:
    return local_sagemaker


def run_train(airflow: Runner, conf: dict[str, Any] | None = None, **options: Any) -> Run:
    with airflow.dag() as dag:
        steps.train(**{"package": steps.package(airflow.sagemaker), **options})
    return airflow.run(dag, conf)


@pytest.mark.parametrize("deferrable", WAITING)
def test_a_job_runs_the_package_and_its_record_tells_what_came_of_it(
    airflow: Runner, server: LocalSageMaker, deferrable: bool
) -> None:
    metric = {"Name": "score", "Regex": "score=([0-9.]+)"}
    run = run_train(airflow, hyperparameters={"text": "hello"}, metric_definitions=[metric], deferrable=deferrable)
    (job,) = steps.jobs_of(server, run.dag.dag_id)
    package = steps.package(server)
    assert run.state == "success", run.errors
    assert run.xcom("train") == {
        "schema": 1,
        "job_name": job["TrainingJobName"],
        "job_arn": job["TrainingJobArn"],
        "status": "Completed",
        "model_data": job["ModelArtifacts"]["S3ModelArtifacts"],
        "commit": package["commit"],
        "digest": package["digest"],
        "metrics": {"score": 0.5},
        "billable_seconds": job["BillableTimeInSeconds"],
        "started_at": job["TrainingStartTime"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "ended_at": job["TrainingEndTime"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": "us-east-1",
        "attached": False,
    }
    assert run.deferrals in ([["train"], []] if deferrable else [[]]), "a job may end before anybody can wait for it"
    assert "arguments [('--text', 'hello')]" in run.log


def test_a_job_says_in_its_tags_whose_it_is_and_what_it_runs(airflow: Runner, server: LocalSageMaker) -> None:
    run = run_train(airflow, owner="ada", tags={"team": "words"})
    (job,) = steps.jobs_of(server, run.dag.dag_id)
    package = steps.package(server)
    tags = steps.tags_of(server, job["TrainingJobArn"])
    ours = {"namespace": "default", "owner": "ada", "dag": run.dag.dag_id, "run": run.run_id}
    ours |= {"commit": package["commit"], "tree": package["tree"], "digest": package["digest"]}
    assert tags.items() >= {**ours, "repo": package["repo"], "package": package["s3_uri"]}.items()
    assert tags["lease-until"] > job["CreationTime"].strftime("%Y-%m-%dT%H:%M:%SZ")
    given = client(server, "sagemaker").list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
    assert {"Key": "team", "Value": "words"} in given


def test_the_link_to_the_job_is_shown_also_when_the_task_has_failed(airflow: Runner, server: LocalSageMaker) -> None:
    run = run_train(airflow, hyperparameters={"fail": "1"})
    (job,) = steps.jobs_of(server, run.dag.dag_id)
    page = f"region=us-east-1#/jobs/{job['TrainingJobName']}"
    assert run.state == "failed"
    assert run.xcom("train", "sm_git_training_job_link").endswith(page)
    assert airflow.links(run, "train")["Training job"].endswith(page), "as the user interface finds it"


def crash(context: Any, result: Any) -> None:
    """The first try ends here."""
    if context["ti"].try_number == 1:
        raise ConnectionError("the worker is gone")


def release(server: LocalSageMaker, run: Run, flag: Path) -> None:
    """Let the job end once a task waits for it: has said so, and has looked at it, or let it be looked at, again."""
    steps.until(lambda: "wait for the running job" in run.log, bool)
    asked = len(server.requests())
    looks = ("DescribeTrainingJob", "ListTrainingJobs")
    steps.until(lambda: sum(action in looks for action in steps.actions(server, asked)) > 3, bool)
    flag.touch()


def wait_next_time(context: Any) -> None:
    if context["ti"].try_number > 1:
        context["task"].wait_for_completion = True


@pytest.mark.parametrize("deferrable", WAITING)
def test_a_retry_waits_for_the_job_that_the_first_try_submitted(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path, deferrable: bool
) -> None:
    flag = tmp_path / "flag"
    with airflow.dag() as dag:
        steps.train(
            package=steps.package(server),
            hyperparameters={"wait-for": str(flag)},
            wait_for_completion=False,
            pre_execute=wait_next_time,
            post_execute=crash,
            retries=1,
            deferrable=deferrable,
        )
    run = airflow.create(dag)
    with steps.meanwhile(lambda: release(server, run, flag)):
        airflow.go_on(run)
    (job,) = steps.jobs_of(server, dag.dag_id)
    assert run.state == "success", run.errors
    assert run.deferrals == (["train"] if deferrable else [])
    assert (f"Waiting for TrainingJob {job['TrainingJobName']} until 2" in run.log) == deferrable
    assert run.xcom("train")["attached"] is True
    assert run.xcom("train")["job_name"] == job["TrainingJobName"]


def test_a_retry_takes_the_job_that_has_completed_meanwhile(airflow: Runner, server: LocalSageMaker) -> None:
    run = run_train(airflow, retries=1, post_execute=crash)
    (job,) = steps.jobs_of(server, run.dag.dag_id)
    assert run.state == "success", run.errors
    assert run.xcom("train")["attached"] is True
    assert run.xcom("train")["job_name"] == job["TrainingJobName"]


@pytest.mark.parametrize("deferrable", WAITING)
def test_a_retry_after_a_failure_submits_the_next_attempt(
    airflow: Runner, server: LocalSageMaker, deferrable: bool
) -> None:
    run = run_train(airflow, hyperparameters={"fail-attempt": 1}, retries=1, deferrable=deferrable)
    first, second = steps.jobs_of(server, run.dag.dag_id)
    assert run.state == "success", run.errors
    assert (first["TrainingJobStatus"], second["TrainingJobStatus"]) == ("Failed", "Completed")
    assert first["TrainingJobName"].removesuffix("-1") == second["TrainingJobName"].removesuffix("-2")
    assert run.xcom("train")["job_name"] == second["TrainingJobName"]


@pytest.mark.parametrize("retries", [1, 5])
def test_a_retry_after_the_dag_was_edited_takes_the_job_all_the_same(
    airflow: Runner, server: LocalSageMaker, retries: int
) -> None:
    with airflow.dag() as dag:
        task = steps.train(package=steps.package(server), retries=2, post_execute=crash)
    run = airflow.create(dag)
    airflow.step(run)
    assert run.states == {"train": "up_for_retry"}
    task.retries, task.retry_delay = retries, timedelta(0)
    task.check_interval, task.doc_md = 0.07, "edited"
    airflow.go_on(run)
    assert run.state == "success", run.errors
    assert run.xcom("train")["attached"] is True
    assert len(steps.jobs_of(server, dag.dag_id)) == 1


def test_clearing_a_finished_task_trains_again(airflow: Runner, server: LocalSageMaker) -> None:
    run = run_train(airflow)
    airflow.go_on(airflow.clear(run, "train"))
    assert run.state == "success", run.errors
    assert [job["TrainingJobName"][-2:] for job in steps.jobs_of(server, run.dag.dag_id)] == ["-1", "-2"]


def test_clearing_a_task_whose_job_still_runs_waits_for_that_job(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    run = run_train(airflow, hyperparameters={"wait-for": str(flag)}, wait_for_completion=False)
    assert run.xcom("train")["status"] == "InProgress"
    run.dag.task_dict["train"].wait_for_completion = True
    with steps.meanwhile(lambda: release(server, run, flag)):
        airflow.go_on(airflow.clear(run, "train"))
    assert len(steps.jobs_of(server, run.dag.dag_id)) == 1
    assert run.xcom("train")["status"] == "Completed"


def test_a_running_job_of_another_request_is_stopped_and_replaced(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path
) -> None:
    run = run_train(airflow, hyperparameters={"wait-for": str(tmp_path / "never")}, wait_for_completion=False)
    train = run.dag.task_dict["train"]
    train.hyperparameters, train.wait_for_completion = {"text": "new"}, True
    airflow.go_on(airflow.clear(run, "train"))
    first, second = steps.jobs_of(server, run.dag.dag_id)
    assert (first["TrainingJobStatus"], second["TrainingJobStatus"]) == ("Stopped", "Completed")
    assert steps.tags_of(server, first["TrainingJobArn"])["stopped-by"] == "replaced"
    assert first["TrainingJobName"] not in json.dumps(train._log_position), "the new job's log is another"
    assert first["TrainingEndTime"] <= second["CreationTime"]


@pytest.mark.parametrize("deferrable", WAITING)
def test_a_job_that_somebody_else_stops_fails_the_task_without_retry(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path, deferrable: bool
) -> None:
    with airflow.dag() as dag:
        steps.train(
            package=steps.package(server),
            hyperparameters={"wait-for": str(tmp_path / "never")},
            retries=2,
            deferrable=deferrable,
        )

    def stop() -> None:
        client(server, "sagemaker").stop_training_job(TrainingJobName=steps.running_job(server, dag.dag_id))

    with steps.meanwhile(stop):
        run = airflow.run(dag)
    assert run.state == "failed"
    assert len(steps.jobs_of(server, dag.dag_id)) == 1
    assert "was stopped" in str(run.errors["train"])
    assert "Clear the task to train again." in str(run.errors["train"])


def test_a_retry_does_not_bring_back_a_job_that_somebody_else_stopped(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path
) -> None:
    def stopped(context: Any, result: Any) -> None:
        client(server, "sagemaker").stop_training_job(TrainingJobName=result["job_name"])
        ended(server, result["job_name"])
        raise ConnectionError("the worker is gone")

    waiting = {"wait-for": str(tmp_path / "never")}
    run = run_train(airflow, hyperparameters=waiting, wait_for_completion=False, retries=3, post_execute=stopped)
    assert run.state == "failed"
    assert "was stopped by somebody else" in str(run.errors["train"])
    assert len(steps.jobs_of(server, run.dag.dag_id)) == 1
    run.dag.task_dict["train"]._post_execute_hook = None
    airflow.go_on(airflow.clear(run, "train"))
    assert len(steps.jobs_of(server, run.dag.dag_id)) == 2, "clearing asks for a new attempt"
    client(server, "sagemaker").stop_training_job(TrainingJobName=run.xcom("train")["job_name"])


@pytest.mark.parametrize(
    ("state", "cancel", "by"),
    [
        ("failed", True, "killed"),
        ("success", True, "killed"),
        ("failed", False, None),  # nobody wants it stopped
        ("running", True, None),  # Airflow has lost touch with its own API, another try runs, the machine goes down
        (None, True, None),  # the task has been cleared
    ],
)
def test_a_killed_task_stops_its_job_if_the_task_is_over_and_unless_told_otherwise(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path, state: str | None, cancel: bool, by: str | None
) -> None:
    flag = tmp_path / "flag"
    with airflow.dag() as dag:
        waiting = {"wait-for": str(flag)}
        steps.train(package=steps.package(server), hyperparameters=waiting, cancel_on_kill=cancel)
    seen = []
    asked = len(server.requests())

    def kill() -> None:
        name = steps.running_job(server, dag.dag_id)
        steps.until(
            lambda: "DescribeLogStreams" in steps.actions(server, asked), bool
        )  # it has all it asks Airflow for
        airflow.set_state(dag, "train", state)
        os.kill(os.getpid(), signal.SIGTERM)  # what the supervisor sends; the task's process is this one
        if by:
            ended(server, name)
        else:
            time.sleep(1)
        seen.append(client(server, "sagemaker").describe_training_job(TrainingJobName=name)["TrainingJobStatus"])
        airflow.set_state(dag, "train", "running")
        flag.touch()

    with steps.meanwhile(kill):
        run = airflow.run(dag)
    (job,) = steps.jobs_of(server, dag.dag_id)
    assert seen == ["Stopped" if by else "InProgress"]
    assert run.state == ("failed" if by else "success"), run.log
    assert steps.tags_of(server, job["TrainingJobArn"]).get("stopped-by") == by
    assert ("runs on" in run.log) == (by is None and cancel)


def test_a_killed_task_leaves_its_job_where_airflow_does_not_answer(server: LocalSageMaker, tmp_path: Path) -> None:
    name = steps.submit(server, wait_for=tmp_path / "flag")
    task = steps.train(package=None)
    task.job_name = name
    task.on_kill()
    assert client(server, "sagemaker").describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "InProgress"
    (tmp_path / "flag").touch()
    assert ended(server, name)["TrainingJobStatus"] == "Completed"


def test_a_kill_before_the_job_is_submitted_stops_it_all_the_same(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path
) -> None:
    def kill(context: Any) -> None:
        airflow.set_state(context["dag"], "train", "failed")
        context["task"].on_kill()

    run = run_train(airflow, hyperparameters={"wait-for": str(tmp_path / "never")}, pre_execute=kill)
    (job,) = steps.jobs_of(server, run.dag.dag_id)
    assert job["TrainingJobStatus"] == "Stopped"
    assert steps.tags_of(server, job["TrainingJobArn"])["stopped-by"] == "killed"


@pytest.mark.parametrize("deferrable", WAITING)
def test_a_job_that_outlasts_the_wait_is_stopped_and_the_error_says_so(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path, deferrable: bool
) -> None:
    waiting = {"wait-for": str(tmp_path / "never")}
    run = run_train(airflow, hyperparameters=waiting, wait_timeout=timedelta(seconds=0.3), deferrable=deferrable)
    (job,) = steps.jobs_of(server, run.dag.dag_id)
    assert run.deferrals == (["train"] if deferrable else [])
    assert run.state == "failed"
    assert "was stopped" in str(run.errors["train"])
    assert "Raise max_run or wait_timeout." in str(run.errors["train"])
    assert ended(server, job["TrainingJobName"])["TrainingJobStatus"] == "Stopped"
    assert steps.tags_of(server, job["TrainingJobArn"])["stopped-by"] == "timeout"


def test_a_job_that_reaches_its_own_limit_is_named_a_timeout(
    airflow: Runner, server: LocalSageMaker, tmp_path: Path
) -> None:
    run = run_train(airflow, hyperparameters={"wait-for": str(tmp_path / "never")}, max_run=1)
    assert run.state == "failed"
    assert "MaxRuntimeExceeded" in str(run.errors["train"])
    assert "Raise max_run or max_wait." in str(run.errors["train"])


def test_the_log_is_printed_only_if_wanted_but_a_failure_quotes_its_end(
    airflow: Runner, server: LocalSageMaker
) -> None:
    run = run_train(airflow, print_log=False)
    assert run.state == "success"
    assert "score=0.5" not in run.log
    run = run_train(airflow, print_log=False, hyperparameters={"fail": "1"})
    assert "a last word" in str(run.errors["train"])


def test_parameters_may_be_text_that_a_template_gives(airflow: Runner, server: LocalSageMaker) -> None:
    conf = {"text": "from conf", "count": 1}
    with airflow.dag(params={"text": "", "count": 0}) as dag:
        steps.train(
            package=json.dumps(steps.package(server)),
            hyperparameters='{"text": "{{ params.text }}", "count": {{ params.count }}}',
            instance_count="{{ params.count }}",
            max_run="{{ 60 * 60 }}",
            environment='{"WHO": "{{ dag.dag_id }}"}',
            tags='{"who": "{{ dag.dag_id }}"}',
            config_overrides='{"RetryStrategy": {"MaximumRetryAttempts": {{ params.count }}}}',
        )
    run = airflow.run(dag, conf)
    (job,) = steps.jobs_of(server, dag.dag_id)
    assert run.state == "success", run.errors
    assert job["HyperParameters"]["text"] == '"from conf"'
    assert job["HyperParameters"]["count"] == "1"
    assert job["ResourceConfig"]["InstanceCount"] == 1
    assert job["StoppingCondition"]["MaxRuntimeInSeconds"] == 3600
    assert job["Environment"]["WHO"] == dag.dag_id
    assert job["RetryStrategy"] == {"MaximumRetryAttempts": 1}
    tags = client(server, "sagemaker").list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
    assert {"Key": "who", "Value": dag.dag_id} in tags


def test_an_override_that_the_api_does_not_know_is_refused_before_anything_is_sent(
    airflow: Runner, server: LocalSageMaker
) -> None:
    run = run_train(airflow, config_overrides={"ResourceConfig": {"InstanceTyp": "ml.m5.large"}})
    assert run.state == "failed"
    assert "config_overrides" in str(run.errors["train"])
    assert "InstanceTyp" in str(run.errors["train"])
    assert steps.jobs_of(server, run.dag.dag_id) == []


@pytest.mark.parametrize(
    "limits",
    [
        {"max_run": timedelta(days=5)},
        {"config_overrides": {"StoppingCondition": {"MaxRuntimeInSeconds": 432000}}},
        {"config_overrides": {"StoppingCondition": {"MaxPendingTimeInSeconds": 345600}}},
    ],
)
def test_a_job_is_waited_for_as_long_as_it_may_take(
    airflow: Runner, server: LocalSageMaker, limits: dict[str, Any]
) -> None:
    run = run_train(airflow, wait_for_completion=False, wait_timeout=None, **limits)
    (job,) = steps.jobs_of(server, run.dag.dag_id)
    until = datetime.fromisoformat(steps.tags_of(server, job["TrainingJobArn"])["lease-until"])
    assert abs(until - job["CreationTime"] - timedelta(days=5, hours=1)) < timedelta(minutes=5)


def test_files_of_the_worker_become_a_channel(airflow: Runner, server: LocalSageMaker, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("one two")
    script = "import os; print('found', open(os.environ['SM_CHANNEL_WORDS'] + '/words.txt').read(), flush=True)"
    files = {"train.py": script}
    run = run_train(airflow, package=steps.package(server, files), inputs={"words": tmp_path.as_uri()})
    assert run.state == "success", run.errors
    assert "found one two" in run.log
