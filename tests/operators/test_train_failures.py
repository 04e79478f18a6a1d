"""What goes wrong with a training job, brought about by the server: told apart, retried only where that may help."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from airflow_sm_git.operators.train import TrainOperator
from tests import steps
from tests.airflow_runner import Run, Runner
from tests.local.sagemaker_requests import ended, unique


def trained(airflow: Runner, fault: dict[str, Any], **options: Any) -> tuple[Run, list[str], int]:
    """Run a DAG of one training task under a fault; the run, its jobs' statuses, and how often the fault acted."""
    with airflow.dag() as dag:
        package = steps.package(airflow.sagemaker)
        steps.train(package=package, **{"retries": 2, **options})
    named = {"resource": dag.dag_id.replace("_", "-")} if "resource" not in fault else {}
    with airflow.sagemaker.fault(**fault, **named) as rule:
        run = airflow.run(dag)
        hits = rule.rule["hits"]
    return run, [job["TrainingJobStatus"] for job in steps.jobs_of(airflow.sagemaker, dag.dag_id)], hits


def test_a_denied_action_is_named_and_not_tried_again(airflow: Runner) -> None:
    run, jobs, hits = trained(airflow, {"kind": "denied", "action": "CreateTrainingJob", "times": 0})
    assert (run.state, jobs, hits) == ("failed", [], 1)
    assert "Allow the AWS connection's identity sagemaker:CreateTrainingJob on " in str(run.errors["train"])


def test_a_quota_that_would_never_do_is_told_at_once(airflow: Runner) -> None:
    run, jobs, hits = trained(airflow, {"kind": "quota", "action": "CreateTrainingJob", "times": 0})
    assert (run.state, jobs, hits) == ("failed", [], 1)
    assert "Ask AWS for a higher quota" in str(run.errors["train"])


def test_a_job_without_capacity_is_followed_by_another(airflow: Runner) -> None:
    run, jobs, hits = trained(airflow, {"kind": "capacity"})
    assert (run.state, jobs, hits) == ("success", ["Failed", "Completed"], 1)


