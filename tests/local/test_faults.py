"""What goes wrong on demand goes wrong as told, is in the request log, and changes nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_git.local import daemon
from airflow_sm_git.local.faults import KINDS, Faults, Rule, parse
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import BUCKET, client, config, ended, settled, training_job, unique, until

ONCE = Config(retries={"total_max_attempts": 1}, read_timeout=30)


def api(server: LocalSageMaker, service: str = "sagemaker") -> Any:
    """A client that does not try again."""
    return server.client(service, config=ONCE)


def code(call: Callable[..., Any], **request: Any) -> str:
    with pytest.raises(ClientError) as refused:
        call(**request)
    return str(refused.value.response["Error"]["Code"])


def logged(server: LocalSageMaker, kind: str, resource: str) -> list[str]:
    found = [line for line in server.requests() if line.get("fault") == kind and resource in line["resource"]]
    return [line["action"] for line in found]


@pytest.mark.parametrize(
    ("kind", "json_code", "s3_code"),
    [
        ("throttle", "ThrottlingException", "SlowDown"),
        ("unavailable", "ServiceUnavailable", "ServiceUnavailable"),
        ("internal", "InternalFailure", "InternalError"),
        ("denied", "AccessDeniedException", "AccessDenied"),
        ("quota", "ResourceLimitExceeded", "SlowDown"),
        ("expired", "ExpiredTokenException", "ExpiredToken"),
    ],
)
def test_a_refusal_comes_once_with_the_services_own_code(
    local_sagemaker: LocalSageMaker, kind: str, json_code: str, s3_code: str
) -> None:
    name = unique("refused")
    with local_sagemaker.fault(kind, service="sagemaker", action="DescribeEndpoint", resource=name):
        assert code(api(local_sagemaker).describe_endpoint, EndpointName=name) == json_code
        assert code(api(local_sagemaker).describe_endpoint, EndpointName=name) == "ValidationException"
    with local_sagemaker.fault(kind, service="s3", action="PutObject", resource=name):
        assert code(api(local_sagemaker, "s3").put_object, Bucket=BUCKET, Key=name, Body=b"x") == s3_code
    assert code(api(local_sagemaker, "s3").get_object, Bucket=BUCKET, Key=name) == "NoSuchKey", (
        "it was put all the same"
    )
    assert logged(local_sagemaker, kind, name) == ["DescribeEndpoint", "PutObject"]


def test_an_error_after_the_call_leaves_what_the_call_did(local_sagemaker: LocalSageMaker) -> None:
    request = training_job(local_sagemaker, "print(1)")
    name = request["TrainingJobName"]
    with local_sagemaker.fault("internal", action="CreateTrainingJob", resource=name, when="after"):
        assert code(api(local_sagemaker).create_training_job, **request) == "InternalFailure"
    assert ended(local_sagemaker, name)["TrainingJobStatus"] == "Completed"


@pytest.mark.parametrize(("when", "there"), [("after", True), ("before", False)])
def test_an_answer_is_lost_with_or_without_the_effect(local_sagemaker: LocalSageMaker, when: str, there: bool) -> None:
    request = training_job(local_sagemaker, "print(1)")
    name = request["TrainingJobName"]
    lost = local_sagemaker.fault("lose", action="CreateTrainingJob", resource=name, when=when)
    with lost, pytest.raises(BotoCoreError):
        api(local_sagemaker).create_training_job(**request)
    found = api(local_sagemaker).list_training_jobs(NameContains=name)["TrainingJobSummaries"]
    assert bool(found) == there
    assert logged(local_sagemaker, "lose", name) == ["CreateTrainingJob"]
    if there:
        ended(local_sagemaker, name)


def test_a_rule_skips_then_acts_as_often_as_it_says(local_sagemaker: LocalSageMaker) -> None:
    name = unique("counted")
    with local_sagemaker.fault("throttle", action="Describe*", resource=name, skip=1, times=2) as fault:
        codes = [code(api(local_sagemaker).describe_model, ModelName=name) for _ in range(4)]
        assert fault.rule["hits"] == 2
    assert codes == ["ValidationException", "ThrottlingException", "ThrottlingException", "ValidationException"]


def test_a_held_request_waits_until_it_is_let_go(local_sagemaker: LocalSageMaker) -> None:
    name = unique("held")
    answers: list[str] = []
    with local_sagemaker.fault("hold", action="DescribeModel", resource=name) as fault:
        ask = threading.Thread(target=lambda: answers.append(code(api(local_sagemaker).describe_model, ModelName=name)))
        ask.start()
        until(lambda: fault.rule["holding"], lambda holding: holding == 1)
        assert code(api(local_sagemaker).describe_model, ModelName=name) == "ValidationException", "only one is held"
        assert answers == []
        fault.release()
        ask.join(30)
    assert answers == ["ValidationException"]


def test_a_delayed_answer_comes_late(local_sagemaker: LocalSageMaker) -> None:
    name = unique("delayed")
    with local_sagemaker.fault("delay", action="DescribeModel", resource=name, seconds=0.5):
        began = time.monotonic()
        code(api(local_sagemaker).describe_model, ModelName=name)
    assert time.monotonic() - began >= 0.5


def test_a_stale_list_shows_what_was_there_when_it_became_stale(
    local_sagemaker: LocalSageMaker, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)"
    prefix = unique("stale")
    first, second = (training_job(local_sagemaker, script, name=f"{prefix}-{i}") for i in range(2))
    api(local_sagemaker).create_training_job(**first)

    def listed() -> list[tuple[str, str]]:
        found = api(local_sagemaker).list_training_jobs(NameContains=prefix)["TrainingJobSummaries"]
        return [(job["TrainingJobName"][-1], job["TrainingJobStatus"]) for job in found]

    with local_sagemaker.fault("stale", action="List*", times=0):
        api(local_sagemaker).create_training_job(**second)
        go.touch()
        for request in (first, second):
            assert ended(local_sagemaker, request["TrainingJobName"])["TrainingJobStatus"] == "Completed"
        assert listed() == [("0", "InProgress")]
    assert listed() == [("0", "Completed"), ("1", "Completed")]


@pytest.mark.parametrize(("when", "there"), [("before", False), ("after", True)])
def test_the_process_that_asks_is_killed(local_sagemaker: LocalSageMaker, when: str, there: bool) -> None:
    name = unique("killed")
    program = f"""
