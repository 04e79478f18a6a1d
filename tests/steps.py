"""What the tests of operators, sensors and the chain share: quick scripts, records, and operators that need little."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_sm_git.core.names import read_tags
from airflow_sm_git.core.records import Package
from airflow_sm_git.local.pytest_plugin import LocalSageMaker
from tests.local.sagemaker_requests import (
    IMAGE,
    ROLE,
    archive,
    client,
    put,
    settled,
    training_job,
    unique,
    until,
    variant,
)

COMMIT = "c" * 40
TRAIN = """
import os, sys, time
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print("arguments", sorted(given.items()), flush=True)
print("score=0.5", flush=True)
while "--wait-for" in given and not os.path.exists(given["--wait-for"]):
    time.sleep(0.01)
if given.get("--fail-attempt") == os.environ["TRAINING_JOB_NAME"].rpartition("-")[2] or "--fail" in given:
    print("a last word", flush=True)
    sys.exit(1)
with open(os.path.join(os.environ["SM_MODEL_DIR"], "weights.txt"), "w") as file:
    file.write(given.get("--text", "w"))
"""
"""Writes ``--text`` as its model; fails if told; runs until the file ``--wait-for`` is there."""
SERVE = """
import json, os, time

def model_fn(model_dir):
    while os.environ.get("WAIT_FOR") and not os.path.exists(os.environ["WAIT_FOR"]):
        time.sleep(0.01)
    if os.environ.get("NEEDS") and not os.path.exists(os.environ["NEEDS"]):
        raise RuntimeError("the model cannot be loaded")
    return open(model_dir + "/weights.txt").read()

def transform_fn(model, body, content_type, accept, context):
    text = body.decode() if isinstance(body, bytes) else body
    if "please raise" in text:
        raise ValueError("the handler raised this")
    said = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
    answer = {"model": model, "body": text, "type": content_type, "accept": accept, "attributes": said, "by": "serve"}
    return json.dumps(answer), "application/json"
"""
"""Answers with what it was asked; comes up when the file ``WAIT_FOR`` is there, fails unless ``NEEDS`` is."""


# A wait that a mistake would make endless ends all the same.
_QUICK = {"image_uri": IMAGE, "role": ROLE, "check_interval": 0.05, "retry_delay": 0, "wait_timeout": 60}


def package(server: LocalSageMaker, files: Mapping[str, str] | None = None, entry_point: str = "train.py") -> Package:
    """Put an archive of text files into S3; its record."""
    files = {"train.py": TRAIN, "serve.py": SERVE} if files is None else files
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
    body = archive(files)
    return Package(
        schema=1,
        s3_uri=put(server, body, f"tests/packages/{digest}/sourcedir.tar.gz"),
        digest=digest,
        commit=COMMIT,
        tree="e" * 40,
        repo="https://example.com/repository.git",
        entry_point=entry_point,
        source_dir="src",
        size=len(body),
        file_count=len(files),
        manifest_uri="s3://bucket/manifest.json",
        reused=False,
    )


def model_data(server: LocalSageMaker, weights: str = "w") -> str:
    """Put a model.tar.gz into S3; its URI."""
    return put(server, archive({"weights.txt": weights}), f"tests/models/{weights}/model.tar.gz")


def train(kind: Any = None, /, **options: Any) -> Any:
    """A `TrainOperator`, or another kind of it, that looks often."""
    from airflow_sm_git import TrainOperator

    return (kind or TrainOperator)(**{"task_id": "train", **_QUICK, **options})


def deploy(**options: Any) -> Any:
    """A `DeployOperator` that looks often, and serves ``serve.py``."""
    from airflow_sm_git import DeployOperator

    return DeployOperator(**{"task_id": "deploy", "entry_point": "serve.py", **_QUICK, **options})


def jobs_of(server: LocalSageMaker, dag_id: str) -> list[dict[str, Any]]:
    """Descriptions of the training jobs that a DAG's task submitted, the first attempt first."""
    sagemaker = client(server, "sagemaker")
    prefix = dag_id.replace("_", "-")
    names = sagemaker.list_training_jobs(NameContains=prefix)["TrainingJobSummaries"]
    described = [sagemaker.describe_training_job(TrainingJobName=job["TrainingJobName"]) for job in names]
    return sorted(described, key=lambda job: int(job["TrainingJobName"].rpartition("-")[2]))


