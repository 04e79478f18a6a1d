"""Requests that the tests of the local SageMaker share: a script or a handler put into S3, and what runs it."""

from __future__ import annotations

import io
import json
import tarfile
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from airflow_sm_git.local.pytest_plugin import LocalSageMaker

BUCKET = "sagemaker-us-east-1-000000000000"
ROLE = "arn:aws:iam::000000000000:role/sm-git-local"
IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/any:1"
HANDLER = """
import json

def model_fn(model_dir):
    return open(model_dir + "/weights.txt").read()

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, model):
    if data.get("raise"):
        raise ValueError("the handler raised this")
    return {"model": model, "data": data}

def output_fn(prediction, accept):
    return json.dumps(prediction), "application/json"
"""


def unique(prefix: str) -> str:
    """A name that no other test has."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


_clients: dict[tuple[str, str], Any] = {}


def client(server: LocalSageMaker, service: str) -> Any:
    """A boto3 client of the server; making one takes a tenth of a second, so they are kept."""
    key = server.url, service
    if key not in _clients:
        _clients[key] = server.client(service)
    return _clients[key]


def put(server: LocalSageMaker, body: bytes | str, key: str | None = None) -> str:
    """Put an object into the default bucket; its URI."""
    key = key or unique("tests/object")
    client(server, "s3").put_object(Bucket=BUCKET, Key=key, Body=body)
    return f"s3://{BUCKET}/{key}"


def archive(files: Mapping[str, str]) -> bytes:
    """A tar.gz of text files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def training_job(server: LocalSageMaker, script: str, *, name: str | None = None, **changes: Any) -> dict[str, Any]:
    """A CreateTrainingJob request whose ``train.py`` is ``script``; its code is in S3."""
    code = put(server, archive({"train.py": script}))
    hyperparameters = {"sagemaker_program": json.dumps("train.py"), "sagemaker_submit_directory": json.dumps(code)}
    return {
        "TrainingJobName": name or unique("job"),
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "HyperParameters": hyperparameters,
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 300},
        **changes,
    }


def model(server: LocalSageMaker, weights: str = "w1", *, handler: str = HANDLER, **changes: Any) -> dict[str, Any]:
    """A CreateModel request whose archive holds the weights and the handler."""
    data = put(server, archive({"weights.txt": weights, "code/inference.py": handler}))
    environment = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
    return {
        "ModelName": unique("model"),
        "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": data, "Environment": environment},
        "ExecutionRoleArn": ROLE,
        **changes,
    }


def variant(model_name: str, **changes: Any) -> dict[str, Any]:
    """A production variant."""
    return {
        "VariantName": "AllTraffic",
        "ModelName": model_name,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        **changes,
    }


def config(server: LocalSageMaker, *weights: str, handler: str = HANDLER) -> str:
    """Create a model for each of the weights and a configuration of them all; its name."""
    sagemaker = client(server, "sagemaker")
    variants = []
    for number, text in enumerate(weights):
        request = model(server, text, handler=handler)
        sagemaker.create_model(**request)
        variants.append(variant(request["ModelName"], VariantName=f"v{number}" if len(weights) > 1 else "AllTraffic"))
    name = unique("config")
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
    return name


def until(answer: Callable[[], Any], wanted: Callable[[Any], bool], timeout: float = 60.0) -> Any:
    """Ask until the answer is wanted; the answer."""
    deadline = time.monotonic() + timeout
    while not wanted(value := answer()):
        assert time.monotonic() < deadline, f"still {value!r} after {timeout} s"
        time.sleep(0.01)
    return value


def ended(server: LocalSageMaker, name: str, timeout: float = 60.0) -> dict[str, Any]:
    """The description of a training job once it has ended."""
    sagemaker = client(server, "sagemaker")
    terminal = {"Completed", "Failed", "Stopped"}
    description: dict[str, Any] = until(
        lambda: sagemaker.describe_training_job(TrainingJobName=name),
        lambda job: job["TrainingJobStatus"] in terminal,
        timeout,
    )
    return description


def settled(server: LocalSageMaker, name: str, timeout: float = 60.0) -> dict[str, Any]:
    """The description of an endpoint once nothing is under way with it."""
    sagemaker = client(server, "sagemaker")
    description: dict[str, Any] = until(
        lambda: sagemaker.describe_endpoint(EndpointName=name),
        lambda endpoint: endpoint["EndpointStatus"] in {"InService", "Failed"},
        timeout,
    )
    return description
