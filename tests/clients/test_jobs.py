from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_sm_git.clients.job_log import LOG_GROUP, MAX_LINE, quoted, read_log
from airflow_sm_git.clients.jobs import failure, find_attempts, stop_job
from airflow_sm_git.clients.sagemaker import SageMakerClient
from airflow_sm_git.core import errors
from airflow_sm_git.core.attempts import Attempt
from airflow_sm_git.core.names import TaskKey, job_name, make_tags, read_tags
from airflow_sm_git.core.status import Phase
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import client, ended, training_job, unique, until

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
Submit = Callable[..., str]


@pytest.fixture
def sagemaker(local_sagemaker: LocalSageMaker) -> SageMakerClient:
    return SageMakerClient(client(local_sagemaker, "sagemaker"))


@pytest.fixture
def logs(local_sagemaker: LocalSageMaker) -> Any:
    return client(local_sagemaker, "logs")


@pytest.fixture
def key() -> TaskKey:
    return TaskKey("tests", "dag", unique("run"), "train")


@pytest.fixture
def submit(local_sagemaker: LocalSageMaker) -> Iterator[Submit]:
    """Submits jobs, and stops afterwards what still runs."""
    boto, names = client(local_sagemaker, "sagemaker"), []

    def submitted(script: str = "", **changes: Any) -> str:
        request = training_job(local_sagemaker, script, **changes)
        boto.create_training_job(**request)
        names.append(request["TrainingJobName"])
        return names[-1]

    yield submitted
    for name in names:
        with suppress(ClientError):  # it has ended
            boto.stop_training_job(TrainingJobName=name)
    for name in names:
        ended(local_sagemaker, name)


def tags(request: str, generation: int) -> list[dict[str, str]]:
    return make_tags({"request": f"{request}/{generation}", "dag": "dag"})


def test_a_task_instance_without_jobs_has_no_attempts(sagemaker: SageMakerClient, key: TaskKey) -> None:
    assert find_attempts(sagemaker, key) == []


def test_the_newest_attempt_is_found_by_number_and_not_by_age_or_spelling(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey, submit: Submit
) -> None:
    for number in (10, 9, 2):
        submit("", name=job_name(key, number, "prefix"), Tags=tags(f"hash{number}", number))
    ended(local_sagemaker, job_name(key, 10, "prefix"))
    assert find_attempts(sagemaker, key) == [
        Attempt(number=10, name=job_name(key, 10, "prefix"), status="Completed", request="hash10", generation=10)
    ]


def test_jobs_of_another_task_or_that_only_carry_the_hash_are_no_attempts(
    sagemaker: SageMakerClient, key: TaskKey, submit: Submit
) -> None:
    submit("", name=job_name(TaskKey("tests", "dag", key.run_id, "other"), 1))
    submit("", name=f"{key.hash}-copy")
    assert find_attempts(sagemaker, key) == []


def test_an_attempt_without_our_tags_equals_no_request(
    sagemaker: SageMakerClient, key: TaskKey, submit: Submit
) -> None:
    submit("", name=job_name(key, 1))
    (attempt,) = find_attempts(sagemaker, key)
    assert (attempt.request, attempt.generation) == ("", 0)


def test_a_job_that_its_own_limit_stopped_is_told_from_one_that_somebody_stopped(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey, submit: Submit
) -> None:
    name = submit(SLEEP, name=job_name(key, 1), StoppingCondition={"MaxRuntimeInSeconds": 1})
    ended(local_sagemaker, name)
    (attempt,) = find_attempts(sagemaker, key)
    assert (attempt.status, attempt.timed_out, attempt.stopped_by_us) == ("Stopped", True, False)


def test_a_job_that_we_stop_is_marked_before_it_stops(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey, submit: Submit
) -> None:
    name = submit(SLEEP, name=job_name(key, 1), Tags=tags("hash", 0))
    before = len(local_sagemaker.requests())
    assert stop_job(sagemaker, name, "killed") is True
    actions = [each["action"] for each in local_sagemaker.requests()[before:]]
    assert actions == ["DescribeTrainingJob", "AddTags", "StopTrainingJob"]
    assert ended(local_sagemaker, name)["TrainingJobStatus"] == "Stopped"
    (attempt,) = find_attempts(sagemaker, key)
    assert (attempt.status, attempt.timed_out, attempt.stopped_by_us) == ("Stopped", False, True)
    arn = client(local_sagemaker, "sagemaker").describe_training_job(TrainingJobName=name)["TrainingJobArn"]
    assert read_tags(sagemaker.tags(arn))["stopped-by"] == "killed"


def test_a_job_that_somebody_else_stops_is_not_marked(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, key: TaskKey, submit: Submit
) -> None:
    name = submit(SLEEP, name=job_name(key, 1))
    client(local_sagemaker, "sagemaker").stop_training_job(TrainingJobName=name)
    ended(local_sagemaker, name)
    (attempt,) = find_attempts(sagemaker, key)
    assert (attempt.status, attempt.stopped_by_us) == ("Stopped", False)


def test_stopping_what_has_ended_or_never_was_leaves_it_as_it_is(
    local_sagemaker: LocalSageMaker, sagemaker: SageMakerClient, submit: Submit
) -> None:
    name = submit("")
    arn = ended(local_sagemaker, name)["TrainingJobArn"]
    assert stop_job(sagemaker, name, "killed") is False
    assert sagemaker.tags(arn) == []
    assert stop_job(sagemaker, unique("none"), "killed") is False