def test_a_job_that_lost_its_spot_instance_is_waited_for(airflow: Runner, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    options = {"use_spot_instances": True, "max_wait": 600, "max_run": 300, "hyperparameters": {"wait-for": str(flag)}}
    run, jobs, hits = trained(airflow, {"kind": "spot", "seconds": 0.0}, **options)
    assert (run.state, jobs, hits) == ("success", ["Completed"], 1)


@pytest.mark.parametrize("kind", ["throttle", "unavailable", "internal", "lose"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_one_job_though_the_answer_to_its_submission_is_an_error(airflow: Runner, kind: str, when: str) -> None:
    run, jobs, hits = trained(airflow, {"kind": kind, "action": "CreateTrainingJob", "when": when})
    assert (run.state, jobs, hits) == ("success", ["Completed"], 1)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_task_that_may_not_see_its_job_any_more_stops_it(airflow: Runner, tmp_path: Path, deferrable: bool) -> None:
    waiting = {"wait-for": str(tmp_path / "never")}
    # First its trigger may not, then neither may the task that resumes.
    denied = {"kind": "denied", "action": "DescribeTrainingJob", "skip": 1, "times": 2 if deferrable else 1}
    run, jobs, hits = trained(airflow, denied, hyperparameters=waiting, deferrable=deferrable)
    assert (run.state, len(jobs), hits) == ("failed", 1, denied["times"])
    name = run.xcom("train", "sm_git_training_job_link").rpartition("/")[2]
    job = ended(airflow.sagemaker, name)
    assert job["TrainingJobStatus"] == "Stopped"
    assert steps.tags_of(airflow.sagemaker, job["TrainingJobArn"])["stopped-by"] == "failed"


@pytest.mark.parametrize("deferrable", [False, True])
def test_credentials_that_expire_while_a_job_is_waited_for_are_renewed(airflow: Runner, deferrable: bool) -> None:
    expired = {"kind": "expired", "service": "sagemaker", "action": "DescribeTrainingJob", "skip": 1, "resource": ""}
    run, jobs, hits = trained(airflow, expired, deferrable=deferrable)
    assert (run.state, jobs, hits, run.states) == ("success", ["Completed"], 1, {"train": "success"})


@pytest.mark.parametrize("kind", ["throttle", "unavailable"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_wait_outlasts_what_time_mends(airflow: Runner, kind: str, deferrable: bool) -> None:
    once = {"retries": {"total_max_attempts": 1}}
    fault = {"kind": kind, "action": "DescribeTrainingJob", "times": 3}
    run, jobs, hits = trained(airflow, fault, deferrable=deferrable, retries=0, botocore_config=once)
    assert (run.state, jobs, hits) == ("success", ["Completed"], 3), run.log


def stopped(airflow: Runner, run: Run) -> str | None:
    """Why the run's one job was stopped, as its tags tell."""
    (job,) = steps.jobs_of(airflow.sagemaker, run.dag.dag_id)
    assert ended(airflow.sagemaker, job["TrainingJobName"])["TrainingJobStatus"] == "Stopped"
    return steps.tags_of(airflow.sagemaker, job["TrainingJobArn"]).get("stopped-by")


def test_a_timeout_while_the_job_is_being_submitted_stops_it(airflow: Runner, tmp_path: Path) -> None:
    slow = {"kind": "delay", "action": "CreateTrainingJob", "when": "after", "seconds": 20.0}
    waiting = {"wait-for": str(tmp_path / "never")}
    timeout = timedelta(seconds=4)
    run, _, hits = trained(airflow, slow, hyperparameters=waiting, retries=0, execution_timeout=timeout)
    assert (run.state, hits) == ("failed", 1), run.log
    assert stopped(airflow, run) == "killed"


def test_a_timeout_before_a_retry_has_come_to_its_job_stops_that(airflow: Runner, tmp_path: Path) -> None:
    def crash(context: Any, result: Any) -> None:
        dag.task_dict["train"].execution_timeout = timedelta(seconds=4)
        rules.append(airflow.sagemaker.fault("delay", action="ListTrainingJobs", seconds=10.0).__enter__())
        raise ConnectionError("the worker is gone")

    rules: list[Any] = []
    waiting = {"wait-for": str(tmp_path / "never")}
    with airflow.dag() as dag:
        package = steps.package(airflow.sagemaker)
        steps.train(package=package, hyperparameters=waiting, wait_for_completion=False, post_execute=crash, retries=1)
    run = airflow.run(dag)
    assert run.state == "failed"
    assert rules[0].rule["hits"] == 1
    assert stopped(airflow, run) == "killed"


def test_a_job_whose_submission_got_no_answer_and_that_no_listing_has_is_stopped(
    airflow: Runner, tmp_path: Path
) -> None:
    lost = {"kind": "lose", "action": "CreateTrainingJob"}
    options = {"retries": 0, "botocore_config": {"retries": {"total_max_attempts": 1}}}
    with airflow.sagemaker.fault("stale", action="ListTrainingJobs", times=0) as late:
        run, _, hits = trained(airflow, lost, hyperparameters={"wait-for": str(tmp_path / "never")}, **options)
        assert (run.state, hits) == ("failed", 1), run.log
        assert late.rule["hits"] >= 1
    assert stopped(airflow, run) == "failed"


def test_a_job_whose_time_is_up_is_stopped_though_aws_throttles(airflow: Runner, tmp_path: Path) -> None:
    throttled = {"kind": "throttle", "action": "StopTrainingJob", "times": 2}
    options = {"retries": 0, "wait_timeout": 1, "botocore_config": {"retries": {"total_max_attempts": 1}}}
    run, _, hits = trained(airflow, throttled, hyperparameters={"wait-for": str(tmp_path / "never")}, **options)
    assert (run.state, hits) == ("failed", 2)
    assert "was stopped" in str(run.errors["train"])
    assert run.log.count("may still run, tried again in ") == 2
    assert stopped(airflow, run) == "timeout"


def test_a_job_is_stopped_though_aws_throttles_when_its_task_times_out(airflow: Runner, tmp_path: Path) -> None:
    throttled = {"kind": "throttle", "action": "StopTrainingJob", "times": 2}
    once = {"botocore_config": {"retries": {"total_max_attempts": 1}}}
    waiting = {"hyperparameters": {"wait-for": str(tmp_path / "never")}, "execution_timeout": timedelta(seconds=4)}
    run, _, hits = trained(airflow, throttled, retries=0, deferrable=False, **once, **waiting)
    assert (run.state, hits) == ("failed", 2), run.log
    assert type(run.errors["train"]).__name__ == "AirflowTaskTimeout"
    assert stopped(airflow, run) == "killed"


def test_a_job_that_cannot_be_stopped_is_named_with_what_to_do(airflow: Runner, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    denied = {"kind": "denied", "action": "StopTrainingJob", "times": 0}
    options = {"retries": 0, "wait_timeout": 1, "hyperparameters": {"wait-for": str(flag)}}
    run, (status,), hits = trained(airflow, denied, **options)
    flag.touch()
    assert (run.state, status, hits) == ("failed", "InProgress", 2)
    (job,) = steps.jobs_of(airflow.sagemaker, run.dag.dag_id)
    assert f"Training job {job['TrainingJobName']} may still run, so stop it in the console, or by" in run.log
    assert ended(airflow.sagemaker, job["TrainingJobName"])["TrainingJobStatus"] == "Completed"


def test_a_final_failure_stops_the_job_that_an_earlier_try_has_left(airflow: Runner, tmp_path: Path) -> None:
    def crash(context: Any, result: Any) -> None:
        dag.task_dict["train"].role = "no role"  # the DAG is edited
        raise ConnectionError("the worker is gone")

    waiting = {"wait-for": str(tmp_path / "never")}
    with airflow.dag() as dag:
        package = steps.package(airflow.sagemaker)
        steps.train(package=package, hyperparameters=waiting, wait_for_completion=False, post_execute=crash, retries=2)
    run = airflow.run(dag)
    (job,) = steps.jobs_of(airflow.sagemaker, dag.dag_id)
    assert run.state == "failed"
    assert "role='no role'" in str(run.errors["train"])
    assert ended(airflow.sagemaker, job["TrainingJobName"])["TrainingJobStatus"] == "Stopped"
    assert steps.tags_of(airflow.sagemaker, job["TrainingJobArn"])["stopped-by"] == "failed"


class TrainWhereNoTriggerLoads(TrainOperator):
    """Its trigger's class is not installed where triggers run."""

    def defer(self, *, trigger: Any, **options: Any) -> Any:
        trigger.serialize = lambda: ("not.installed.Trigger", {})
        super().defer(trigger=trigger, **options)


def test_a_task_waits_by_itself_where_the_triggerer_cannot_load_its_trigger(airflow: Runner, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    with airflow.dag() as dag:
        package = steps.package(airflow.sagemaker)
        steps.train(TrainWhereNoTriggerLoads, package=package, hyperparameters={"wait-for": str(flag)}, deferrable=True)
    run = airflow.create(dag)

    def release() -> None:
        steps.until(lambda: "The triggerer could not wait, so this task does" in run.log, bool)
        flag.touch()

    with steps.meanwhile(release):
        airflow.go_on(run)
    assert run.state == "success", run.errors
    assert run.deferrals == ["train"], "it waits in the worker from then on"
    assert [job["TrainingJobStatus"] for job in steps.jobs_of(airflow.sagemaker, dag.dag_id)] == ["Completed"]


def test_parameters_that_cannot_be_read_are_shown_but_for_secrets(airflow: Runner) -> None:
    for given, shown in (("{a", "hyperparameters='{a'"), ('{"HF_TOKEN": "hf_secret",', "hyperparameters='***'")):
        with airflow.dag() as dag:
            steps.train(package=steps.package(airflow.sagemaker), hyperparameters=given)
        assert f"{shown}: is not JSON of a dict" in str(airflow.run(dag).errors["train"])


def test_a_secret_that_aws_quotes_is_kept_nowhere(airflow: Runner) -> None:
    with airflow.dag() as dag:
        secret = {"HF-TOKEN": "hf_very_secret"}  # a hyphen is what SageMaker does not take
        steps.train(package=steps.package(airflow.sagemaker), environment=secret)
    run = airflow.run(dag)
    said = run.xcom("train", "error")
    assert run.state == "failed"
    assert "HF-TOKEN=***" in said
    assert "hf_very_secret" not in said + str(run.errors["train"])


def test_a_failure_tells_reason_exit_code_last_lines_page_and_remedy(
    airflow: Runner, local_sagemaker: LocalSageMaker
) -> None:
    with airflow.dag() as dag:
        steps.train(package=steps.package(local_sagemaker), hyperparameters={"fail": "1"})
    run = airflow.run(dag)
    said = str(run.errors["train"])
    assert "failed with exit code 1: AlgorithmError" in said
    assert "a last word" in said
    assert "console.aws.amazon.com/sagemaker/home?region=us-east-1#/jobs/" in said
    assert said.endswith("Correct the script or its inputs.")


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_a_job_is_given_in_secret_is_known_to_airflows_masker(
    airflow: Runner, local_sagemaker: LocalSageMaker, deferrable: bool
) -> None:
    from airflow.sdk._shared.secrets_masker import redact

    secret = unique("hf")
    with airflow.dag() as dag:
        steps.train(package=steps.package(local_sagemaker), environment={"HF_TOKEN": secret}, deferrable=deferrable)
    assert airflow.run(dag).state == "success"
    assert redact(f"it is {secret}") == "it is ***"


def test_a_failure_quotes_no_secret(airflow: Runner, local_sagemaker: LocalSageMaker) -> None:
    secret = unique("hf")
    script = 'import os\nprint("it is", os.environ["HF_TOKEN"])\nraise ValueError("bad " + os.environ["HF_TOKEN"])'
    with airflow.dag() as dag:
        package = steps.package(local_sagemaker, {"train.py": script})
        steps.train(package=package, environment={"HF_TOKEN": secret})
    run = airflow.run(dag)
    assert "ValueError: bad ***" in str(run.errors["train"])
    assert secret not in str(run.xcoms())
