"""The life of a training job, seen through boto3."""

from __future__ import annotations

import http.client
import json
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import BUCKET, client, ended, put, training_job, unique, until

WAIT_FOR_A_STOP = """
import signal, sys, time
def stop(*_):
    print("stopping", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(120)
"""


@pytest.fixture(scope="module")
def sagemaker(local_sagemaker: LocalSageMaker) -> Any:
    return client(local_sagemaker, "sagemaker")


def refused(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def log_lines(server: LocalSageMaker, job: str) -> list[str]:
    logs = client(server, "logs")
    streams = logs.describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{job}/")
    return [
        event["message"]
        for stream in streams["logStreams"]
        for event in logs.get_log_events(
            logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=stream["logStreamName"], startFromHead=True
        )["events"]
    ]


def running(server: LocalSageMaker, job: str) -> None:
    """Wait until the script has said that it is ready."""

    def words() -> list[str]:
        try:
            return log_lines(server, job)
        except ClientError:
            return []

    until(words, lambda said: "ready" in said)


def test_a_job_goes_through_its_statuses_in_order_and_leaves_its_artefact(
    local_sagemaker: LocalSageMaker, sagemaker: Any
) -> None:
    script = """
import os
print("loss=0.5")
print("loss=0.25")
open(os.environ["SM_MODEL_DIR"] + "/weights", "w").write(os.listdir(os.environ["SM_CHANNEL_TRAINING"])[0])
"""
    data = put(local_sagemaker, "1,2", unique("tests/data") + "/part.csv")
    request = training_job(local_sagemaker, script)
    request["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data.rpartition("/")[0]}}
    request["InputDataConfig"] = [{"ChannelName": "training", "DataSource": source}]
    answer = sagemaker.create_training_job(**request)
    name = request["TrainingJobName"]
    job = ended(local_sagemaker, name)

    assert answer["TrainingJobArn"] == f"arn:aws:sagemaker:us-east-1:000000000000:training-job/{name}"
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    transitions = job["SecondaryStatusTransitions"]
    assert [t["Status"] for t in transitions] == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all(t["StatusMessage"] for t in transitions)
    assert all(a["EndTime"] == b["StartTime"] for a, b in pairwise(transitions))
    assert job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"] <= job["LastModifiedTime"]
    assert job["BillableTimeInSeconds"] == job["TrainingTimeInSeconds"] >= 1
    assert [(m["MetricName"], m["Value"]) for m in job["FinalMetricDataList"]] == [("loss", 0.25)]
    artefact = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert artefact == f"s3://{BUCKET}/out/{name}/output/model.tar.gz"
    assert client(local_sagemaker, "s3").head_object(Bucket=BUCKET, Key=artefact.split("/", 3)[3])["ContentLength"] > 0
    assert "FailureReason" not in job
    assert {key: job[key] for key in ("HyperParameters", "RoleArn", "ResourceConfig")} == {
        key: request[key] for key in ("HyperParameters", "RoleArn", "ResourceConfig")
    }
    assert "loss=0.25" in log_lines(local_sagemaker, name)


def test_boto3s_waiter_waits_for_the_end(local_sagemaker: LocalSageMaker, sagemaker: Any) -> None:
    request = training_job(local_sagemaker, "import time; time.sleep(0.3)")
    sagemaker.create_training_job(**request)
    name = request["TrainingJobName"]
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Completed"


def test_a_script_that_raises_fails_its_job_with_the_exception_and_exit_code(
    local_sagemaker: LocalSageMaker, sagemaker: Any
) -> None:
    request = training_job(local_sagemaker, "raise KeyError('no such column')")
    sagemaker.create_training_job(**request)
    job = ended(local_sagemaker, request["TrainingJobName"])
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert job["FailureReason"].startswith("AlgorithmError: ")
    assert "KeyError: 'no such column'" in job["FailureReason"]
    assert job["SecondaryStatusTransitions"][-1]["StatusMessage"] == job["FailureReason"]
    assert "ModelArtifacts" not in job


def test_a_script_reaches_the_local_services_with_boto3_alone(local_sagemaker: LocalSageMaker, sagemaker: Any) -> None:
    script = "import boto3; print('I am', boto3.client('sts').get_caller_identity()['Account'])"
    request = training_job(local_sagemaker, script)
    sagemaker.create_training_job(**request)
    assert ended(local_sagemaker, request["TrainingJobName"])["TrainingJobStatus"] == "Completed"
    assert "I am 000000000000" in log_lines(local_sagemaker, request["TrainingJobName"])


def test_a_stopped_job_is_stopping_then_stopped_and_keeps_what_it_saved(
    local_sagemaker: LocalSageMaker, sagemaker: Any
) -> None:
    save = "import os; open(os.environ['SM_MODEL_DIR'] + '/w', 'w').write('x')\n"
    request = training_job(local_sagemaker, save + WAIT_FOR_A_STOP)
    sagemaker.create_training_job(**request)
    name = request["TrainingJobName"]
    running(local_sagemaker, name)
    sagemaker.stop_training_job(TrainingJobName=name)
    job = ended(local_sagemaker, name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert [t["Status"] for t in job["SecondaryStatusTransitions"]][-2:] == ["Stopping", "Stopped"]
    assert job["ModelArtifacts"]["S3ModelArtifacts"].endswith("/model.tar.gz")
    assert "stopping" in log_lines(local_sagemaker, name)


def test_a_job_stopped_before_its_script_runs_ends_stopped(local_sagemaker: LocalSageMaker, sagemaker: Any) -> None:
    request = training_job(local_sagemaker, WAIT_FOR_A_STOP)
    sagemaker.create_training_job(**request)
    sagemaker.stop_training_job(TrainingJobName=request["TrainingJobName"])
    assert ended(local_sagemaker, request["TrainingJobName"])["TrainingJobStatus"] == "Stopped"


def test_a_job_that_ended_cannot_be_stopped_and_one_that_never_was_is_not_found(
    local_sagemaker: LocalSageMaker, sagemaker: Any
) -> None:
    request = training_job(local_sagemaker, "pass")
    sagemaker.create_training_job(**request)
    name = request["TrainingJobName"]
    ended(local_sagemaker, name)
    assert refused(sagemaker.stop_training_job, TrainingJobName=name) == (
        "ValidationException",
        "The request was rejected because the training job is in status Completed.",
    )
    missing = ("ValidationException", "Requested resource not found.")
    assert refused(sagemaker.stop_training_job, TrainingJobName="never-was") == missing
    assert refused(sagemaker.describe_training_job, TrainingJobName="never-was") == missing


def test_a_job_beyond_its_runtime_is_stopped_and_says_why(local_sagemaker: LocalSageMaker, sagemaker: Any) -> None:
    request = training_job(local_sagemaker, WAIT_FOR_A_STOP, StoppingCondition={"MaxRuntimeInSeconds": 1})
    sagemaker.create_training_job(**request)
    job = ended(local_sagemaker, request["TrainingJobName"])
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_a_job_name_is_taken_once_and_for_ever_also_among_threads(
    local_sagemaker: LocalSageMaker, sagemaker: Any
) -> None:
    request = training_job(local_sagemaker, "pass")
    codes: list[str] = []

    def create() -> None:
        try:
            sagemaker.create_training_job(**request)
            codes.append("created")
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=create) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == ["ResourceInUse"] * 4 + ["created"]
    ended(local_sagemaker, request["TrainingJobName"])
    with pytest.raises(sagemaker.exceptions.ResourceInUse) as caught:
        sagemaker.create_training_job(**request)
    assert caught.value.response["Error"]["Message"] == (
        "Job name must be unique within an AWS account and region, and a job with this name already exists "
        f"(arn:aws:sagemaker:us-east-1:000000000000:training-job/{request['TrainingJobName']})"
    )


def test_a_channel_without_data_is_refused_with_its_uri_as_aws_does_it(
    local_sagemaker: LocalSageMaker, sagemaker: Any
) -> None:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/nothing/here"}}
    request = training_job(local_sagemaker, "pass", InputDataConfig=[{"ChannelName": "training", "DataSource": source}])
    code, message = refused(sagemaker.create_training_job, **request)
    assert code == "ValidationException"
    assert message.startswith(
        f'No S3 objects found under S3 URL "s3://{BUCKET}/nothing/here" given in input data source'
    )
    request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] = "s3://no-such-bucket/x"
    assert (
        's3:ListBucket" permissions on bucket "no-such-bucket".' in refused(sagemaker.create_training_job, **request)[1]
    )
    assert refused(sagemaker.describe_training_job, TrainingJobName=request["TrainingJobName"])[1].startswith(
        "Requested"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"RoleArn": "arn:aws:iam::111122223333:role/theirs"}, "Cross-account pass role is not allowed."),
        ({"EnableManagedSpotTraining": True}, "MaxWaitTimeInSeconds must be specified"),
        (
            {
                "EnableManagedSpotTraining": True,
                "StoppingCondition": {"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 99},
            },
            "equal to or greater than MaxRuntimeInSeconds",
        ),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 100}},
            "can only be specified when EnableManagedSpotTraining",
        ),
        ({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}, "Duplicate tag key: a"),
        ({"AlgorithmSpecification": {"TrainingInputMode": "File"}}, "either TrainingImage or AlgorithmName"),
        ({"ResourceConfig": {"InstanceType": "m5.huge", "InstanceCount": 1, "VolumeSizeInGB": 1}}, "enum value set"),
    ],
)
def test_what_sagemaker_would_not_take_is_refused_and_leaves_no_job(
    local_sagemaker: LocalSageMaker, sagemaker: Any, change: dict[str, Any], words: str
) -> None:
    request = training_job(local_sagemaker, "pass", **change)
    code, message = refused(sagemaker.create_training_job, **request)
    assert code == "ValidationException"
    assert words in message
    request = training_job(local_sagemaker, "pass", name=request["TrainingJobName"])
    sagemaker.create_training_job(**request)  # the name is still free
    ended(local_sagemaker, request["TrainingJobName"])