class EndsBeforeTheStop:
    """A boto3 client in whose hands every job ends between the look and the stop."""

    def __init__(self, server: LocalSageMaker) -> None:
        self._server = server
        self._client = client(server, "sagemaker")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def stop_training_job(self, **request: Any) -> Any:
        self._client.stop_training_job(**request)
        ended(self._server, request["TrainingJobName"])
        return self._client.stop_training_job(**request)


def test_a_job_that_ends_between_the_look_and_the_stop_is_no_error(
    local_sagemaker: LocalSageMaker, submit: Submit
) -> None:
    assert stop_job(SageMakerClient(EndsBeforeTheStop(local_sagemaker)), submit(SLEEP), "killed") is True


def test_a_refused_stop_of_a_running_job_is_an_error(local_sagemaker: LocalSageMaker, submit: Submit) -> None:
    class MayNotStop(EndsBeforeTheStop):
        def stop_training_job(self, **request: Any) -> Any:
            denied = local_sagemaker.client("sagemaker", aws_secret_access_key="wrong")
            return denied.stop_training_job(**request)

    with pytest.raises(errors.AccessDenied):
        stop_job(SageMakerClient(MayNotStop(local_sagemaker)), submit(SLEEP), "killed")


def test_the_log_is_read_as_soon_as_the_job_writes_it(logs: Any, submit: Submit) -> None:
    name = submit(SLEEP)
    assert "up" in until(lambda: read_log(logs, name), lambda lines: "up" in lines)


def test_the_last_lines_are_read_in_order(local_sagemaker: LocalSageMaker, logs: Any, submit: Submit) -> None:
    name = submit("for number in range(50): print('line', number)")
    ended(local_sagemaker, name)
    assert [line for line in read_log(logs, name) if line.startswith("line ")] == [f"line {n}" for n in range(50)]
    last = read_log(logs, name, limit=5)
    assert len(last) == 5
    assert read_log(logs, name)[-5:] == last


def test_the_last_lines_of_all_instances_are_in_the_order_of_their_times(logs: Any) -> None:
    name, now = unique("hosts"), int(time.time() * 1000)
    with suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=LOG_GROUP)
    written = {"algo-1": {now + 100: "the error"}, "algo-2": {now + each: f"chat {each}" for each in range(30)}}
    for host, lines in written.items():
        stream = {"logGroupName": LOG_GROUP, "logStreamName": f"{name}/{host}-1700000000"}
        logs.create_log_stream(**stream)
        logs.put_log_events(**stream, logEvents=[{"timestamp": at, "message": said} for at, said in lines.items()])
    assert read_log(logs, name, limit=20) == [*(f"chat {each}" for each in range(10, 30)), "the error"]


REASON = 'AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "ValueError: no data"\n, exit code: 1'


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["Traceback", "the cause", "1"], True),
        (["Traceback", "the cause", ""], True),
        (["Traceback", "the cause", "Error"], True),
        (["Traceback", "the cause", "ValueError: other data"], True),
        (["Traceback", "the cause", "ValueError: no data", ""], False),
        ([], False),
    ],
)
def test_the_end_of_the_log_is_quoted_unless_the_reason_has_it(
    sagemaker: SageMakerClient, lines: list[str], told: bool
) -> None:
    error = failure(sagemaker, {"TrainingJobName": "job", "FailureReason": REASON}, Phase.FAILED, lines)
    assert ("the cause" in str(error)) is told


def test_an_error_quotes_no_more_of_a_line_than_the_log_shows() -> None:
    assert quoted(["x" * (2 * MAX_LINE)]).count("x") == MAX_LINE


def test_a_job_whose_name_begins_another_ones_has_its_own_log(
    local_sagemaker: LocalSageMaker, logs: Any, submit: Submit
) -> None:
    short = unique("job")
    submit("print('short')", name=short)
    submit("print('long')", name=f"{short}-1")
    ended(local_sagemaker, short)
    ended(local_sagemaker, f"{short}-1")
    assert "long" not in read_log(logs, short)
    assert "short" in read_log(logs, short)


def test_a_job_that_never_was_has_an_empty_log(logs: Any) -> None:
    assert read_log(logs, unique("none")) == []


def test_a_log_that_may_not_be_read_is_an_error_and_not_an_empty_log(local_sagemaker: LocalSageMaker) -> None:
    with pytest.raises(errors.AccessDenied, match="GetLogEvents for /aws/sagemaker/TrainingJobs"):
        read_log(local_sagemaker.client("logs", aws_secret_access_key="wrong"), "job")
    session = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    one_try = Config(retries={"total_max_attempts": 1})
    with pytest.raises(errors.ServiceFault):
        read_log(session.client("logs", endpoint_url="http://127.0.0.1:9", config=one_try), "job")


def test_the_request_and_its_generation_survive_the_tag(
    sagemaker: SageMakerClient, key: TaskKey, submit: Submit
) -> None:
    submit("", name=job_name(key, 1), Tags=tags("abc123", 12))
    (attempt,) = find_attempts(sagemaker, key)
    assert (attempt.request, attempt.generation) == ("abc123", 12)