import boto3
s3 = boto3.client("s3")
s3.put_object(Bucket={BUCKET!r}, Key={name!r}, Body=b"x")
"""
    with local_sagemaker.fault("kill", action="PutObject", resource=name, when=when):
        done = subprocess.run([sys.executable, "-c", program], env=local_sagemaker.env, check=False)
    assert done.returncode == -9
    found = api(local_sagemaker, "s3").list_objects_v2(Bucket=BUCKET, Prefix=name).get("Contents", [])
    assert bool(found) == there


def test_a_job_without_capacity_fails_and_never_runs(local_sagemaker: LocalSageMaker, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    request = training_job(local_sagemaker, f"open({str(ran)!r}, 'w')")
    with local_sagemaker.fault("capacity", resource=request["TrainingJobName"]):
        api(local_sagemaker).create_training_job(**request)
        job = ended(local_sagemaker, request["TrainingJobName"])
    assert job["FailureReason"].startswith("CapacityError: ")
    assert not ran.exists()
    assert logged(local_sagemaker, "capacity", request["TrainingJobName"]) == ["CreateTrainingJob"]


def test_a_job_whose_instance_is_taken_away_starts_again(local_sagemaker: LocalSageMaker, tmp_path: Path) -> None:
    began = tmp_path / "began"
    script = f"""
import os, time
with open({str(began)!r}, "a") as file: file.write("x")
if open({str(began)!r}).read() == "x": time.sleep(600)
"""
    request = training_job(local_sagemaker, script)
    name = request["TrainingJobName"]
    with local_sagemaker.fault("spot", resource=name, seconds=1.0) as fault:
        api(local_sagemaker).create_training_job(**request)
        job = ended(local_sagemaker, name)
        assert fault.rule["hits"] == 1
    assert job["TrainingJobStatus"] == "Completed"
    assert began.read_text() == "xx"
    statuses = [each["Status"] for each in job["SecondaryStatusTransitions"]]
    assert statuses[statuses.index("Interrupted") + 1] == "Starting"


def test_a_job_that_is_stopped_does_not_start_again(local_sagemaker: LocalSageMaker) -> None:
    request = training_job(local_sagemaker, "import time; print('on', flush=True); time.sleep(600)")
    name = request["TrainingJobName"]
    with local_sagemaker.fault("spot", resource=name, seconds=600.0):
        api(local_sagemaker).create_training_job(**request)
        api(local_sagemaker).stop_training_job(TrainingJobName=name)
        assert ended(local_sagemaker, name)["TrainingJobStatus"] == "Stopped"


def test_an_endpoint_stays_creating_until_it_is_let_go(local_sagemaker: LocalSageMaker) -> None:
    name = unique("stuck")
    sagemaker = client(local_sagemaker, "sagemaker")
    with local_sagemaker.fault("stuck", resource=name) as fault:
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config(local_sagemaker, "w"))
        until(lambda: fault.rule["holding"], lambda holding: holding == 1)
        assert sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Creating"
        fault.release()
        assert settled(local_sagemaker, name)["EndpointStatus"] == "InService"
    sagemaker.delete_endpoint(EndpointName=name)


def test_a_server_makes_no_faults_unless_asked_to(tmp_path: Path) -> None:
    server = LocalSageMaker(tmp_path / "state", daemon.start(tmp_path / "state"))
    try:
        with pytest.raises(ValueError, match="AuthorizationHeaderMalformed"):
            server.fault("throttle")
    finally:
        daemon.stop(tmp_path / "state")


def test_only_who_knows_the_key_may_make_faults(local_sagemaker: LocalSageMaker) -> None:
    from dataclasses import replace

    stranger = LocalSageMaker(local_sagemaker.root, replace(local_sagemaker.info, secret_access_key="guess"))
    with pytest.raises(ValueError, match="bearer token"):
        stranger.fault("throttle")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ([], "JSON object"),
        ({}, "choose from throttle"),
        ({"kind": "thrott"}, "choose from throttle"),
        ({"kind": "hold", "tiems": 1}, "tiems=1: not a member"),
        ({"kind": "hold", "times": "1"}, "times='1'"),
        ({"kind": "hold", "when": "later"}, "when='later'"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(rule)


def test_of_two_rules_the_first_acts_until_it_has_done_its_part() -> None:
    faults = Faults()
    first, second = Rule("throttle"), Rule("denied", times=0)
    faults.add(first)
    faults.add(second)
    assert [faults.take("before", "s3", "PutObject", "x") for _ in range(3)] == [first, second, second]
    assert faults.take("job", "s3", "PutObject", "x") is None
    faults.remove(second.id)
    assert faults.take("before", "s3", "PutObject", "x") is None


def test_every_kind_is_tried_here() -> None:
    source = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in source] == []