def left_of(server: LocalSageMaker, dag_id: str) -> list[str]:
    """Names of the endpoints, configurations and models whose names begin with a DAG's id."""
    sagemaker = client(server, "sagemaker")
    prefix = dag_id.replace("_", "-")
    return [
        *(each["EndpointName"] for each in sagemaker.list_endpoints(NameContains=prefix)["Endpoints"]),
        *(
            each["EndpointConfigName"]
            for each in sagemaker.list_endpoint_configs(NameContains=prefix)["EndpointConfigs"]
        ),
        *(each["ModelName"] for each in sagemaker.list_models(NameContains=prefix)["Models"]),
    ]


def tags_of(server: LocalSageMaker, arn: str) -> dict[str, str]:
    """Our own tags of a resource."""
    return read_tags(client(server, "sagemaker").list_tags(ResourceArn=arn)["Tags"])


def submit(
    server: LocalSageMaker, wait_for: Path | None = None, name: str | None = None, **hyperparameters: str
) -> str:
    """Submit a training job of ``TRAIN`` as somebody else would; its name."""
    request = training_job(server, TRAIN, name=name)
    waiting = {"wait-for": str(wait_for)} if wait_for else {}
    request["HyperParameters"] |= {**waiting, **hyperparameters}
    client(server, "sagemaker").create_training_job(**request)
    return str(request["TrainingJobName"])


def create_endpoint(server: LocalSageMaker, weights: str = "w") -> str:
    """Create an endpoint that serves ``SERVE`` and wait for it; its name, which its parts have too."""
    sagemaker, name = client(server, "sagemaker"), unique("echo")
    data = put(server, archive({"weights.txt": weights, "code/serve.py": SERVE}))
    environment = {"SAGEMAKER_PROGRAM": "serve.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
    container = {"Image": IMAGE, "ModelDataUrl": data, "Environment": environment}
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant(name)])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    settled(server, name)
    return name


def files(**more: str) -> dict[str, bytes]:
    """What a repository's commit holds: ``src/train.py``, ``src/serve.py``, and more by path."""
    texts = {"src/train.py": TRAIN, "src/serve.py": SERVE, **more}
    return {path: text.encode() for path, text in texts.items()}


def clean_up(server: LocalSageMaker, endpoint: str) -> None:
    """Delete an endpoint with what it is made of, and wait until its processes are gone."""
    sagemaker = client(server, "sagemaker")
    until(lambda: sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"], _can_be_deleted)
    sagemaker.delete_endpoint(EndpointName=endpoint)
    until(lambda: sagemaker.list_endpoints(NameContains=endpoint)["Endpoints"], lambda found: not found)
    for config in sagemaker.list_endpoint_configs(NameContains=endpoint)["EndpointConfigs"]:
        sagemaker.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
    for model in sagemaker.list_models(NameContains=endpoint)["Models"]:
        sagemaker.delete_model(ModelName=model["ModelName"])


def _can_be_deleted(status: str) -> bool:
    return status not in ("Creating", "Updating", "RollingBack")


def actions(server: LocalSageMaker, since: int = 0) -> list[str]:
    """The API actions that the server was asked for, from a number on."""
    return [str(request["action"]) for request in server.requests()[since:]]


@contextmanager
def meanwhile(action: Callable[[], Any]) -> Iterator[None]:
    """Do something in a thread while the block runs; what it raises is raised at the block's end."""
    raised: list[BaseException] = []

    def act() -> None:
        try:
            action()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
    if raised:
        raise raised[0]


def running_job(server: LocalSageMaker, dag_id: str) -> str:
    """The name of a DAG's training job, as soon as its script runs."""
    sagemaker = client(server, "sagemaker")

    def found() -> list[str]:
        answer = sagemaker.list_training_jobs(NameContains=dag_id.replace("_", "-"), StatusEquals="InProgress")
        names = [job["TrainingJobName"] for job in answer["TrainingJobSummaries"]]
        return [n for n in names if sagemaker.describe_training_job(TrainingJobName=n)["SecondaryStatus"] == "Training"]

    names: list[str] = until(found, bool)
    return names[0]