def raw(server: LocalSageMaker, action: str, body: object) -> tuple[int, str, dict[str, Any]]:
    """A signed request that no client has checked: status, error type, answer."""
    request = AWSRequest(
        "POST",
        server.url + "/",
        headers={"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"SageMaker.{action}"},
        data=json.dumps(body).encode(),
    )
    credentials = Credentials(server.info.access_key_id, server.info.secret_access_key)
    SigV4Auth(credentials, "sagemaker", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
    connection.request("POST", "/", body=request.data, headers=dict(request.headers))
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer.get("__type", ""), answer


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"TrainingJobName": "x" * 64}, "Member must have length less than or equal to 63"),
        ({"TrainingJobName": "a_b"}, "Member must satisfy regular expression pattern: "),
        (
            {"AlgorithmSpecification": {"TrainingImage": "i", "TrainingInputMode": "Telepathy"}},
            "Value 'Telepathy' at 'algorithmSpecification.trainingInputMode' failed to satisfy constraint: "
            "Member must satisfy enum value set: [",
        ),
    ],
)
def test_over_raw_http_an_overlong_name_a_bad_pattern_and_an_unknown_enum_are_validation_exceptions(
    local_sagemaker: LocalSageMaker, change: dict[str, Any], words: str
) -> None:
    status, kind, answer = raw(local_sagemaker, "CreateTrainingJob", training_job(local_sagemaker, "pass", **change))
    assert (status, kind) == (400, "ValidationException")
    assert words in answer["message"]


def test_an_action_that_is_not_there_is_an_unknown_operation(local_sagemaker: LocalSageMaker) -> None:
    assert raw(local_sagemaker, "CreateUnicorn", {})[:2] == (400, "UnknownOperationException")


def test_nothing_of_a_job_is_left_on_disk(local_sagemaker: LocalSageMaker, sagemaker: Any) -> None:
    request = training_job(local_sagemaker, "open('litter', 'w').write('x')")
    sagemaker.create_training_job(**request)
    ended(local_sagemaker, request["TrainingJobName"])
    assert not (Path(local_sagemaker.root) / "jobs" / request["TrainingJobName"]).exists()
